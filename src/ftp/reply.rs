//! Replies (RFC 959, section 4.2).

use std::borrow::Cow;
use std::fmt;

/// One reply: a code and one or more lines of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// Lines parted by `\n`; more than one makes a multi-line reply.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply with a fixed or a composed text. Control characters but `\n` in it would forge replies; see [`fmt::Display`].
    pub fn new(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Reply {
            code,
            text: text.into(),
        }
    }

    /// True for the 4xx and 5xx replies.
    pub fn is_refusal(&self) -> bool {
        self.code >= 400
    }
}

impl fmt::Display for Reply {
    /// As it goes over the wire, line ends included. Text may contain names that came from a store: whatever could
    /// end a line early is replaced.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.text.split('\n').peekable();
        let mut first = true;
        while let Some(line) = lines.next() {
            let line = line.replace(char::is_control, "?");
            match (first, lines.peek().is_some()) {
                (_, false) => write!(f, "{} {line}\r\n", self.code)?,
                (true, true) => write!(f, "{}-{line}\r\n", self.code)?,
                // a line between the first and the last must not look like the last (RFC 959): a space keeps it apart
                (false, true) => write!(f, " {line}\r\n")?,
            }
            first = false;
        }
        Ok(())
    }
}

/// `text` inside double quotes, quotes in it doubled (RFC 959, appendix II).
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multi_line_reply_marks_its_first_and_last_line() {
        let reply = Reply::new(211, "Features\nMDTM\nEnd");
        assert_eq!(reply.to_string(), "211-Features\r\n MDTM\r\n211 End\r\n");
    }

    #[test]
    fn a_name_from_the_store_cannot_forge_a_reply() {
        assert_eq!(Reply::new(250, "a\r230 b").to_string(), "250 a?230 b\r\n");
    }

    #[test]
    fn quotes_in_names_are_doubled() {
        assert_eq!(quoted("/a\"b"), "\"/a\"\"b\"");
    }
}
