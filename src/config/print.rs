//! What was loaded, and how `cosgate check-config` prints it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::error::{REDACTED, printable};
use super::keys::{Kind, table};
use super::reader::Setting;
use super::{Config, User};

/// A configuration that is fit for use, and what is to be said about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What works, but probably not as its author thinks; one sentence each.
    pub warnings: Vec<String>,
    pub(super) settings: BTreeMap<&'static str, Setting>,
}

impl Loaded {
    /// Every key as `key = value  # origin`, with secrets as `***`.
    pub fn describe(&self) -> String {
        let mut lines = Vec::new();
        for key in table().iter().filter(|key| !key.path.contains("[]")) {
            let setting = self.settings.get(key.path);
            let value = setting
                .and_then(|setting| setting.value.as_deref())
                .unwrap_or("(not set)");
            let origin = setting.map_or("", |setting| setting.origin.as_str());
            lines.push((format!("{} = {value}", key.path), origin));
            if key.kind == Kind::Sections {
                let users = self.config.users.iter().enumerate().flat_map(user_lines);
                lines.extend(users.map(|line| (line, "")));
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

/// The lines of one user; where they come from stands beside `users`.
fn user_lines((index, user): (usize, &User)) -> [String; 4] {
    [
        format!("users[{index}].name = {}", printable(&user.name)),
        format!("users[{index}].password_hash = {REDACTED}"),
        format!("users[{index}].home = {}", printable(&user.home)),
        format!("users[{index}].permissions = {}", user.permissions),
    ]
}

const MAX_COLUMN: usize = 60;
