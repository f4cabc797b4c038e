//! Properties of what reads a stranger's bytes: one function per target, for cargo-fuzz (`fuzz/`) and for proptest and the corpus in CI.
//!
//! Each function takes any bytes and panics if a property does not hold. Compiled for tests and by cargo-fuzz only.

mod charset;
mod command;
mod configuration;
mod control_line;
mod import;
mod input;
mod listing;
mod names;
mod proxy_header;

#[cfg(test)]
mod tests;

pub use charset::charset;
pub use command::command;
pub use configuration::configuration;
pub use control_line::control_line;
pub use import::import;
pub use listing::listing;
pub use names::names;
pub use proxy_header::proxy_header;

/// One target: panics on an input that breaks a promise.
pub type Target = fn(&[u8]);

/// The targets by the names that they have in `fuzz/`.
pub const TARGETS: [(&str, Target); 8] = [
    ("charset", charset),
    ("command", command),
    ("configuration", configuration),
    ("control_line", control_line),
    ("import", import),
    ("listing", listing),
    ("names", names),
    ("proxy_header", proxy_header),
];
