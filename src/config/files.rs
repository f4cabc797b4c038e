//! How files look to clients: `ascii`.

use super::parse::Parsed;

/// What `TYPE A` does to the bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ascii {
    /// Lines end in CR LF on the wire and in LF in the store (RFC 959, section 3.1.1.1).
    Convert,
    /// Nothing.
    AsIs,
}

pub(super) fn ascii(text: &str) -> Parsed<Ascii> {
    match text {
        "convert" => Ok(Ascii::Convert),
        "as_is" => Ok(Ascii::AsIs),
        _ => Err("write convert or as_is".into()),
    }
}
