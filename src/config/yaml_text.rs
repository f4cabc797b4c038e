//! Strings as YAML, for the files that `cosgate init` and `cosgate import` write.

use std::fmt::Write as _;

/// A value of YAML, with quotes where it might be read as something else.
pub(crate) fn scalar(text: &str) -> String {
    let starts_plain = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte));
    let is_word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
        .contains(&text.to_ascii_lowercase().as_str());
    let is_number = !text.is_empty()
        && text.len() < 10
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && !text.starts_with('0');
    if is_number || starts_plain && is_plain && !is_word {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// A string that JSON, YAML and a shell's single quotes take alike: ASCII, and no single quote.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' if c != '\'' => out.push(c),
            c if u32::from(c) > 0xffff => {
                // YAML has these in one piece; JSON would want two
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
            c => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}
