//! What was loaded, and how `cosgate check-config` prints it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::error::{REDACTED, printable};
use super::keys::table;
use super::parse::size_text;
use super::reader::Setting;
use super::{Ascii, Config, EventSink, User};

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

/// The lines of one sink of events.
fn sink_lines(list: &str, index: usize, sink: &EventSink) -> Vec<String> {
    let types: Vec<&str> = sink.types.iter().map(|kind| kind.word()).collect();
    let mut keys = vec![
        ("name", printable(&sink.name)),
        ("url", printable(&sink.url)),
        ("types", types.join(", ")),
    ];
    if sink.is_nats() {
        keys.push(("subject", printable(&sink.subject)));
    }
    if sink.token.is_some() {
        keys.push(("token", REDACTED.to_string()));
    }
    if let Some(file) = &sink.ca_file {
        keys.push(("ca_file", printable(&file.display().to_string())));
    }
    if !sink.keys.is_empty() {
        let patterns: Vec<String> = sink
            .keys
            .iter()
            .map(|one| printable(&one.to_string()))
            .collect();
        keys.push(("keys", patterns.join(", ")));
    }
    keys.into_iter()
        .map(|(key, value)| format!("{list}[{index}].{key} = {value}"))
        .collect()
}

/// The lines of one user, with what is set; where they come from stands beside `users` or `users_file`.
fn user_lines(list: &str, index: usize, user: &User) -> Vec<String> {
    let mut keys = vec![("name", printable(&user.name))];
    if user.password_hash.is_some() {
        keys.push(("password_hash", REDACTED.to_string()));
    }
    keys.push(("home", printable(&user.home)));
    keys.push(("permissions", user.permissions.to_string()));
    keys.extend(user.bucket.iter().map(|name| ("bucket", printable(name))));
    if let Some(site) = &user.site {
        keys.push(("region", printable(&site.region)));
        keys.extend(site.endpoint.iter().map(|url| ("endpoint", printable(url))));
    }
    if let Some(credentials) = &user.credentials {
        keys.push(("access_key_id", REDACTED.to_string()));
        keys.push(("secret_access_key", REDACTED.to_string()));
        if credentials.session_token.is_some() {
            keys.push(("session_token", REDACTED.to_string()));
        }
    }
    if !user.allow_from.is_empty() {
        let networks: Vec<String> = user.allow_from.iter().map(ToString::to_string).collect();
        keys.push(("allow_from", networks.join(", ")));
    }
    keys.extend(
        user.max_sessions
            .map(|count| ("max_sessions", count.to_string())),
    );
    keys.extend(
        user.max_file_size
            .map(|bytes| ("max_file_size", size_text(bytes))),
    );
    keys.extend(user.ascii.map(|ascii| {
        let text = match ascii {
            Ascii::Convert => "convert",
            Ascii::AsIs => "as_is",
        };
        ("ascii", text.to_string())
    }));
    keys.extend(
        user.charset
            .map(|charset| ("charset", charset.name().to_lowercase())),
    );
    if user.require_tls {
        keys.push(("require_tls", "true".to_string()));
    }
    keys.extend(
        user.require_close_notify
            .map(|required| ("require_close_notify", required.to_string())),
    );
    keys.extend(
        user.client_cert_cn
            .iter()
            .map(|name| ("client_cert_cn", printable(name))),
    );
    let lines = keys.into_iter();
    lines
        .map(|(key, value)| format!("{list}[{index}].{key} = {value}"))
        .collect()
}

const MAX_COLUMN: usize = 60;
