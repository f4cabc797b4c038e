//! Replies (RFC 959, section 4.2), and the one table from store errors to them.

use std::borrow::Cow;
use std::fmt;

use crate::store::{Interruption, StoreError};

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

impl From<&StoreError> for Reply {
    /// The whole mapping, without a catch-all: a new error is a compile error here.
    fn from(error: &StoreError) -> Self {
        let code = match error {
            StoreError::NotFound
            | StoreError::IsDirectory
            | StoreError::NotDirectory
            | StoreError::AlreadyExists
            | StoreError::NotEmpty
            | StoreError::IntoItself
            | StoreError::Forbidden
            | StoreError::Denied { .. }
            // the same again would be refused again, and clients repeat after a 4xx
            | StoreError::Refused { .. } => 550,
            StoreError::BadName(_) => 553,
            StoreError::NotADirectory => 501,
            // never 450: libcurl takes it as an empty directory and succeeds, rclone as a name that doesn't exist
            StoreError::Unavailable { .. }
            | StoreError::Busy { .. }
            | StoreError::Changed { .. }
            | StoreError::Integrity { .. }
            | StoreError::Unverified { .. }
            | StoreError::Unknown { .. } => 451,
            StoreError::TooLarge { .. } => 552,
            StoreError::NoMemory | StoreError::NoSpace { .. } => 452,
            StoreError::BeyondEnd { .. } => 554,
            StoreError::Rename { source, .. } => Reply::from(&**source).code,
            StoreError::Interrupted(reason) | StoreError::UploadInterrupted { reason, .. } => {
                match reason {
                    Interruption::Abort
                    | Interruption::ControlLost
                    | Interruption::DataReset
                    | Interruption::TlsTruncated
                    | Interruption::Stalled => 426,
                    Interruption::NotConnected | Interruption::TlsHandshake => 425,
                    // as vsftpd; clients know it
                    Interruption::TlsNotResumed => 522,
                    Interruption::Stopping => 421,
                }
            }
        };
        Reply::new(code, describe(error))
    }
}

/// What the client is told: enough to act on, nothing about the inside of the store.
fn describe(error: &StoreError) -> String {
    let text = match error {
        StoreError::Interrupted(reason) => format!("Transfer ended early, {reason}"),
        StoreError::UploadInterrupted {
            reason,
            kept: Some(bytes),
        } => {
            format!("Transfer ended early, {reason}; the {bytes} bytes that arrived were stored")
        }
        StoreError::UploadInterrupted { reason, kept: None } => {
            format!("Transfer ended early, {reason}; nothing was stored")
        }
        StoreError::Rename { outcome, source } => format!("{}; {outcome}", describe(source)),
        StoreError::Changed { .. } => "The file was changed meanwhile, try again".to_owned(),
        StoreError::Busy { detail } => format!("The file is in use, {detail}; try again"),
        StoreError::Integrity { .. } => "The data could not be verified".to_owned(),
        StoreError::Unverified { remains, .. } => {
            format!("The data could not be verified; {remains}")
        }
        StoreError::Unknown { source, .. } if source.is_of_integrity() => {
            "The outcome is not known, the object store's answers contradict each other; look before you try again"
                .to_owned()
        }
        StoreError::Unknown { .. } => {
            "The outcome is not known, the object store stopped answering; look before you try again"
                .to_owned()
        }
        StoreError::Unavailable { .. } => {
            "The object store is not available, try again later".to_owned()
        }
        StoreError::NoSpace { .. } => "The object store has no space left".to_owned(),
        StoreError::Refused { .. } => "The object store refused the request".to_owned(),
        StoreError::Denied { .. } => "The object store denied access".to_owned(),
        other => other.to_string(),
    };
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NameError;

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

    #[test]
    fn what_may_be_retried_is_451_and_what_is_wrong_is_5xx() {
        let unavailable = StoreError::Unavailable {
            operation: "PutObject",
            source: "connection refused to 10.0.0.7".into(),
        };
        let reply = Reply::from(&unavailable);
        assert_eq!(reply.code, 451);
        assert!(
            !reply.text.contains("10.0.0.7"),
            "the inside of the store stays inside: {reply}"
        );
        let refused = StoreError::Refused {
            operation: "CopyObject",
            source: "NotImplemented".into(),
        };
        assert_eq!(Reply::from(&refused).code, 550);
        assert_eq!(
            Reply::from(&StoreError::BadName(NameError::ControlCharacter)).code,
            553
        );
        assert_eq!(
            Reply::from(&StoreError::NotFound).to_string(),
            "550 No such file or directory\r\n"
        );
    }
}
