//! Names that FTP can't carry: control characters of a key are percent-encoded in the name that a client sees.
//!
//! A line break would forge lines of a listing, and no client sends one. `a<LF>b` is shown as `a%0Ab`, and a client reaches
//! the object under that name. A key that really has `%0A` in it is shown as `a%250Ab`, so that each name stands for one
//! key; any other `%` means itself.
//!
//! Invariant: `unescape(escape(key)) == key`, and `escape` leaves no control character.

use std::borrow::Cow;
use std::fmt::Write;

/// The name that stands for a key, or for a part of one.
pub fn escape(key: &str) -> Cow<'_, str> {
    escape_where(key, char::is_control)
}

/// The key, or the part of one, that a name stands for.
pub fn unescape(name: &str) -> Cow<'_, str> {
    unescape_where(name, char::is_control)
}

/// `text` with a code in place of each character that `needs` one, as [`escape`] for control characters. `%` itself must
/// need none.
pub fn escape_where(text: &str, needs: impl Fn(char) -> bool + Copy) -> Cow<'_, str> {
    let is_plain = |(at, c): (usize, char)| !needs(c) && code_at(&text[at..], needs).is_none();
    if text.char_indices().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for (at, c) in text.char_indices() {
        if needs(c) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // writing to a String can't fail
                let _ = write!(escaped, "%{byte:02X}");
            }
        } else if code_at(&text[at..], needs).is_some() {
            escaped.push_str("%25");
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// The text of which [`escape_where`] with the same `needs` has made `text`.
pub fn unescape_where(text: &str, needs: impl Fn(char) -> bool + Copy) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut unescaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (c, length) = match code_at(rest, needs) {
            Some(Code::Char(c, length)) => (c, length),
            Some(Code::Percent) => ('%', "%25".len()),
            None => (first, first.len_utf8()),
        };
        unescaped.push(c);
        rest = &rest[length..];
    }
    Cow::Owned(unescaped)
}

/// The beginning of a text that is more than it seems.
enum Code {
    /// The code of a character that needs one, and the code's bytes.
    Char(char, usize),
    /// `%25` before the rest of a code: that code, once more escaped.
    Percent,
}

/// `%`, any number of `25`, and the code of a character that needs one.
fn code_at(text: &str, needs: impl Fn(char) -> bool) -> Option<Code> {
    let mut rest = text.strip_prefix('%')?;
    let is_escaped = rest.starts_with("25");
    while let Some(more) = rest.strip_prefix("25") {
        rest = more;
    }
    let (c, length) = char_at(rest).filter(|(c, _)| needs(*c))?;
    match is_escaped {
        true => Some(Code::Percent),
        false => Some(Code::Char(c, 1 + length)),
    }
}

/// A character by the hexadecimal digits of its bytes in UTF-8, with capital letters and `%` between the bytes, as
/// [`escape`] writes them: `0A`, `C2%85`; and the code's bytes.
fn char_at(text: &str) -> Option<(char, usize)> {
    let byte = |at: usize| {
        let digits = text.get(at..at + 2)?;
        let is_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'A'..=b'F');
        let is_byte = digits.bytes().all(is_hex);
        is_byte.then(|| u8::from_str_radix(digits, 16).ok())?
    };
    let first = byte(0)?;
    let length = match first {
        0..=0x7F => 1,
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return None,
    };
    let mut bytes = [first, 0, 0, 0];
    for (index, place) in bytes[..length].iter_mut().enumerate().skip(1) {
        let at = 3 * index;
        if text.get(at - 1..at) != Some("%") {
            return None;
        }
        *place = byte(at)?;
    }
    let c = std::str::from_utf8(&bytes[..length]).ok()?.chars().next()?;
    Some((c, 3 * length - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_what_looks_like_an_escape_too() {
        for (key, name) in [
            ("plain ü", "plain ü"),
            ("100%", "100%"),
            ("a%20b%2Fc%e9", "a%20b%2Fc%e9"),
            ("a\nb", "a%0Ab"),
            ("\u{7f}\u{1b}[0m", "%7F%1B[0m"),
            ("\u{85}", "%C2%85"),
            ("a%0Ab", "a%250Ab"),
            ("a%250Ab", "a%25250Ab"),
            ("%C2%85", "%25C2%85"),
            // small letters are none of ours, nor is a code that stands for what needs none
            ("a%0ab%41%25", "a%0ab%41%25"),
            ("%25%0A", "%25%250A"),
            ("%%0A", "%%250A"),
            ("%\n", "%%0A"),
        ] {
            assert_eq!(escape(key), name, "{key:?}");
            assert_eq!(unescape(name), key, "{name:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_key_has_a_name_of_its_own(key in "([%025ACF8\n\r\u{1b}\u{7f}\u{85}aé]|%0A|%25|%C2%85){0,12}") {
            let name = escape(&key);
            proptest::prop_assert!(!name.chars().any(char::is_control));
            let back = unescape(&name).into_owned();
            proptest::prop_assert_eq!(back, key);
        }

        #[test]
        fn a_name_without_control_characters_is_that_of_the_key_it_leads_to(name in "([%025ACF8aé]|%0A|%25|%C2%85){0,12}") {
            let key = unescape(&name).into_owned();
            let back = escape(&key).into_owned();
            proptest::prop_assert_eq!(back, name);
        }
    }
}
