//! The errors inside the store, and the S3 answer it becomes.

use std::io;
use std::sync::Arc;

use hyper::StatusCode;
use s3s::{S3Error, S3ErrorCode, s3_error};
use tracing::error;

use crate::chain::Chain;

/// A failed operation. Everything but [`Fault::Refused`] is the store's own trouble.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The request is answered with this S3 error; nothing was changed.
    #[error("request refused: {0}")]
    Refused(S3Error),
    /// The disk has too little space for anything but reading and deleting.
    #[error("no space left in the data directory of the embedded store")]
    Full,
    #[error("index of the embedded store failed")]
    Index(#[source] Arc<redb::Error>),
    #[error("cannot {action}")]
    Io {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("index of the embedded store holds an unreadable {0}")]
    Corrupt(&'static str),
    /// There are bodies, and nothing that names them.
    #[error("there are object bodies, and no index that names them")]
    NoIndex,
    #[error("embedded store is stopping")]
    Stopping,
}

impl Fault {
    /// A refusal with one of S3's own error codes and a message for the person who reads it.
    pub(super) fn refused(
        code: S3ErrorCode,
        message: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        Self::Refused(S3Error::with_message(code, message))
    }

    /// A refusal with a code that the S3 library does not know, hence with its HTTP status.
    pub(super) fn refused_with_status(
        code: &'static str,
        status: StatusCode,
        message: &'static str,
    ) -> Self {
        let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
        error.set_status_code(status);
        Self::Refused(error)
    }

    fn is_disk_full(&self) -> bool {
        let error = match self {
            Self::Full => return true,
            Self::Io { source, .. } => source,
            Self::Index(error) => match &**error {
                redb::Error::Io(error) => error,
                _ => return false,
            },
            _ => return false,
        };
        matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// For `map_err` after a file operation: `Fault::io("sync an object body")`.
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

impl From<S3Error> for Fault {
    fn from(error: S3Error) -> Self {
        Self::Refused(error)
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Index(Arc::new(error.into()))
            }
        }
    )*};
}

from_redb!(
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::DatabaseError
);

/// The one place where the store's own failures are logged: where they become an answer.
impl From<Fault> for S3Error {
    fn from(fault: Fault) -> Self {
        let fault = match fault {
            Fault::Refused(error) => return error,
            Fault::Stopping => {
                return s3_error!(ServiceUnavailable, "The embedded store is stopping.");
            }
            own => own,
        };
        // Each upload of a full disk would write a line; the disk's state has its own.
        if !matches!(fault, Fault::Full) {
            error!(error = %Chain(&fault), "embedded store failed");
        }
        if fault.is_disk_full() {
            // 507 instead of 500: SDKs repeat a 500, and repeating does not free space.
            let mut full = S3Error::with_message(
                S3ErrorCode::Custom("InsufficientStorage".into()),
                "no space left in the data directory of the embedded store",
            );
            full.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
            return full;
        }
        s3_error!(
            InternalError,
            "We encountered an internal error. Please try again."
        )
    }
}
