//! The loaded configuration, and how `cosgate check-config` prints it.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::reader::Setting;
use super::sections::{Config, group_lines, sink_lines, table, user_lines};

/// A configuration that is fit for use, and what is to be said about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Settings that work, but probably not as its author thinks; one sentence each.
    pub warnings: Vec<String>,
    pub(super) settings: HashMap<&'static str, Setting>,
}

impl Loaded {
    /// Every key as `key = value  # origin`, with secrets as `***`.
    pub fn describe(&self) -> String {
        let mut lines = Vec::new();
        for key in table().rows().iter().filter(|key| !key.path.contains("[]")) {
            let setting = self.settings.get(key.path);
            let value = setting
                .and_then(|setting| setting.value.as_deref())
                .unwrap_or("(not set)");
            let origin = setting.map_or("", |setting| setting.origin.as_str());
            lines.push((format!("{} = {value}", key.path), origin));
            let users = match key.path {
                "users" => self.config.users.as_slice(),
                "users_file" => self
                    .config
                    .users_file
                    .as_ref()
                    .map_or(&[][..], |file| &file.users),
                _ => &[],
            };
            if key.path == "events.sinks" {
                let sinks = self.config.events.sinks.iter().enumerate();
                let of_sinks = sinks.flat_map(|(index, sink)| sink_lines(key.path, index, sink));
                lines.extend(of_sinks.map(|line| (line, "")));
            }
            if key.path == "auth.ldap.groups"
                && let Some(ldap) = &self.config.auth.ldap
            {
                let groups = ldap.groups.iter().enumerate();
                let of_groups =
                    groups.flat_map(|(index, group)| group_lines(key.path, index, group));
                lines.extend(of_groups.map(|line| (line, "")));
            }
            for (index, user) in users.iter().enumerate() {
                let of_user = user_lines(key.path, index, user);
                lines.extend(of_user.into_iter().map(|line| (line, "")));
            }
        }
        // Long values stand out of the column instead of moving it away from all the others.
        let widths = lines.iter().map(|(line, _)| line.chars().count());
        let width = widths
            .filter(|width| *width <= MAX_COLUMN)
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for (line, origin) in lines {
            // Writing to a String cannot fail.
            let _ = match origin {
                "" => writeln!(text, "{line}"),
                origin => writeln!(text, "{line:width$}  # {origin}"),
            };
        }
        text
    }
}

/// Origins stand in one column unless a value is longer, so that the lines fit a terminal.
const MAX_COLUMN: usize = 60;
