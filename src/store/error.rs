//! The errors between the gateway and the store: one variant per decision the caller can make.

use std::error::Error;
use std::fmt;
use std::time::SystemTime;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::DateTime;

use crate::chain::Chain;
use crate::store::http_status::HttpStatus;
use crate::store::path::NameError;
use crate::store::retry::{CREDENTIAL_CODES, DAMAGE_CODES, THROTTLING_CODES, TRANSIENT_CODES};

/// A failed store operation, or a transfer that ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such object and no key below it.
    #[error("no such file or directory")]
    NotFound,
    /// A directory where a file is needed.
    #[error("is a directory")]
    IsDirectory,
    /// A file where a directory is needed: MLSD of one (RFC 3659, section 7.2.1).
    #[error("is not a directory")]
    NotADirectory,
    /// A file where a directory is needed: something was to be made below it.
    #[error("not a directory: a file has the name of a directory in this path")]
    NotDirectory,
    /// The target of `MKD`, or of a rename, is there already.
    #[error("already exists")]
    AlreadyExists,
    /// `RMD` of a directory that holds keys besides its marker.
    #[error("the directory is not empty")]
    NotEmpty,
    /// A directory can't be moved below itself.
    #[error("a directory can't be moved into itself")]
    IntoItself,
    /// A mount point, or a directory with one below it, is to be removed, renamed or replaced.
    #[error(
        "the directory is a mount point or holds one: it can't be removed, renamed or replaced"
    )]
    MountPoint,
    /// A rename from one store to another, which no store can do.
    #[error(
        "the two names are in different stores, or reached with different keys, and a rename stays in one: \
         download the file and store it there"
    )]
    AnotherStore,
    /// The user's own rights don't allow it; the store was not asked.
    #[error("permission denied: this user may not do that")]
    Forbidden,
    /// The name can't be a key of this store.
    #[error(transparent)]
    BadName(#[from] NameError),
    /// `upload.allow_names` or `upload.deny_names` refuses the name.
    #[error("files of this name are not accepted ({rule})")]
    NameRule {
        /// The key and, of what is denied, the pattern.
        rule: String,
    },
    /// The store refuses the gateway's credentials, or they lack a right.
    #[error("the store denied {operation}")]
    Denied {
        /// The S3 operation.
        operation: &'static str,
        /// The store's answer.
        #[source]
        source: Cause,
    },
    /// The object is in an archive class: its bytes can be neither read nor copied before it is restored.
    #[error("the object is archived: it has to be restored at the store before {operation}")]
    Archived {
        /// The S3 operation.
        operation: &'static str,
    },
    /// Throttled, unreachable, timed out or 5xx after all retries: the same command may succeed later.
    #[error("the store is not available for {operation}")]
    Unavailable {
        /// The S3 operation.
        operation: &'static str,
        /// The last attempt's error.
        #[source]
        source: Cause,
    },
    /// The store has no space left.
    #[error("the store has no space left for {operation}")]
    NoSpace {
        /// The S3 operation.
        operation: &'static str,
        /// The store's answer.
        #[source]
        source: Cause,
    },
    /// The store refused the request for a reason that a retry won't change.
    #[error("the store refused {operation}")]
    Refused {
        /// The S3 operation.
        operation: &'static str,
        /// The store's answer.
        #[source]
        source: Cause,
    },
    /// Somebody else replaced or deleted the object under the command that reads or moves it.
    #[error("changed meanwhile: {detail}")]
    Changed {
        /// Its fate.
        detail: &'static str,
    },
    /// Another command or another client has the name in work, or was faster. Nothing was changed.
    #[error("busy: {detail}")]
    Busy {
        /// The other change.
        detail: &'static str,
    },
    /// The bytes that the store holds or sent: they are is not what was asked for: another checksum, a wrong length.
    #[error("integrity: {detail}")]
    Integrity {
        /// The difference.
        detail: String,
    },
    /// The store's answer to a write contradicts what was sent, or proves nothing.
    #[error("integrity: {detail}; {remains}")]
    Unverified {
        /// The fault of the answer.
        detail: String,
        /// The present content of the name.
        remains: Remains,
    },
    /// The answer to a write was lost, and the store could not be asked for what it did.
    #[error("the outcome of {operation} is not known")]
    Unknown {
        /// The S3 operation.
        operation: &'static str,
        /// Why the store could not be asked.
        #[source]
        source: Box<StoreError>,
    },
    /// The event about a change can't be written to the outbox, so the change was not made.
    #[error("the event about it could not be written to the outbox, so nothing was changed")]
    Outbox(#[source] Box<StoreError>),
    /// The upload grew over `upload.max_file_size`.
    #[error("the file is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// No buffer memory became free in time (`upload.memory_budget`).
    #[error("no buffer memory became free in time")]
    NoMemory,
    /// `REST` points behind the end of the object.
    #[error("restart position {offset} is beyond the end, the file has {size} bytes")]
    BeyondEnd {
        /// The offset of the request.
        offset: u64,
        /// The size of the object.
        size: u64,
    },
    /// A directory was not moved as a whole. Nothing is lost.
    #[error("rename: {outcome}")]
    Rename {
        /// Where everything is now.
        outcome: String,
        /// The error that stopped it.
        #[source]
        source: Box<StoreError>,
    },
    /// The client, the network or the server's stop ended the transfer.
    #[error("interrupted: {0}")]
    Interrupted(Interruption),
    /// The same for an upload, which may have left something behind.
    #[error("upload interrupted: {reason}")]
    UploadInterrupted {
        /// The cause of its end.
        reason: Interruption,
        /// The fate of the bytes that had arrived.
        left: Left,
    },
    /// The upload that is held, and that the client means, is in another session's hands.
    #[error("busy: {detail}")]
    InHand {
        /// The reason why it can't go on.
        detail: &'static str,
    },
    /// `REST` points to another place than where the held upload ends.
    #[error("restart position {offset} is not where the upload ended, {held} bytes are held")]
    NotHeldThere {
        /// The offset that the client asked for.
        offset: u64,
        /// Where it can go on.
        held: u64,
    },
}

impl StoreError {
    /// One word for it, for `error.type` of a span (OpenTelemetry wants few different ones).
    pub fn kind(&self) -> &'static str {
        match self {
            StoreError::NotFound => "not_found",
            StoreError::IsDirectory => "is_directory",
            StoreError::NotDirectory => "not_directory",
            StoreError::NotADirectory => "not_a_directory",
            StoreError::AlreadyExists => "already_exists",
            StoreError::NotEmpty => "not_empty",
            StoreError::IntoItself => "into_itself",
            StoreError::MountPoint => "mount_point",
            StoreError::AnotherStore => "another_store",
            StoreError::Forbidden => "forbidden",
            StoreError::BadName(_) => "bad_name",
            StoreError::NameRule { .. } => "name_rule",
            StoreError::Denied { .. } => "denied",
            StoreError::Archived { .. } => "archived",
            StoreError::Unavailable { .. } => "unavailable",
            StoreError::NoSpace { .. } => "no_space",
            StoreError::Refused { .. } => "refused",
            StoreError::Changed { .. } => "changed",
            StoreError::Busy { .. } => "busy",
            StoreError::InHand { .. } => "in_hand",
            StoreError::NotHeldThere { .. } => "not_held_there",
            StoreError::Integrity { .. } => "integrity",
            StoreError::Unverified { .. } => "unverified",
            StoreError::Unknown { .. } => "unknown_outcome",
            StoreError::Outbox(_) => "outbox",
            StoreError::TooLarge { .. } => "too_large",
            StoreError::NoMemory => "no_memory",
            StoreError::BeyondEnd { .. } => "beyond_end",
            StoreError::Rename { .. } => "rename",
            StoreError::Interrupted(reason) | StoreError::UploadInterrupted { reason, .. } => {
                reason.kind()
            }
        }
    }
}

impl StoreError {
    /// True if the store turned out to have other bytes than were sent.
    pub fn is_of_integrity(&self) -> bool {
        match self {
            StoreError::Integrity { .. } | StoreError::Unverified { .. } => true,
            StoreError::Rename { source, .. } | StoreError::Unknown { source, .. } => {
                source.is_of_integrity()
            }
            _ => false,
        }
    }
}

/// The remains of an interrupted upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing was stored.
    Nothing,
    /// So many bytes were kept as one whole object.
    Kept(u64),
    /// So many bytes are held, for the client to go on.
    Held(u64),
}

/// The object under a name after a write that doesn't count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// The object from before, or what somebody else has stored since.
    Older,
    /// The new object, which could not be compared.
    New,
    /// Nothing: the new object was removed, and the one before it is gone.
    Removed,
}

impl fmt::Display for Remains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Remains::Older => "nothing was stored, an older file is unchanged",
            Remains::New => "what was stored is left as it is, an older file is replaced",
            Remains::Removed => "what was stored was damaged and is removed, an older file is gone",
        })
    }
}

impl Interruption {
    /// One word for it.
    pub fn kind(self) -> &'static str {
        match self {
            Interruption::Abort => "abort",
            Interruption::ControlLost => "control_lost",
            Interruption::NotConnected => "no_data_connection",
            Interruption::DataReset => "data_reset",
            Interruption::TlsTruncated => "tls_truncated",
            Interruption::TlsHandshake => "tls_handshake",
            Interruption::TlsNotResumed => "tls_not_resumed",
            Interruption::Stalled => "stalled",
            Interruption::Stopping => "stopping",
            Interruption::AddressRefused => "address_refused",
        }
    }
}

/// Why a transfer ended without a clean end of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interruption {
    /// The client sent ABOR.
    #[error("aborted by the client")]
    Abort,
    /// The control connection went away during the transfer.
    #[error("the control connection was lost")]
    ControlLost,
    /// The data connection never came.
    #[error("no data connection came")]
    NotConnected,
    /// The data connection was reset.
    #[error("the data connection was reset")]
    DataReset,
    /// TLS ended without close_notify: the end of the data can't be trusted (RFC 8446, section 6.1).
    #[error("the data connection ended without a TLS close")]
    TlsTruncated,
    /// The TLS handshake on the data connection failed.
    #[error("the TLS handshake on the data connection failed")]
    TlsHandshake,
    /// The data connection doesn't belong to the TLS session of the control connection.
    #[error("the data connection must resume the TLS session of the control connection")]
    TlsNotResumed,
    /// No byte moved within the stall time-out.
    #[error("the data connection stalled")]
    Stalled,
    /// The gateway is stopping and its drain deadline has passed.
    #[error("the server is stopping")]
    Stopping,
    /// The client's address is refused since the lists of `access` have changed.
    #[error("connections from the client's address are not accepted any more")]
    AddressRefused,
}

/// The error behind a store error, with its own chain of causes spelt out.
pub type Cause = Box<dyn Error + Send + Sync>;

impl StoreError {
    /// Sorts an SDK error by what the caller can do about it.
    pub(super) fn from_sdk<E, R>(operation: &'static str, error: SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
        R: HttpStatus + fmt::Debug + Send + Sync + 'static,
    {
        let status = error.raw_response().map(HttpStatus::status);
        let code = error
            .as_service_error()
            .and_then(|service| service.code())
            .unwrap_or_default()
            .to_owned();
        let transport = !matches!(
            error,
            SdkError::ServiceError(_) | SdkError::ConstructionFailure(_)
        );
        let mut text = Chain(&error).to_string();
        if code == "RequestTimeTooSkewed" {
            let date = error.raw_response().and_then(HttpStatus::date);
            text = format!("{}; {text}", clock(date));
        }
        let source: Cause = Box::new(Flat(text));
        match (status, code.as_str()) {
            (_, "NoSuchKey" | "NoSuchUpload" | "NotFound") => StoreError::NotFound,
            // a HEAD has no body and so no code
            (Some(404), "") => StoreError::NotFound,
            // the store's own check of a body against its checksum
            (_, code) if DAMAGE_CODES.contains(&code) => StoreError::Integrity {
                detail: format!("the store found another checksum in {operation}"),
            },
            (Some(412), _) => StoreError::Changed {
                detail: "the object was replaced",
            },
            (_, "InvalidObjectState") => StoreError::Archived { operation },
            (Some(403 | 401), _) | (_, "AccessDenied" | "RequestTimeTooSkewed") => {
                StoreError::Denied { operation, source }
            }
            (_, code) if CREDENTIAL_CODES.contains(&code) => {
                StoreError::Denied { operation, source }
            }
            (Some(507), _) => StoreError::NoSpace { operation, source },
            // a store that doesn't know the operation, or its form, won't know it later
            (Some(501 | 505), _) => StoreError::Refused { operation, source },
            // two writers at once: the loser may try again
            (_, "OperationAborted" | "ConditionalRequestConflict") => StoreError::Changed {
                detail: "somebody else is changing the object",
            },
            (Some(408 | 429 | 500..), _) => StoreError::Unavailable { operation, source },
            (_, code) if THROTTLING_CODES.contains(&code) || TRANSIENT_CODES.contains(&code) => {
                StoreError::Unavailable { operation, source }
            }
            // an answer that can't be read is none
            (Some(200..300), "") => StoreError::Unavailable { operation, source },
            _ if transport => StoreError::Unavailable { operation, source },
            _ => StoreError::Refused { operation, source },
        }
    }
}

/// Names the one thing that is to be corrected.
fn clock(date: Option<DateTime>) -> String {
    let ours = SystemTime::now();
    let theirs = date.and_then(|date| SystemTime::try_from(date).ok());
    let Some(theirs) = theirs else {
        return "this machine's clock and the store's differ too much: set the clock".to_owned();
    };
    let (by, direction) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    format!(
        "this machine's clock is {} s {direction} the store's: set the clock",
        by.as_secs()
    )
}

/// An SDK error reduced to its text: aws types stay below `store/`, and responses are not kept alive by errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Flat(String);
