//! libunftp's storage on top of [`Store`].
//!
//! An ordinary backend: libunftp's own server can run on it, uploads and downloads included ([`StorageBackend::put`] and
//! [`StorageBackend::get`] stream through `bridge.rs`). The gateway's edge uses it in two ways: commands on names
//! (CWD, SIZE, MDTM, MKD, RMD, DELE, RNFR, RNTO) come through this trait, transfers through the handlers beside this file, which work
//! on the client's own data connection. What came of either is left in the session; libunftp learns the kind of a failure only.

use std::fmt::{self, Debug};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use libunftp::options::{Reply, ReplyCode};
use tokio::io::AsyncRead;
use tracing::Instrument;
use unftp_core::auth::DefaultUser;
use unftp_core::storage::{
    Error, ErrorKind, FEATURE_RESTART, Fileinfo, Metadata, Result as EngineResult, StorageBackend,
};

use crate::auth::{Right, Tree, hide_behind};
use crate::events::Events;
use crate::events::{EventType, Pending};
use crate::ftp::engine::bridge::{ReaderSource, download_reader};
use crate::ftp::engine::request::{IncomingFile, StorageOutcome};
use crate::ftp::reply;
use crate::ftp::session::state::Session;
use crate::store::{Entry, EntryKind, Located, Mode, Store, StoreError, StoredBy, VirtualPath};

/// Entries that [`StorageBackend::list`] returns at most, since it has to hold all of them; the edge's listings have no such limit.
const MAX_LISTED: usize = 100_000;

/// The storage of one session.
#[derive(Clone)]
pub struct Backend {
    pub(super) session: Arc<Session>,
    pub(super) tree: Tree,
    pub(super) events: Events,
}

impl Backend {
    /// `events` gets the changes.
    pub fn new(session: Arc<Session>, tree: Tree, events: Events) -> Self {
        Backend {
            session,
            tree,
            events,
        }
    }

    /// Runs one storage call and leaves what came of it in the session.
    async fn run(
        &self,
        call: impl Future<Output = Result<StorageOutcome, StoreError>>,
    ) -> EngineResult<()> {
        let at_work = self.session.begin_work();
        let outcome = call.instrument(self.session.span()).await;
        let kind = outcome.as_ref().map(drop).map_err(kind);
        self.session.report(outcome);
        drop(at_work);
        kind.map_err(Error::from)
    }

    /// Runs the storage call of a handler. The edge makes the client's reply from the outcome.
    pub(super) async fn reply(
        &self,
        call: impl Future<Output = Result<StorageOutcome, StoreError>>,
    ) -> Reply {
        match self.run(call).await {
            Ok(()) => Reply::new(ReplyCode::CommandOkay, "Done"),
            Err(_) => Reply::new(ReplyCode::LocalError, "Failed"),
        }
    }

    /// The user and client who store an object.
    pub(super) fn stored_by(&self) -> StoredBy {
        StoredBy {
            user: self.tree.user().name.clone(),
            client: self.session.peer.ip().to_canonical(),
        }
    }

    /// Waits for the store, unless the transfer is interrupted meanwhile.
    pub(super) async fn or_interrupted<T>(
        &self,
        wait: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        tokio::select! {
            biased;
            done = wait => done,
            reason = self.session.interrupted() => Err(StoreError::Interrupted(reason)),
        }
    }

    /// The edge gave the data connection up before it was handed over.
    pub(super) fn given_up(&self) -> StoreError {
        StoreError::Interrupted(self.session.interruption())
    }
}

/// Waits until a change may be made.
async fn announced(pending: &Option<Pending>) -> Result<(), StoreError> {
    match pending {
        Some(pending) => pending.announcement().ready(None).await,
        None => Ok(()),
    }
}

/// A handler was called without its request; the edge, which finds no outcome, ends the session.
pub(super) fn out_of_step() -> Reply {
    Reply::new(ReplyCode::BadCommandSequence, "No such request")
}

/// The error from which libunftp makes its own reply from, by the code that the edge replies with.
fn kind(error: &StoreError) -> ErrorKind {
    match reply::Reply::from(error).code {
        426 => ErrorKind::ConnectionClosed,
        450 => ErrorKind::TransientFileNotAvailable,
        452 => ErrorKind::InsufficientStorageSpaceError,
        550 => ErrorKind::PermanentFileNotAvailable,
        552 => ErrorKind::ExceededStorageAllocationError,
        553 => ErrorKind::FileNameNotAllowedError,
        _ => ErrorKind::LocalError,
    }
}

/// libunftp's paths are text; they are resolved here, so that nothing depends on its idea of a path.
fn resolve(path: &Path) -> Result<VirtualPath, StoreError> {
    let text = path.to_str().ok_or(StoreError::BadName(
        crate::store::NameError::ControlCharacter,
    ))?;
    Ok(VirtualPath::resolve(&VirtualPath::root(), text)?)
}

/// The facts that libunftp gets of a name.
#[derive(Debug)]
pub struct EngineMetadata(Entry);

impl Metadata for EngineMetadata {
    fn len(&self) -> u64 {
        self.0.size
    }

    fn is_dir(&self) -> bool {
        self.0.kind == EntryKind::Directory
    }

    fn is_file(&self) -> bool {
        self.0.kind == EntryKind::File
    }

    fn is_symlink(&self) -> bool {
        false
    }

    fn modified(&self) -> EngineResult<SystemTime> {
        // as in the edge's own listings, a directory without a marker has no time
        Ok(self.0.modified.unwrap_or(SystemTime::UNIX_EPOCH))
    }

    fn gid(&self) -> u32 {
        0
    }

    fn uid(&self) -> u32 {
        0
    }
}

#[async_trait]
impl StorageBackend<DefaultUser> for Backend {
    type Metadata = EngineMetadata;

    fn supported_features(&self) -> u32 {
        FEATURE_RESTART
    }

    async fn metadata<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        path: P,
    ) -> EngineResult<EngineMetadata> {
        let path = path.as_ref().to_owned();
        let mut found = None;
        let call = async {
            let entry = self.tree.entry(&resolve(&path)?).await?;
            found = Some(entry.clone());
            Ok(StorageOutcome::Entry(entry))
        };
        self.run(call).await?;
        found
            .map(EngineMetadata)
            .ok_or_else(|| Error::from(ErrorKind::LocalError))
    }

    async fn del<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        path: P,
    ) -> EngineResult<()> {
        let path = path.as_ref().to_owned();
        let call = async {
            let at = self.tree.permitted_file(&resolve(&path)?, Right::Delete)?;
            let Located { store, home, .. } = at;
            let pending = self.announce(&[EventType::Deleted], "DELE", &at, None)?;
            let deleted = store.delete(home, &at.path, announced(&pending)).await;
            self.conclude(pending, &deleted);
            if !store.holds() || !matches!(deleted, Ok(()) | Err(StoreError::NotFound)) {
                return deleted.map(|()| StorageOutcome::Plain);
            }
            let discarded = store.discard_held(&at.key()?).await?;
            match deleted {
                Err(StoreError::NotFound) if discarded => Ok(StorageOutcome::HeldDiscarded),
                deleted => deleted.map(|()| StorageOutcome::Plain),
            }
        };
        self.run(call).await
    }

    async fn mkd<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        path: P,
    ) -> EngineResult<()> {
        let path = path.as_ref().to_owned();
        let call = async {
            let path = resolve(&path)?;
            let at = self.tree.permitted(&path, Right::Write)?;
            if self.tree.user().leads_to_mount(&path) {
                return Err(StoreError::AlreadyExists);
            }
            at.store.make_directory(at.home, &at.path).await?;
            Ok(StorageOutcome::Plain)
        };
        self.run(call).await
    }

    async fn rmd<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        path: P,
    ) -> EngineResult<()> {
        let path = path.as_ref().to_owned();
        let call = async {
            let path = resolve(&path)?;
            let at = self.tree.permitted(&path, Right::Delete)?;
            self.tree.user().check_movable(&path)?;
            at.store.remove_directory(at.home, &at.path).await?;
            Ok(StorageOutcome::Plain)
        };
        self.run(call).await
    }

    async fn rename<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        from: P,
        to: P,
    ) -> EngineResult<()> {
        let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
        let call = async {
            let (from, to) = (resolve(&from)?, resolve(&to)?);
            let (source, target) = self.tree.renamed(&from, &to)?;
            let pending = self.announce(&[EventType::Renamed], "RNTO", &target, Some(&source))?;
            let ready = announced(&pending);
            let renamed = Store::rename(&source, &target, ready).await;
            self.conclude(pending, &renamed);
            renamed.map(StorageOutcome::Renamed)
        };
        self.run(call).await
    }

    async fn cwd<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        path: P,
    ) -> EngineResult<()> {
        let path = path.as_ref().to_owned();
        let call = async {
            self.tree.directory_entry(&resolve(&path)?).await?;
            Ok(StorageOutcome::Plain)
        };
        self.run(call).await
    }

    async fn put<P: AsRef<Path> + Send + Debug, R: AsyncRead + Send + Sync + Unpin + 'static>(
        &self,
        _: &DefaultUser,
        input: R,
        path: P,
        start_pos: u64,
    ) -> EngineResult<u64> {
        let path = path.as_ref().to_owned();
        let mut received = 0;
        let call = async {
            let file = IncomingFile {
                path: resolve(&path)?,
                mode: match start_pos {
                    0 => Mode::New,
                    offset => Mode::ResumeAt(offset),
                },
                held: None,
                announced: None,
                ascii: false,
            };
            let stored = self.receive(file, ReaderSource(input)).await?;
            received = stored.received;
            Ok(StorageOutcome::Stored(stored))
        };
        self.run(call).await?;
        Ok(received)
    }

    async fn get<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        path: P,
        start_pos: u64,
    ) -> EngineResult<Box<dyn AsyncRead + Send + Sync + Unpin>> {
        let path = path.as_ref().to_owned();
        let opened = async {
            let at = self.tree.permitted_file(&resolve(&path)?, Right::Read)?;
            at.store.open(&at.key()?, start_pos).await
        };
        match opened.await {
            Ok(download) => Ok(Box::new(download_reader(download))),
            Err(error) => Err(Error::from(kind(&error))),
        }
    }

    async fn list<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        path: P,
    ) -> EngineResult<Vec<Fileinfo<PathBuf, EngineMetadata>>> {
        let directory = path.as_ref().to_owned();
        let listed = async {
            let path = resolve(&directory)?;
            let at = self.tree.permitted(&path, Right::List)?;
            let names = self.tree.user().mount_names(&path);
            let mut listing = at.store.list(at.home.directory(&at.path)?);
            let mut all: Vec<Entry> = names.iter().map(|name| Entry::directory(name)).collect();
            loop {
                match listing.next_page().await {
                    Ok(Some(mut entries)) => {
                        hide_behind(&names, &mut entries);
                        all.extend(entries);
                    }
                    Ok(None) => return Ok(all),
                    Err(StoreError::NotFound) if at.path.is_root() || !names.is_empty() => {
                        return Ok(all);
                    }
                    Err(error) => return Err(error),
                }
                if all.len() > MAX_LISTED {
                    return Err(StoreError::NoMemory);
                }
            }
        };
        let all: Vec<Entry> = listed
            .await
            .map_err(|error: StoreError| Error::from(kind(&error)))?;
        let info = |entry: Entry| Fileinfo {
            path: directory.join(&entry.name),
            metadata: EngineMetadata(entry),
        };
        Ok(all.into_iter().map(info).collect())
    }
}

impl Debug for Backend {
    /// libunftp prints its storage in every one of its spans.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}
