//! Encodings of names that are not UTF-8: what FTP clients from before RFC 2640 send, and what they can read.
//!
//! Keys in the store are always UTF-8. A [`Charset`] decodes what a client sends, and encodes what it gets. What the charset
//! lacks is written as [codes](crate::escape) of its bytes in UTF-8, so that a client can send the name back:
//! `中.txt` is `%E4%B8%AD.txt` in Latin-1. A real name that looks like this gets one more `25`, so that each spelling stands
//! for one name. Control characters have codes of their own in paths, which these leave alone.
//!
//! Text can be cut into names before or after decoding: in each of these encodings a byte below 0x30 stands for itself, also
//! behind a lead byte, so that no part of a character is taken for `/`, a space, a quote or a line's end. 0x5C and 0x7C do
//! occur as second bytes (Shift_JIS, GBK, Big5).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use encoding_rs::{
    BIG5, DecoderResult, EncoderResult, Encoding, REPLACEMENT, UTF_8, X_USER_DEFINED,
};

use crate::escape::{escape_where, unescape_where};

/// An encoding that has ASCII in it; UTF-8 is one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Charset(&'static Encoding);

/// Bytes of the longest character in any of the encodings, and in UTF-8.
const LONGEST: usize = 4;

impl Charset {
    /// UTF-8, in which there is nothing to convert.
    pub const UTF_8: Charset = Charset(UTF_8);

    /// The charset of a label of the Encoding Standard (<https://encoding.spec.whatwg.org/#names-and-labels>) in any case:
    /// `gbk`, `shift_jis`, `iso-8859-1` (which is windows-1252 there); or of what Windows calls its code pages. `None` if
    /// there is none, or if it isn't a superset of ASCII (`utf-16`, `iso-2022-jp`).
    pub fn named(label: &str) -> Option<Self> {
        let label = match label.to_ascii_lowercase().as_str() {
            "cp932" => "shift_jis",
            "cp936" => "gbk",
            "cp949" => "euc-kr",
            "cp950" => "big5",
            "latin-1" => "latin1",
            _ => label,
        };
        let encoding = Encoding::for_label_no_replacement(label.as_bytes())?;
        let is_fit =
            encoding.is_ascii_compatible() && encoding != REPLACEMENT && encoding != X_USER_DEFINED;
        is_fit.then_some(Charset(encoding))
    }

    /// Its name in the standard, such as `GBK`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// True for UTF-8.
    pub fn is_utf8(self) -> bool {
        self.0 == UTF_8
    }

    /// True if each byte is a character.
    pub fn is_single_byte(self) -> bool {
        self.0.is_single_byte()
    }

    /// The text of `bytes`; `None` if they are not of this charset.
    pub fn decode(self, bytes: &[u8]) -> Option<String> {
        let text = self
            .0
            .decode_without_bom_handling_and_without_replacement(bytes)?;
        Some(text.into_owned())
    }

    /// `text` for a client, with a code for what the charset lacks. `text` may have several names in it, and words of ours
    /// between them. A control character beyond ASCII that the charset lacks becomes `?`.
    pub fn encode(self, text: &str) -> Cow<'_, [u8]> {
        if self.is_utf8() {
            return Cow::Borrowed(text.as_bytes());
        }
        let escaped = escape_where(text, |c| self.lacks(c));
        if escaped.is_ascii() {
            return match escaped {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            };
        }
        let mut bytes = Vec::with_capacity(escaped.len());
        for c in escaped.chars() {
            match self.code(c) {
                Some((code, length)) => bytes.extend_from_slice(&code[..length]),
                None => bytes.push(b'?'),
            }
        }
        Cow::Owned(bytes)
    }

    /// The name that a client means who has got it by [`Self::encode`]; the other half of that is [`Self::decode`].
    pub fn unescape(self, name: &str) -> Cow<'_, str> {
        if self.is_utf8() {
            return Cow::Borrowed(name);
        }
        unescape_where(name, |c| self.lacks(c))
    }

    /// True if `c` is one of the characters that the charset is made for: not the rest of Unicode, which GB18030 has in codes
    /// of four bytes.
    pub fn is_native(self, c: char) -> bool {
        self.code(c).is_some_and(|(_, length)| length <= 2)
    }

    /// True if `c` has to be written as a code.
    fn lacks(self, c: char) -> bool {
        !c.is_ascii() && !c.is_control() && self.code(c).is_none()
    }

    /// The bytes of a character, and how many they are; `None` if the charset lacks it, or if they would be read as
    /// another one: Shift_JIS has an encoder, but no decoder, for `¥`.
    fn code(self, c: char) -> Option<([u8; LONGEST], usize)> {
        let mut code = [0; LONGEST];
        if c.is_ascii() {
            code[0] = c as u8;
            return Some((code, 1));
        }
        let mut utf8 = [0; LONGEST];
        let utf8 = c.encode_utf8(&mut utf8);
        let mut encoder = self.0.new_encoder();
        let (result, _, length) =
            encoder.encode_from_utf8_without_replacement(utf8, &mut code, true);
        if result == EncoderResult::InputEmpty && self.is_code(&code[..length], utf8) {
            return Some((code, length));
        }
        if self.0 != BIG5 {
            return None;
        }
        let [lead, trail] = *hong_kong().get(&c)?;
        Some(([lead, trail, 0, 0], 2))
    }

    fn is_code(self, code: &[u8], utf8: &str) -> bool {
        // the decoder wants room for what it might write
        let mut decoded = [0; 4 * LONGEST];
        let mut decoder = self.0.new_decoder_without_bom_handling();
        let (result, _, length) =
            decoder.decode_to_utf8_without_replacement(code, &mut decoded, true);
        result == DecoderResult::InputEmpty && decoded[..length] == *utf8.as_bytes()
    }
}

/// The characters of HKSCS, Hong Kong's supplement to Big5, which the Encoding Standard decodes but doesn't encode.
fn hong_kong() -> &'static HashMap<char, [u8; 2]> {
    static CODES: OnceLock<HashMap<char, [u8; 2]>> = OnceLock::new();
    CODES.get_or_init(|| {
        let mut codes = HashMap::new();
        for lead in 0x87..=0xA0 {
            for trail in (0x40..=0x7E).chain(0xA1..=0xFE) {
                let code = [lead, trail];
                let decoded = BIG5.decode_without_bom_handling_and_without_replacement(&code);
                let mut chars = decoded.as_deref().unwrap_or_default().chars();
                // four codes are a letter with an accent of its own each
                if let (Some(c), None) = (chars.next(), chars.next()) {
                    codes.entry(c).or_insert(code);
                }
            }
        }
        codes
    })
}

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::escape::escape;

    /// One of each kind, and all that the README names.
    const LABELS: [&str; 14] = [
        "gbk",
        "gb18030",
        "gb2312",
        "big5",
        "shift_jis",
        "euc-jp",
        "euc-kr",
        "latin1",
        "iso-8859-2",
        "iso-8859-15",
        "koi8-r",
        "koi8-u",
        "windows-1251",
        "utf-8",
    ];

    fn charset(label: &str) -> Charset {
        Charset::named(label).expect("a charset")
    }

    fn decoded(charset: Charset, bytes: &[u8]) -> Option<String> {
        let text = charset.decode(bytes)?;
        Some(charset.unescape(&text).into_owned())
    }

    #[test]
    fn names_are_known_in_any_case_and_what_has_no_ascii_is_none() {
        for (label, name) in [
            ("GBK", "GBK"),
            ("gb2312", "GBK"),
            ("CP936", "GBK"),
            ("cp932", "Shift_JIS"),
            ("cp949", "EUC-KR"),
            ("cp950", "Big5"),
            ("latin-1", "windows-1252"),
            ("Shift_JIS", "Shift_JIS"),
            ("sjis", "Shift_JIS"),
            ("latin1", "windows-1252"),
            ("iso-8859-1", "windows-1252"),
            ("utf8", "UTF-8"),
            ("utf-16", ""),
            ("iso-2022-jp", ""),
            ("iso-2022-kr", ""),
            ("x-user-defined", ""),
            ("nonsense", ""),
            ("", ""),
        ] {
            let found = Charset::named(label).map_or("", Charset::name);
            assert_eq!(found, name, "{label:?}");
        }
    }

    #[test]
    fn names_have_the_bytes_that_devices_send() {
        for (label, name, bytes) in [
            ("gbk", "中文.txt", &b"\xd6\xd0\xce\xc4.txt"[..]),
            ("gb18030", "한.txt", b"\x83\x36\x84\x33.txt"),
            ("big5", "許功蓋", b"\xb3\x5c\xa5\x5c\xbb\x5c"),
            ("big5", "啲", b"\x9d\xf8"),
            ("shift_jis", "表ソ.txt", b"\x95\x5c\x83\x5c.txt"),
            ("shift_jis", "ﾃｽﾄ", b"\xc3\xbd\xc4"),
            ("euc-kr", "한글", b"\xc7\xd1\xb1\xdb"),
            ("latin1", "ÿé", b"\xff\xe9"),
            ("koi8-r", "Ъ", b"\xff"),
            ("windows-1251", "синяя", b"\xf1\xe8\xed\xff\xff"),
        ] {
            let charset = charset(label);
            assert_eq!(charset.encode(name), bytes, "{label} {name}");
            assert_eq!(
                charset.decode(bytes).as_deref(),
                Some(name),
                "{label} {name}"
            );
        }
    }

    #[test]
    fn what_is_lacking_has_a_code_and_what_looks_like_one_too() {
        for (label, name, text) in [
            ("latin1", "中é", "%E4%B8%ADé"),
            ("latin1", "%E4%B8%AD", "%25E4%B8%AD"),
            ("latin1", "%25E4%B8%AD", "%2525E4%B8%AD"),
            // no codes: what the charset has, small letters, what isn't UTF-8, control characters
            ("gbk", "%E4%B8%AD", "%E4%B8%AD"),
            ("latin1", "%e4%b8%ad %C3%A9 %41", "%e4%b8%ad %C3%A9 %41"),
            (
                "latin1",
                "%ED%A0%80%F5%80%80%80%E4%B8",
                "%ED%A0%80%F5%80%80%80%E4%B8",
            ),
            ("gbk", "%C2%85%0A100%", "%C2%85%0A100%"),
            ("shift_jis", "¥‾", "%C2%A5%E2%80%BE"),
            ("gbk", "😀", "%F0%9F%98%80"),
        ] {
            let charset = charset(label);
            let bytes = charset.encode(name);
            assert_eq!(
                charset.decode(&bytes).as_deref(),
                Some(text),
                "{label} {name}"
            );
            assert_eq!(charset.unescape(text), name, "{label} {text}");
        }
        assert_eq!(charset("gbk").encode("a\u{85}é"), &b"a?\xa8\xa6"[..]);
    }

    #[test]
    fn no_character_has_a_byte_in_it_that_parts_names_or_lines() {
        for label in LABELS {
            let charset = charset(label);
            for c in ('\u{80}'..='\u{ffff}').filter(|c| !c.is_control()) {
                if let Some((code, length)) = charset.code(c) {
                    let is_clean =
                        code[0] >= 0x80 && code[..length].iter().all(|byte| *byte >= 0x30);
                    assert!(is_clean, "{label}: {c:?} is {code:?}");
                }
            }
            // nor does the decoder take one for a character's second byte
            for lead in 0x80..=0xFF {
                for byte in 0..0x30u8 {
                    let text = charset.decode(&[lead, byte]);
                    assert!(
                        text.is_none_or(|text| text.ends_with(char::from(byte))),
                        "{label}: {lead} {byte}"
                    );
                }
            }
        }
    }

    fn label() -> impl Strategy<Value = Charset> {
        prop::sample::select(&LABELS[..]).prop_map(charset)
    }

    proptest! {
        #[test]
        fn each_name_is_found_again_by_what_a_client_got(
            charset in label(),
            name in "(\\PC|[%025ABCDEF89/é中表ソ한я¥啲]|%E4%B8%AD|%25|%0A|%C2%85){0,16}",
        ) {
            let bytes = charset.encode(&name);
            let found = decoded(charset, &bytes);
            prop_assert_eq!(found.as_deref(), Some(name.as_str()));
            // parts can be encoded on their own, and lie where they lay
            let parts: Vec<_> = name.split('/').map(|part| charset.encode(part).into_owned()).collect();
            prop_assert_eq!(parts.join(&b'/'), bytes.into_owned());
        }

        #[test]
        fn both_kinds_of_codes_live_together(
            charset in label(),
            key in "([%025ABCDEF89é中я\n\u{85}]|%E4%B8%AD|%25|%0A|%C2%85){0,16}",
        ) {
            let path = escape(&key);
            let bytes = charset.encode(&path);
            let back = decoded(charset, &bytes).expect("its own bytes");
            prop_assert_eq!(crate::escape::unescape(&back), key);
        }

        #[test]
        fn bytes_of_a_client_never_panic_and_what_they_mean_is_found_again(
            charset in label(),
            bytes in prop::collection::vec(0x20u8..=255, 0..24),
        ) {
            if let Some(name) = decoded(charset, &bytes)
                && !name.chars().any(char::is_control)
            {
                prop_assert_eq!(decoded(charset, &charset.encode(&name)), Some(name));
            }
        }
    }
}
