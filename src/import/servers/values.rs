//! The values of keys, checked.

use crate::config;

pub(super) fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("write a port from 1 to 65535".to_owned()),
    }
}

pub(super) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "write a whole number".to_owned())
}

pub(super) fn ip(text: &str) -> Result<String, String> {
    text.parse::<std::net::IpAddr>()
        .map(|address| address.to_string())
        .map_err(|_| "write an IP address".to_owned())
}

pub(super) fn masquerade(text: &str) -> Result<String, String> {
    config::masquerade_address(text).map(|_| text.to_owned())
}

pub(super) fn greeting(text: &str) -> Result<String, String> {
    config::greeting(text.trim_matches('"'))
}

pub(super) fn absolute(text: &str) -> Result<String, String> {
    let text = text.trim_matches('"');
    match text.starts_with('/') && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err("write an absolute path".to_owned()),
    }
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err("write yes or no".to_owned()),
    }
}

/// `FROM TO`.
pub(super) fn two_ports(text: &str) -> Result<(u16, u16), String> {
    const WANTED: &str = "write the first and the last port, such as 30000 30015";
    let (from, to) = text.split_once(char::is_whitespace).ok_or(WANTED)?;
    match (port(from)?, port(to.trim())?) {
        (from, to) if from <= to => Ok((from, to)),
        _ => Err(format!("the range is the wrong way round; {WANTED}")),
    }
}
