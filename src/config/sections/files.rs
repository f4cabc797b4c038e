//! Files as clients see them: `ascii`, `charset`, `listing.times`.

use strum::{Display, EnumString, VariantNames};

use crate::charset::Charset;
use crate::config::keys::row::*;
use crate::config::parse::Parsed;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("ascii", Choice(Ascii::VARIANTS), Is("convert"),
        "What `TYPE A` does: `convert` line ends (CR LF on the wire, LF in the store), or leave files `as_is`. Without a TYPE files are never changed."),
    key("charset", Text, Is("utf-8"),
        "What names, user names and passwords are in that are not UTF-8, and what clients get that don't say `OPTS UTF8 ON`, such as `gbk`; keys in the store are UTF-8."),
    key("listing.times", Choice(Times::VARIANTS), Is("store"),
        "Which times MLSD and LIST give: the store's own, or those that clients set with `MFMT`, which `FEAT` then announces, at the price of a HEAD for each file of a directory that has changed. `rclone sync` that keeps times needs `metadata`."),
];

/// The effect of `TYPE A` to the bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "snake_case")]
pub enum Ascii {
    /// Lines end in CR LF on the wire and in LF in the store (RFC 959, section 3.1.1.1).
    Convert,
    /// Nothing.
    AsIs,
}

/// Which times listings give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Times {
    /// The store's own, which cost no request. `MFMT` works, and is not announced: a client that compares the times of a listing
    /// with those that it set would find others.
    Store,
    /// Those that clients set, as MDTM gives them.
    Metadata,
}

pub(super) fn charset(text: &str) -> Parsed<Charset> {
    Charset::named(text).ok_or_else(|| {
        "write utf-8, gbk, gb18030, big5, shift_jis, euc-jp, euc-kr, iso-8859-1 to -16, windows-1250 to -1258, koi8-r or koi8-u"
            .into()
    })
}
