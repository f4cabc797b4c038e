//! Which encoding a session's lines, replies and listings are in (RFC 2640, and what clients from before do).
//!
//! With a `charset` a client is taken to be from before RFC 2640 until it says `OPTS UTF8 ON`. Its lines are read as UTF-8
//! nevertheless where they are UTF-8: clients that know nothing else, such as curl, don't say so. Some bytes can be read
//! both ways (猫 in GBK is è in UTF-8), and then what is known of the client decides:
//!
//! | the client has | a line that could be both is |
//! |---|---|
//! | said `OPTS UTF8 OFF` | in the charset |
//! | sent a line that can't be UTF-8 | in the charset, if all its characters would have two bytes in UTF-8 |
//! | got a listing with this very name in the charset | in the charset |
//! | none of that | UTF-8, unless it can hardly be text: 图片 would be ͼƬ, 学校 ѧУ |

use std::collections::HashSet;

use crate::charset::Charset;
use crate::ftp::reply::Reply;

/// Bytes of names that a session remembers to have shown; see [`Shown`].
const MAX_SHOWN: usize = 64 * 1024;

/// Spaces in a line behind which a name is looked for: more than the arguments of any command have in front of it.
const MAX_WORDS: usize = 8;

/// Known facts about a client's encoding.
#[derive(Debug)]
pub struct NameEncoding {
    charset: Charset,
    /// The last `OPTS UTF8`.
    announced: Option<bool>,
    /// A line has come since that can't be UTF-8.
    is_legacy: bool,
}

/// The names that a client has been shown in the charset though their bytes could be UTF-8.
#[derive(Debug, Default)]
pub struct Shown {
    names: HashSet<Vec<u8>>,
    bytes: usize,
}

impl NameEncoding {
    /// That of a client that has said nothing yet. UTF-8 as `charset` means that there is no other encoding.
    pub fn new(charset: Charset) -> Self {
        NameEncoding {
            charset,
            announced: None,
            is_legacy: false,
        }
    }

    /// Goes on with another charset, that of the user who has logged in.
    pub fn set_charset(&mut self, charset: Charset) {
        self.charset = charset;
    }

    /// `OPTS UTF8`: whether names are in UTF-8 from now on. False if they can't be in anything else.
    pub fn announce(&mut self, utf8: bool) -> bool {
        self.announced = Some(utf8);
        self.is_legacy = false;
        utf8 || !self.charset.is_utf8()
    }

    /// The charset of replies and listings.
    pub fn outgoing(&self) -> Charset {
        match self.announced {
            Some(true) if !self.is_legacy => Charset::UTF_8,
            _ => self.charset,
        }
    }

    /// Reads a line; the codes of what the charset lacks are not replaced yet.
    pub fn text(&mut self, text: String, shown: &Shown) -> String {
        if text.is_ascii() || self.outgoing().is_utf8() {
            return text;
        }
        let is_preferred = match self.announced {
            Some(false) => true,
            _ if self.charset.is_single_byte() => false,
            _ if self.is_legacy => text.chars().all(|c| c < '\u{800}'),
            _ => self.is_hardly_text(&text),
        };
        if !is_preferred && !shown.is_in(text.as_bytes()) {
            return text;
        }
        // what no name has in it is a sign that it is no text of this charset
        let is_odd = |c: char| c.is_control() || matches!(c, '\u{e000}'..='\u{f8ff}');
        match self.charset.decode(text.as_bytes()) {
            Some(decoded) if !decoded.chars().any(is_odd) => decoded,
            _ => text,
        }
    }

    /// True for what the bytes of a charset with two bytes per character look like that happen to be UTF-8: characters of two
    /// bytes, the second of them one that GB 2312, Big5 and the EUCs have, and among the characters one that is neither
    /// of Europe's alphabets nor in the charset.
    fn is_hardly_text(&self, text: &str) -> bool {
        let is_of_europe =
            |c: char| matches!(c, ..'\u{180}' | '\u{386}'..='\u{3ce}' | '\u{400}'..='\u{45f}');
        let is_foreign = |c: char| !is_of_europe(c) && !self.charset.is_native(c);
        let could_be_other =
            |c: char| c.is_ascii() || (c < '\u{800}' && 0x80 | u32::from(c) & 0x3F >= 0xA1);
        text.chars().all(could_be_other) && text.chars().any(is_foreign)
    }

    /// Reads a line that isn't UTF-8; the error is what the client gets for it.
    pub fn legacy(&mut self, bytes: &[u8]) -> Result<String, Reply> {
        if self.charset.is_utf8() {
            return Err(Reply::new(501, "This is not UTF-8, and names are"));
        }
        let Some(text) = self.charset.decode(bytes) else {
            return Err(Reply::new(
                501,
                format!("This is neither UTF-8 nor {}", self.charset),
            ));
        };
        self.is_legacy = true;
        Ok(text)
    }
}

impl Shown {
    /// Notes a name as the client gets it, if the same bytes could be UTF-8. What exceeds the bound is forgotten.
    pub fn note(&mut self, name: &[u8]) {
        let is_ambiguous = !name.is_ascii() && std::str::from_utf8(name).is_ok();
        if is_ambiguous && self.bytes + name.len() <= MAX_SHOWN && !self.names.contains(name) {
            self.bytes += name.len();
            self.names.insert(name.to_vec());
        }
    }

    /// True if one of them is in a line, as a part of its path.
    fn is_in(&self, line: &[u8]) -> bool {
        if self.names.is_empty() {
            return false;
        }
        line.split(|byte| *byte == b'/').any(|part| {
            let spaces = part.iter().enumerate().filter(|(_, byte)| **byte == b' ');
            let starts = spaces.map(|(at, _)| at + 1).take(MAX_WORDS);
            std::iter::once(0)
                .chain(starts)
                .any(|start| self.names.contains(&part[start..]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 猫 in GBK, è in UTF-8.
    const CAT: &[u8] = b"\xc3\xa8";

    fn charset(label: &str) -> Charset {
        Charset::named(label).expect("a charset")
    }

    fn text(encoding: &mut NameEncoding, line: &[u8], shown: &Shown) -> String {
        match String::from_utf8(line.to_vec()) {
            Ok(text) => encoding.text(text, shown),
            Err(error) => encoding.legacy(error.as_bytes()).expect("the charset's"),
        }
    }

    #[test]
    fn a_line_that_could_be_both_is_read_by_what_is_known_of_the_client() {
        let line = [b"CWD a/", CAT, b"/b"].concat();
        let (utf8, gbk) = ("CWD a/è/b", "CWD a/猫/b");
        let none = Shown::default();

        let mut client = NameEncoding::new(charset("gbk"));
        assert_eq!(text(&mut client, &line, &none), utf8);

        let mut shown = Shown::default();
        shown.note(CAT);
        assert_eq!(text(&mut client, &line, &shown), gbk);
        let behind_words = [b"SITE UTIME 2020 ", CAT].concat();
        assert_eq!(
            text(&mut client, &behind_words, &shown),
            "SITE UTIME 2020 猫"
        );
        let other = [b"RETR x", CAT].concat();
        assert_eq!(text(&mut client, &other, &shown), "RETR xè");

        assert_eq!(text(&mut client, b"CWD \xd6\xd0", &none), "CWD 中");
        assert_eq!(text(&mut client, &line, &none), gbk);
        // three bytes each can hardly be by accident
        assert_eq!(text(&mut client, "CWD 文件".as_bytes(), &none), "CWD 文件");

        assert!(client.announce(true));
        assert_eq!(text(&mut client, &line, &none), utf8);
        assert_eq!(text(&mut client, &line, &shown), utf8);

        assert!(client.announce(false));
        assert_eq!(text(&mut client, &line, &none), gbk);
        assert_eq!(
            text(&mut client, "CWD 文件".as_bytes(), &none),
            "CWD 鏂囦欢"
        );
        // this would have a character in it that no name has
        assert_eq!(text(&mut client, "CWD 中文".as_bytes(), &none), "CWD 中文");
    }

    #[test]
    fn what_can_hardly_be_text_is_in_the_charset_from_the_first_line_on() {
        let silent = |label: &str, line: &[u8]| {
            let mut client = NameEncoding::new(charset(label));
            text(&mut client, line, &Shown::default())
        };
        for label in ["gbk", "gb18030"] {
            assert_eq!(
                silent(label, b"MKD \xcd\xbc\xc6\xac"),
                "MKD 图片",
                "{label}"
            );
            assert_eq!(
                silent(label, b"STOR \xcd\xbc1.jpg"),
                "STOR 图1.jpg",
                "{label}"
            );
            assert_eq!(
                silent(label, b"CWD \xd1\xa7\xd0\xa3"),
                "CWD 学校",
                "{label}"
            );
        }
        assert_eq!(silent("shift_jis", b"MKD \xc9\xb0"), "MKD ﾉｰ");
        for name in [
            "äöüßé",
            "cañón",
            "coração",
            "żółć",
            "škola",
            "Київ",
            "Привет",
            "Ωμέγα",
            "İstanbul",
            "中文",
            "한글",
            "😀",
        ] {
            for label in [
                "gbk",
                "gb18030",
                "big5",
                "shift_jis",
                "euc-kr",
                "euc-jp",
                "latin1",
            ] {
                assert_eq!(silent(label, name.as_bytes()), name, "{label}");
            }
        }
    }

    #[test]
    fn a_capital_letter_with_a_sign_behind_it_is_utf8_unless_it_was_shown() {
        let mut latin = NameEncoding::new(charset("latin1"));
        assert_eq!(text(&mut latin, b"RETR \xe9", &Shown::default()), "RETR é");
        assert_eq!(
            text(&mut latin, "RETR é".as_bytes(), &Shown::default()),
            "RETR é"
        );
        let mut shown = Shown::default();
        shown.note("é".as_bytes());
        assert_eq!(text(&mut latin, "RETR é".as_bytes(), &shown), "RETR Ã©");
    }

    #[test]
    fn a_client_gets_the_charset_until_it_says_otherwise_and_again_when_it_sends_it() {
        let gbk = charset("gbk");
        let mut encoding = NameEncoding::new(gbk);
        assert_eq!(encoding.outgoing(), gbk);
        assert!(encoding.announce(true));
        assert_eq!(encoding.outgoing(), Charset::UTF_8);
        assert!(encoding.legacy(b"\xd6\xd0").is_ok());
        assert_eq!(encoding.outgoing(), gbk);
        assert!(encoding.announce(true));
        assert_eq!(encoding.outgoing(), Charset::UTF_8);
        assert!(encoding.announce(false));
        assert_eq!(encoding.outgoing(), gbk);
    }

    #[test]
    fn without_a_charset_there_is_nothing_but_utf8() {
        let mut encoding = NameEncoding::new(Charset::UTF_8);
        assert_eq!(
            encoding.legacy(b"\xd6\xd0").map_err(|reply| reply.code),
            Err(501)
        );
        assert!(!encoding.announce(false));
        assert_eq!(encoding.outgoing(), Charset::UTF_8);
        assert!(encoding.announce(true));
        let mut gbk = NameEncoding::new(charset("gbk"));
        let refused = gbk.legacy(b"\xff\xff").map_err(|reply| reply.to_string());
        assert_eq!(
            refused,
            Err("501 This is neither UTF-8 nor GBK\r\n".to_owned())
        );
    }

    #[test]
    fn what_was_shown_is_bounded() {
        let mut shown = Shown::default();
        for number in 0..10_000 {
            shown.note(format!("é{number:020}").as_bytes());
            shown.note(format!("{number:020}").as_bytes());
        }
        assert!(shown.bytes <= MAX_SHOWN && shown.names.len() == MAX_SHOWN / 22);
    }
}
