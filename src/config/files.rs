//! How files look to clients: `ascii`, `charset`, `listing.times`.

use super::parse::Parsed;
use crate::charset::Charset;

/// What `TYPE A` does to the bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ascii {
    /// Lines end in CR LF on the wire and in LF in the store (RFC 959, section 3.1.1.1).
    Convert,
    /// Nothing.
    AsIs,
}

/// Which times listings give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The store's own, which cost no request. `MFMT` works, and is not announced: a client that compares the times of a listing
    /// with those that it set would find others.
    Store,
    /// Those that clients set, as MDTM gives them.
    Metadata,
}

pub(super) fn times(text: &str) -> Parsed<Times> {
    match text {
        "store" => Ok(Times::Store),
        "metadata" => Ok(Times::Metadata),
        _ => Err("write store or metadata".into()),
    }
}

pub(super) fn ascii(text: &str) -> Parsed<Ascii> {
    match text {
        "convert" => Ok(Ascii::Convert),
        "as_is" => Ok(Ascii::AsIs),
        _ => Err("write convert or as_is".into()),
    }
}

pub(super) fn charset(text: &str) -> Parsed<Charset> {
    Charset::named(text).ok_or_else(|| {
        "write utf-8, gbk, gb18030, big5, shift_jis, euc-jp, euc-kr, iso-8859-1 to -16, windows-1250 to -1258, koi8-r or koi8-u"
            .into()
    })
}
