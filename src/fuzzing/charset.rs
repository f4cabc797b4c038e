//! Names in encodings of before RFC 2640.

use super::input::choice;
use crate::charset::Charset;
use crate::ftp::encoding::{NameEncoding, Shown};

/// One of each kind.
const LABELS: [&str; 12] = [
    "utf-8",
    "gbk",
    "gb18030",
    "big5",
    "shift_jis",
    "euc-jp",
    "euc-kr",
    "latin1",
    "iso-8859-15",
    "koi8-u",
    "windows-1251",
    "windows-1254",
];

/// The first byte chooses the charset, the rest is a name, in the charset and in UTF-8.
///
/// - A name that a client was shown leads back to the name, also in parts.
/// - What a client sends is found again by what it is shown.
/// - No byte of a character is taken for a line's end, a slash, a space or a quote.
/// - A session's guess between UTF-8 and the charset is one of the two.
pub fn charset(input: &[u8]) {
    let (choice, bytes) = choice(input);
    let charset = Charset::named(LABELS[choice % LABELS.len()]).expect("a charset");
    let read = |bytes: &[u8]| Some(charset.unescape(&charset.decode(bytes)?).into_owned());
    if let Ok(name) = std::str::from_utf8(bytes)
        && !name.chars().any(char::is_control)
    {
        let shown = charset.encode(name);
        assert_eq!(read(&shown).as_deref(), Some(name));
        let parts: Vec<_> = name.split('/').map(|part| charset.encode(part)).collect();
        assert_eq!(parts.join(&b'/'), *shown, "in parts");
        for parting in *b"\r\n/ \"" {
            let of = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == parting).count();
            assert_eq!(of(&shown), of(name.as_bytes()), "{parting}");
        }
    }
    if let Some(name) = read(bytes)
        && !name.chars().any(char::is_control)
    {
        assert_eq!(read(&charset.encode(&name)), Some(name));
    }
    sessions_guess(charset, choice / LABELS.len(), bytes);
}

fn sessions_guess(charset: Charset, before: usize, bytes: &[u8]) {
    let mut encoding = NameEncoding::new(charset);
    if !before.is_multiple_of(3) {
        encoding.announce(before % 3 == 1);
    }
    let mut shown = Shown::default();
    if before >= 6 {
        shown.note(bytes);
    }
    let other = charset.decode(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let guess = encoding.text(text.to_owned(), &shown);
            assert!(guess == text || Some(guess) == other);
        }
        Err(_) => match encoding.legacy(bytes) {
            Ok(guess) => assert_eq!(Some(guess), other),
            Err(reply) => assert_eq!(
                (reply.code, other.is_none() || charset.is_utf8()),
                (501, true)
            ),
        },
    }
}
