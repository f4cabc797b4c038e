//! `log.*`: log output.

use std::io::IsTerminal as _;

use strum::{Display, EnumString, VariantNames};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed};
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("log.format", Choice(LogFormat::VARIANTS), Derived("`text` on a terminal, else `json`"),
        "Form of a log line."),
    key("log.level", Text, Is("info"),
        "Log filter: `error`, `warn`, `info`, `debug`, `trace` or `off`, also per module, such as `info,cosgate=debug`; a change in the file takes effect at once."),
];

/// Log output.
#[derive(Debug, Clone)]
pub struct Log {
    /// Form of a line.
    pub format: LogFormat,
    /// A filter that `tracing_subscriber::EnvFilter` takes, such as `info` or `cosgate=debug`.
    pub level: String,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Reads the section.
pub(super) fn resolve(read: &mut Reader) -> Log {
    let format = read
        .optional("log.format", parse::choice)
        .unwrap_or_else(|| {
            let is_terminal = std::io::stdout().is_terminal();
            let format = if is_terminal {
                LogFormat::Text
            } else {
                LogFormat::Json
            };
            if read.is_valid("log.format") {
                read.record_effective("log.format", &format.to_string());
            }
            format
        });
    Log {
        format,
        level: read.value("log.level", log_level),
    }
}

/// A filter that `EnvFilter` takes.
fn log_level(text: &str) -> Parsed<String> {
    const WANTED: &str =
        "write error, warn, info, debug, trace or off, also per module as in info,cosgate=debug";
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    // EnvFilter takes the slip `inof` for the name of a module, and then logs nothing at all.
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let is_directive = |word: &str| word.contains(['=', '[', ']', '{', '}']);
    // EnvFilter does not expect the spaces that people put after commas.
    let filter = words.join(",");
    if words
        .iter()
        .all(|word| is_level(word) || is_directive(word))
        && EnvFilter::try_new(&filter).is_ok()
    {
        Ok(filter)
    } else {
        Err(format!("this is no log filter; {WANTED}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_filter_with_a_slip_is_refused() {
        for text in [
            "info",
            "DEBUG",
            "off",
            "info,cosgate=debug",
            "cosgate::store=trace",
            "warn, cosgate[upload]=debug",
        ] {
            assert!(log_level(text).is_ok(), "{text}");
        }
        for text in ["inof", "cosgate=loud", "", "info,", "info,cosgate", "[["] {
            assert!(log_level(text).is_err(), "{text}");
        }
    }
}
