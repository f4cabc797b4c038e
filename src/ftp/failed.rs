//! The one table from store errors to what follows from them: the reply, the level of the log line, the outcome.

use crate::ftp::reply::Reply;
use crate::store::{Interruption, Left, NameError, StoreError};

/// The consequences of a store error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consequences {
    /// The code of the reply.
    pub code: u16,
    /// The log level, which also decides about the status page.
    pub severity: Severity,
    /// The outcome of a transfer that ends so.
    pub outcome: TransferOutcome,
}

/// The log level of a failed command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// An operator must act.
    Error,
    /// The client lost something; the same may succeed later.
    Warn,
    /// The client's own mistake, or the line of the transfer says it.
    Debug,
}

/// The way a transfer that failed ended, for its log line, metric and trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferOutcome {
    /// An interrupted upload whose bytes were stored.
    Kept,
    /// An interrupted upload that the client can continue.
    Held,
    /// An interrupted upload of which nothing was stored.
    Discarded,
    /// Over the size limit.
    TooLarge,
    /// Anything else.
    Failed,
}

impl TransferOutcome {
    /// The value of the label and the field `outcome`.
    pub fn word(self) -> &'static str {
        match self {
            TransferOutcome::Kept => "kept",
            TransferOutcome::Held => "held",
            TransferOutcome::Discarded => "discarded",
            TransferOutcome::TooLarge => "too_large",
            TransferOutcome::Failed => "failed",
        }
    }
}

/// The whole mapping, without a catch-all: a new error is a compile error here.
pub fn consequences(error: &StoreError) -> Consequences {
    use Severity::{Debug, Error, Warn};
    use TransferOutcome::{Discarded, Failed, Held, Kept, TooLarge};
    let (code, severity, outcome) = match error {
        StoreError::NotFound
        | StoreError::IsDirectory
        | StoreError::NotDirectory
        | StoreError::AlreadyExists
        | StoreError::NotEmpty
        | StoreError::IntoItself
        | StoreError::MountPoint
        | StoreError::Forbidden => (550, Debug, Failed),
        StoreError::Archived { .. } => (550, Warn, Failed),
        // the same again would be refused again, and clients repeat after a 4xx
        StoreError::Denied { .. } | StoreError::Refused { .. } => (550, Error, Failed),
        // the same for all commands, whatever is there: RETR and CWD know no 553
        StoreError::BadName(NameError::Reserved) => (550, Debug, Failed),
        StoreError::BadName(_) | StoreError::NameRule { .. } | StoreError::AnotherStore => {
            (553, Debug, Failed)
        }
        StoreError::NotADirectory => (501, Debug, Failed),
        // never 450: libcurl takes it as an empty directory and succeeds, rclone as a name that doesn't exist
        StoreError::Unavailable { .. } | StoreError::Busy { .. } | StoreError::Changed { .. } => {
            (451, Warn, Failed)
        }
        StoreError::Integrity { .. } => (451, Error, Failed),
        StoreError::Outbox(_) => (451, Error, Failed),
        StoreError::Unverified { .. } | StoreError::Unknown { .. } => (451, Debug, Failed),
        StoreError::TooLarge { .. } => (552, Debug, TooLarge),
        StoreError::NoMemory => (452, Warn, Failed),
        StoreError::NoSpace { .. } => (452, Error, Failed),
        StoreError::BeyondEnd { .. } | StoreError::NotHeldThere { .. } => (554, Debug, Failed),
        // of uploads only: the name is taken for a while, and clients try again
        StoreError::InHand { .. } => (450, Warn, Failed),
        StoreError::Rename { source, .. } => (consequences(source).code, Error, Failed),
        StoreError::Interrupted(reason) => (interruption_code(*reason), Debug, Failed),
        StoreError::UploadInterrupted { reason, left } => {
            let outcome = match left {
                Left::Kept(_) => Kept,
                Left::Held(_) => Held,
                Left::Nothing => Discarded,
            };
            (interruption_code(*reason), Debug, outcome)
        }
    };
    Consequences {
        code,
        severity,
        outcome,
    }
}

fn interruption_code(reason: Interruption) -> u16 {
    match reason {
        Interruption::Abort
        | Interruption::ControlLost
        | Interruption::DataReset
        | Interruption::TlsTruncated
        | Interruption::Stalled => 426,
        Interruption::NotConnected | Interruption::TlsHandshake => 425,
        // as vsftpd; clients know it
        Interruption::TlsNotResumed => 522,
        Interruption::Stopping | Interruption::AddressRefused => 421,
    }
}

impl From<&StoreError> for Reply {
    fn from(error: &StoreError) -> Self {
        Reply::new(consequences(error).code, describe(error))
    }
}

/// The text for the client: enough to act on, nothing about the inside of the store.
fn describe(error: &StoreError) -> String {
    let text = match error {
        StoreError::Interrupted(reason) => format!("Transfer ended early, {reason}"),
        StoreError::UploadInterrupted {
            reason,
            left: Left::Kept(bytes),
        } => {
            format!("Transfer ended early, {reason}; the {bytes} bytes that arrived were stored")
        }
        StoreError::UploadInterrupted {
            reason,
            left: Left::Held(bytes),
        } => {
            format!(
                "Transfer ended early, {reason}; {bytes} bytes are held, go on there with REST and STOR"
            )
        }
        StoreError::UploadInterrupted {
            reason,
            left: Left::Nothing,
        } => {
            format!("Transfer ended early, {reason}; nothing was stored")
        }
        StoreError::Rename { outcome, source } => format!("{}; {outcome}", describe(source)),
        StoreError::Changed { .. } => "The file was changed meanwhile, try again".to_owned(),
        StoreError::Busy { detail } | StoreError::InHand { detail } => {
            format!("The file is in use, {detail}; try again")
        }
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
        StoreError::Outbox(_) => {
            "The event about it could not be written, so nothing was changed; try again later"
                .to_owned()
        }
        StoreError::NoSpace { .. } => "The object store has no space left".to_owned(),
        StoreError::Refused { .. } => "The object store refused the request".to_owned(),
        StoreError::Denied { .. } => "The object store denied access".to_owned(),
        StoreError::Archived { .. } => {
            "The file is archived, it has to be restored at the object store first".to_owned()
        }
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
