//! How the C library's allocator gives memory back.
//!
//! glibc takes large blocks from the kernel and returns them, but "large" grows: after the first free of a block of 400 KiB,
//! blocks of that size stay in its heaps, and what 400 slow downloads needed at once (200 MiB) stays with the process for
//! good. A fixed threshold ends that (mallopt(3), `M_MMAP_THRESHOLD`). Without unsafe code it can only be set by the
//! environment, which glibc reads when a program starts; so the program starts itself once more, as the same process.

/// The threshold in bytes, glibc's own first one.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const THRESHOLD: &str = "131072";

/// Set for the second start: glibc removes its own variables from the environment of programs with file capabilities.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const STARTED: &str = "MALLOC_SETTLED";

/// Starts the program once more with a fixed threshold, unless the environment says something about the allocator. Comes
/// back if there is nothing to do, or the program can't be started; then memory returns more slowly.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn settle() {
    use std::os::unix::process::CommandExt;

    let known = ["MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", STARTED];
    if known.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let _error = command
        .args(arguments)
        .env("MALLOC_MMAP_THRESHOLD_", THRESHOLD)
        .env(STARTED, "1")
        .exec();
}

/// Other C libraries return large blocks anyway.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn settle() {}
