//! `[NETWORK]`, `[FILE_OPTION]` and `[OPTIONAL]`: what holds for all accounts.

use std::net::Ipv4Addr;

use super::fields::Fields;
use crate::config::printable;
use crate::config::{self, parse};

/// The rules for all accounts; none where the file says nothing.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub masquerade_address: Option<String>,
    pub listen_port: Option<u16>,
    pub passive_ports: Option<(u16, u16)>,
    pub max_file_bytes: Option<u64>,
    pub min_part_bytes: Option<u64>,
    pub upload_threads: Option<u64>,
    pub max_connections: Option<u64>,
    pub log_level: Option<&'static str>,
    /// Keys without counterpart, as they stand in the file.
    pub without_counterpart: Vec<(String, String)>,
}

/// Reads a section of options; false if there is none of this name.
pub(super) fn read(fields: &mut Fields<'_, '_>, options: &mut Options) -> bool {
    match fields.section.name.as_str() {
        "NETWORK" => network(fields, options),
        "FILE_OPTION" => keep(
            &mut options.max_file_bytes,
            fields.optional("single_file_max_size", unless_default(bytes)),
        ),
        "OPTIONAL" => optional(fields, options),
        _ => return false,
    }
    true
}

fn network(fields: &mut Fields<'_, '_>, options: &mut Options) {
    // the earlier releases' names for it, and the present one's, which counts
    for key in ["pasv_address", "passive_address", "masquerade_address"] {
        let given = fields.optional(key, |text| match text.parse::<Ipv4Addr>() {
            Ok(_) => config::masquerade_address(text).map(|address| address.to_string()),
            Err(_) => {
                Err("write the IPv4 address that clients connect to, or remove the key".to_owned())
            }
        });
        if given.is_some() {
            options.masquerade_address = given;
        }
    }
    keep(
        &mut options.listen_port,
        fields.optional("listen_port", unless_default(port)),
    );
    // the old program read the first; its guide called it the second for some time
    for key in ["passive_ports", "passive_port"] {
        keep(
            &mut options.passive_ports,
            fields.optional(key, unless_default(ports)),
        );
    }
}

fn optional(fields: &mut Fields<'_, '_>, options: &mut Options) {
    keep(
        &mut options.min_part_bytes,
        fields.optional("min_part_size", unless_default(bytes)),
    );
    let threads = |text: &str| parse::count(text, 1, 1_000_000);
    keep(
        &mut options.upload_threads,
        fields.optional("upload_thread_num", unless_default(threads)),
    );
    // 0 was for as many as come; cosgate's own limit holds then
    let connections = |text: &str| match text {
        "0" => Ok(None),
        _ => unless_default(|text| parse::count(text, 1, 100_000_000))(text),
    };
    keep(
        &mut options.max_connections,
        fields.optional("max_connection_num", connections),
    );
    keep(
        &mut options.log_level,
        fields.optional("log_level", unless_default(level)),
    );
    for key in WITHOUT_COUNTERPART {
        if let Some(entry) = fields.entry(key) {
            options
                .without_counterpart
                .push((key.to_owned(), printable(&entry.value)));
        }
    }
}

/// `default`, which the guide recommends to leave, sets nothing.
fn unless_default<T>(
    parse: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| match text.eq_ignore_ascii_case("default") {
        true => Ok(None),
        false => parse(text).map(Some),
    }
}

/// A section may stand there twice: what it says the second time counts, what it does not say stays.
fn keep<T>(option: &mut Option<T>, given: Option<Option<T>>) {
    if let Some(given) = given.flatten() {
        *option = Some(given);
    }
}

/// `true` for words that Python's users write for it.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("write a port from 1 to 65535".to_owned()),
    }
}

/// `60000,65535`; one port alone is the first of all up to the last that there is.
fn ports(text: &str) -> Result<(u16, u16), String> {
    const WANTED: &str = "write the first and the last port, such as 60000,65535";
    let Some((from, to)) = text.split_once([',', '-']) else {
        return port(text)
            .map(|from| (from, u16::MAX))
            .map_err(|_| WANTED.to_owned());
    };
    match (port(from.trim())?, port(to.trim())?) {
        (from, to) if from <= to => Ok((from, to)),
        _ => Err(format!("the range is the wrong way round; {WANTED}")),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("write a number of bytes, such as 214748364800".to_owned()),
    }
}

fn level(text: &str) -> Result<&'static str, String> {
    match text.to_ascii_uppercase().as_str() {
        "DEBUG" | "NOTSET" => Ok("debug"),
        "INFO" => Ok("info"),
        "WARN" | "WARNING" => Ok("warn"),
        "ERROR" | "CRITICAL" | "FATAL" => Ok("error"),
        _ => Err("write DEBUG, INFO, WARNING or ERROR".to_owned()),
    }
}

const WITHOUT_COUNTERPART: [&str; 6] = [
    "config_check_enable",
    "max_list_file",
    "log_dir",
    "log_rotate_enabled",
    "log_rotate_when",
    "log_backup_count",
];
