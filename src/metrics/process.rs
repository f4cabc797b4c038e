//! The kernel's figures of this process (proc(5)), by the names that every Prometheus client library uses, and the runtime's.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};

use super::reading::Reading;
use super::{PROCESS_CPU, PROCESS_FDS, PROCESS_MAX_FDS, PROCESS_MEMORY, PROCESS_START, TASKS};

/// Reads /proc; what can't be read has no value.
pub(crate) fn readings() -> Vec<Reading> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // the second field is the program's name in brackets, which may hold anything
    let fields: Vec<f64> = stat.rsplit_once(") ").map_or_else(Vec::new, |(_, rest)| {
        let numbers = rest.split(' ').map(|field| field.trim().parse());
        numbers.map(|number| number.unwrap_or(0.0)).collect()
    });
    // proc_pid_stat(5) counts from 1, and the third field is the first here
    let field = |number: usize| fields.get(number - 3).copied();
    let ticks = clock_ticks_per_second() as f64;
    let cpu = field(14)
        .zip(field(15))
        .map(|(user, sys)| (user + sys) / ticks);
    let start = boot_time()
        .zip(field(22))
        .map(|(b, start)| b + start / ticks);
    let memory = field(24).map(|pages| pages * page_size() as f64);
    let fds = fs::read_dir("/proc/self/fd").map(|fds| fds.count() as f64);
    let runtime = tokio::runtime::Handle::try_current();
    let tasks = runtime.map(|runtime| runtime.metrics().num_alive_tasks() as f64);
    [
        (TASKS, tasks.ok()),
        (PROCESS_CPU, cpu),
        (PROCESS_MEMORY, memory),
        // reading the directory takes one
        (PROCESS_FDS, fds.ok().map(|fds| fds - 1.0)),
        (PROCESS_MAX_FDS, max_fds()),
        (PROCESS_START, start),
    ]
    .into_iter()
    .filter_map(|(metric, value)| Some(Reading::of(metric, value?)))
    .collect()
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// The number of file descriptors that this process may have.
fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        soft => soft.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_reports_everything_about_this_process() {
        let waiting = tokio::spawn(std::future::pending::<()>());
        let value = |metric| {
            let found = readings().into_iter().find(|found| found.metric == metric);
            found.expect("it is read").samples[0].1
        };
        let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
        let age = now.as_secs_f64() - value(PROCESS_START);
        assert!((-1.0..86_400.0).contains(&age), "started {age} s ago");
        assert!((1e6..1e11).contains(&value(PROCESS_MEMORY)));
        assert!((3.0..=value(PROCESS_MAX_FDS)).contains(&value(PROCESS_FDS)));
        assert!(value(PROCESS_CPU) >= 0.0);
        assert_eq!(value(TASKS), 1.0);
        waiting.abort();
    }
}
