//! The edge's requests to the storage, and their outcomes.
//!
//! A transfer command means more than a path: the client's data connection, the restart offset, the listing's format. The edge leaves
//! all of it in the session as one [`StorageRequest`], the handler of the `SITE` subcommand that the engine dispatches to takes it, and
//! the [`StorageOutcome`] or the error goes back the same way. One command is in flight at a time, so there is one place for each.

use std::time::SystemTime;

use tokio::sync::oneshot;

use crate::charset::Charset;
use crate::ftp::data_connection::DataConnection;
use crate::ftp::listformat::Format;
use crate::store::{Entry, Hashes, Mode, Renamed, Stored, VirtualPath};

/// One request of the edge.
#[derive(Debug)]
pub enum StorageRequest {
    /// `STOR`, `APPE`, `STOU`
    Store(StoreRequest),
    /// `RETR`
    Retrieve(RetrieveRequest),
    /// `LIST`, `NLST`, `MLSD`, `STAT`
    List(ListRequest),
    /// `MFMT`: the file, and its new time.
    SetTime(VirtualPath, SystemTime),
    /// `HASH`: the file.
    Hash(VirtualPath),
    /// `SIZE`, where uploads that break off are held: the file.
    Size(VirtualPath),
}

/// An upload, and where its bytes come from.
#[derive(Debug)]
pub struct StoreRequest {
    /// The file to come.
    pub file: IncomingFile,
    /// Where its bytes come from.
    pub offer: DataConnectionOffer,
}

/// A file that is to be stored, wherever its bytes come from.
#[derive(Debug)]
pub struct IncomingFile {
    /// Its path.
    pub path: VirtualPath,
    /// The part that stays of the object that is there.
    pub mode: Mode,
    /// The size that SIZE has reported as held of it, in bytes.
    pub held: Option<u64>,
    /// Bytes that the client announced with ALLO.
    pub announced: Option<u64>,
    /// Line ends are converted.
    pub ascii: bool,
}

/// A download.
#[derive(Debug)]
pub struct RetrieveRequest {
    /// The file.
    pub path: VirtualPath,
    /// From which byte on.
    pub offset: u64,
    /// Line ends are converted.
    pub ascii: bool,
    /// Where the bytes go.
    pub offer: DataConnectionOffer,
}

/// A listing.
#[derive(Debug)]
pub struct ListRequest {
    /// A directory, or a file, which lists itself.
    pub path: VirtualPath,
    /// The kind of lines.
    pub format: Format,
    /// A shell pattern that names must fit, unless something has just this name.
    pub pattern: Option<String>,
    /// Stands before names in NLST.
    pub directory: String,
    /// The charset of the lines.
    pub charset: Charset,
    /// The times that clients set stand for the store's own.
    pub set_times: bool,
    /// Where the lines go; none collects a bounded number for a reply.
    pub offer: Option<DataConnectionOffer>,
}

/// The outcome of a request.
#[derive(Debug)]
pub enum StorageOutcome {
    /// Nothing more to say.
    Plain,
    /// The entry of a name.
    Entry(Entry),
    /// So many bytes are held of an upload.
    Held(u64),
    /// There was no file of the name, and what was held of an upload is given up.
    HeldDiscarded,
    /// The hashes that the store knows of a file's content, with the file's size.
    Hashes(Hashes),
    /// A rename.
    Renamed(Renamed),
    /// An upload.
    Stored(Stored),
    /// A download, with its bytes.
    Sent(u64),
    /// A listing: how many lines, and the lines themselves if no data connection took them.
    Listed {
        /// Lines.
        entries: u64,
        /// Keys that no path leads to, and so have no line.
        left_out: u64,
        /// The lines for a reply, cut after a bounded number.
        text: String,
        /// There were more.
        is_cut: bool,
    },
}

/// The storage says when it is ready, and then gets the client's data connection.
///
/// So a missing file is refused before the client expects data, and under TLS the handshake follows the 150.
#[derive(Debug)]
pub struct DataConnectionOffer {
    /// Taken when it was said.
    ready: Option<oneshot::Sender<()>>,
    data: oneshot::Receiver<DataConnection>,
}

/// The edge's end of a [`DataConnectionOffer`].
#[derive(Debug)]
pub struct OfferTicket {
    /// Resolves when the storage is ready; fails when it ended before.
    pub ready: oneshot::Receiver<()>,
    /// Takes the client's data connection. Dropping it ends the storage's wait.
    pub data: oneshot::Sender<DataConnection>,
}

impl DataConnectionOffer {
    /// An offer and its ticket.
    pub fn new() -> (DataConnectionOffer, OfferTicket) {
        let (ready, is_ready) = oneshot::channel();
        let (data, take_data) = oneshot::channel();
        (
            DataConnectionOffer {
                ready: Some(ready),
                data: take_data,
            },
            OfferTicket {
                ready: is_ready,
                data,
            },
        )
    }

    /// Says that the transfer can begin and waits for the client's data connection. `None`: the edge gave up.
    ///
    /// Cancel safe: a wait that is dropped can be taken up again. To be called until it has returned, and not after that.
    pub async fn accept(&mut self) -> Option<DataConnection> {
        if let Some(ready) = self.ready.take() {
            ready.send(()).ok()?;
        }
        (&mut self.data).await.ok()
    }
}

impl StorageRequest {
    /// The `SITE` subcommand whose handler takes it.
    pub(in crate::ftp) fn subcommand(&self) -> &'static str {
        match self {
            StorageRequest::Store(_) => "STORE",
            StorageRequest::Retrieve(_) => "RETRIEVE",
            StorageRequest::List(_) => "LIST",
            StorageRequest::SetTime(..) => "SET-TIME",
            StorageRequest::Hash(_) => "HASH",
            StorageRequest::Size(_) => "SIZE",
        }
    }

    /// True if bytes come from the client.
    pub fn is_upload(&self) -> bool {
        matches!(self, StorageRequest::Store(_))
    }

    /// Bytes that will cross the data connection, if the client has announced them.
    pub fn announced(&self) -> Option<u64> {
        match self {
            StorageRequest::Store(request) => request.file.announced,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upload drops the wait, to give memory back, and comes again.
    #[tokio::test]
    async fn a_wait_that_was_dropped_is_taken_up_again() {
        let (mut offer, ticket) = DataConnectionOffer::new();
        let OfferTicket { ready, data } = ticket;
        for _ in 0..2 {
            let waiting = offer.accept();
            let short = std::time::Duration::from_millis(10);
            assert!(tokio::time::timeout(short, waiting).await.is_err());
        }
        assert!(ready.await.is_ok(), "it was said, once");
        drop(data);
        assert!(offer.accept().await.is_none(), "the edge gave up");
    }
}
