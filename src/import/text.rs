//! The characters of a file: UTF-8, UTF-16 and GB18030, the last of which holds GBK and GB 2312.
//!
//! Nothing in such a file says what it is written in, except a byte order mark. Text that is valid UTF-8 hardly ever is
//! anything else; what is left are the encodings of editors on Chinese Windows.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use encoding_rs::{Encoding, GB18030, UTF_8, UTF_16BE, UTF_16LE};

use super::ImportError;
use crate::config::printable;

/// The text of a file, and what it was written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Without a byte order mark.
    pub content: String,
    /// The encoding's name in the WHATWG Encoding Standard, such as `gb18030`.
    pub encoding: &'static str,
}

impl Text {
    /// Text that is UTF-8 already.
    pub fn utf8(content: impl Into<String>) -> Self {
        Text {
            content: content.into(),
            encoding: UTF_8.name(),
        }
    }

    /// True if the file was UTF-8, as cosgate's own files are.
    pub fn is_utf8(&self) -> bool {
        self.encoding == UTF_8.name()
    }
}

/// Reads the file at `path`, at most 1 MiB.
pub fn read(path: &Path) -> Result<Text, ImportError> {
    let failed = |reason: String| ImportError::File {
        path: printable(&path.display().to_string()),
        reason,
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| failed(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(failed(
            "is larger than 1 MiB; give the FTP server's configuration file".into(),
        ));
    }
    decode(&bytes).ok_or_else(|| {
        failed(
            "is text in no encoding that is read here (UTF-8, UTF-16, GB18030 with GBK); convert it to UTF-8, such as with \
             iconv"
                .into(),
        )
    })
}

/// The text of `bytes`; none if no encoding fits all of them.
fn decode(bytes: &[u8]) -> Option<Text> {
    let (encoding, rest) = match Encoding::for_bom(bytes) {
        Some((encoding, length)) => (encoding, bytes.get(length..)?),
        None => (guess(bytes), bytes),
    };
    let content = encoding.decode_without_bom_handling_and_without_replacement(rest)?;
    Some(Text {
        content: content.into_owned(),
        encoding: encoding.name(),
    })
}

/// The encoding of text without a byte order mark.
fn guess(bytes: &[u8]) -> &'static Encoding {
    // In UTF-16 each ASCII character has a byte 0, and these files are made of them; text in other encodings has none.
    let zeros = |first: usize| {
        bytes
            .iter()
            .skip(first)
            .step_by(2)
            .filter(|b| **b == 0)
            .count()
    };
    let (even, odd) = (zeros(0), zeros(1));
    if even + odd > bytes.len() / 4 {
        return if odd > even { UTF_16LE } else { UTF_16BE };
    }
    if std::str::from_utf8(bytes).is_ok() {
        UTF_8
    } else {
        GB18030
    }
}

/// Real files have a few KiB.
const MAX_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> (String, &'static str) {
        let text = decode(bytes).expect("an encoding");
        (text.content, text.encoding)
    }

    #[test]
    fn each_encoding_gives_the_same_text() {
        let words = "ftp_login_user_name=张三 # 用户名\r\n密码 = 口令\n";
        assert_eq!(decoded(words.as_bytes()), (words.into(), "UTF-8"));
        let (gbk, _, lossy) = encoding_rs::GBK.encode(words);
        assert!(!lossy);
        assert_eq!(decoded(&gbk), (words.into(), "gb18030"));
        let units = || words.encode_utf16();
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        for (mark, bytes, name) in [
            (&b""[..], &little, "UTF-16LE"),
            (b"\xff\xfe", &little, "UTF-16LE"),
            (b"", &big, "UTF-16BE"),
            (b"\xfe\xff", &big, "UTF-16BE"),
        ] {
            assert_eq!(decoded(&[mark, bytes].concat()), (words.into(), name));
        }
        let marked = [b"\xef\xbb\xbf", words.as_bytes()].concat();
        assert_eq!(decoded(&marked), (words.into(), "UTF-8"));
    }

    #[test]
    fn characters_outside_of_gbk_are_read_from_gb18030() {
        // four bytes in GB18030, none in GBK
        let words = "name = 𠀀 €";
        let (bytes, _, lossy) = GB18030.encode(words);
        assert!(!lossy);
        assert_eq!(decoded(&bytes), (words.into(), "gb18030"));
    }

    #[test]
    fn what_no_encoding_fits_is_none() {
        assert_eq!(decode(b"a = \xff\xff\n"), None);
        // half a character in UTF-16
        assert_eq!(decode(b"\xff\xfea\0b"), None);
        assert_eq!(decoded(b""), (String::new(), "UTF-8"));
    }
}
