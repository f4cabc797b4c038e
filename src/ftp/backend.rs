//! libunftp's storage on top of [`Store`]: the session's order comes in, the outcome goes out.
//!
//! No file byte passes through libunftp: the bytes move between the store and the client's own data connection, which the
//! [`Order`] holds. Errors reach the client through the session's outcome; libunftp only learns that something failed.

use std::fmt::{self, Debug};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use tokio::io::AsyncRead;
use tracing::Instrument;
use unftp_core::auth::DefaultUser;
use unftp_core::storage::{
    Error, ErrorKind, Fileinfo, Metadata, Result as EngineResult, StorageBackend,
};

use crate::ftp::ascii::{AsciiSink, AsciiSource};
use crate::ftp::auth::{Right, User};
use crate::ftp::glob::matches;
use crate::ftp::listformat::Format;
use crate::ftp::session::{Done, Gate, Order, Session};
use crate::ftp::transfer::ClientData;
use crate::store::{
    Entry, EntryKind, Home, Intent, Interruption, Sink, Source, Store, StoreError, VirtualPath,
};

/// The storage of one session.
#[derive(Clone)]
pub struct Backend {
    session: Arc<Session>,
    store: Store,
    max_file_size: u64,
}

/// Bytes of listing lines that are gathered before they are written.
const LIST_CHUNK: usize = 16 * 1024;

/// The most lines of a listing that is sent as a reply (`STAT path`).
const REPLY_LINES: u64 = 1000;

impl Backend {
    /// `max_file_size` in bytes.
    pub fn new(session: Arc<Session>, store: Store, max_file_size: u64) -> Self {
        Backend {
            session,
            store,
            max_file_size,
        }
    }

    /// Runs one storage call and reports what came of it.
    async fn run(&self, call: impl Future<Output = Result<Done, StoreError>>) -> EngineResult<()> {
        let at_work = self.session.begin_work();
        let outcome = call.instrument(self.session.span()).await;
        // The engine must not know more than this; the edge makes the reply from the outcome.
        let told = if outcome.is_ok() {
            Ok(())
        } else {
            Err(Error::from(ErrorKind::LocalError))
        };
        self.session.report(outcome);
        drop(at_work);
        told
    }

    fn user(&self) -> Result<&User, StoreError> {
        self.session
            .user()
            .map(Arc::as_ref)
            .ok_or(StoreError::Forbidden)
    }

    /// The home of a user who has this right.
    fn home(&self, right: Right) -> Result<&Home, StoreError> {
        let user = self.user()?;
        user.may(right).map(|()| &user.home)
    }

    /// Waits for the store, unless the transfer is interrupted meanwhile.
    async fn heeding<T>(
        &self,
        wait: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        tokio::select! {
            biased;
            done = wait => done,
            reason = self.session.interrupted() => Err(StoreError::Interrupted(reason)),
        }
    }

    /// Does what the edge has ordered.
    async fn obey(&self, order: Order, path: &VirtualPath) -> Result<Done, StoreError> {
        match order {
            Order::Upload {
                start,
                announced,
                ascii,
                gate,
            } => {
                let intent = Intent {
                    start,
                    announced,
                    max_bytes: self.max_file_size,
                };
                self.upload(path, intent, ascii, gate).await
            }
            Order::Download {
                offset,
                ascii,
                gate,
            } => self.download(path, offset, ascii, gate).await,
            Order::List {
                format,
                pattern,
                directory,
                gate,
            } => {
                let outlet = Outlet::new(format, pattern, directory);
                self.list_directory(path, outlet, gate).await
            }
            Order::SetTime(time) => {
                let home = self.home(Right::Write)?;
                let entry = self.store.set_modified(home, path, time).await?;
                Ok(Done::Entry(entry))
            }
            Order::Hash => {
                let hashes = self.store.hashes(self.home(Right::Read)?, path).await?;
                Ok(Done::Hashes(hashes))
            }
        }
    }

    async fn upload(
        &self,
        path: &VirtualPath,
        intent: Intent,
        ascii: bool,
        gate: Gate,
    ) -> Result<Done, StoreError> {
        let home = self.home(Right::Write)?;
        home.check_new(path)?;
        let key = home.key(path)?;
        self.heeding(self.store.check_collision(home, path)).await?;
        let mut source = GatedSource {
            session: Arc::clone(&self.session),
            gate: Some(gate),
            data: None,
        };
        let stored = if ascii {
            let mut source = AsciiSource::new(source);
            self.store.upload(&key, intent, &mut source).await
        } else {
            self.store.upload(&key, intent, &mut source).await
        };
        let stored = stored?;
        self.store.saw_stored(&key);
        Ok(Done::Stored(stored))
    }

    async fn download(
        &self,
        path: &VirtualPath,
        offset: u64,
        ascii: bool,
        gate: Gate,
    ) -> Result<Done, StoreError> {
        let key = self.home(Right::Read)?.key(path)?;
        let download = match self.heeding(self.store.open(&key, offset)).await {
            Err(StoreError::NotFound) => {
                let home = self.home(Right::Read)?;
                self.heeding(self.store.directory_entry(home, path)).await?;
                return Err(StoreError::IsDirectory);
            }
            download => download?,
        };
        let mut data = gate.open().await.ok_or_else(|| self.given_up())?;
        // of text nobody knows how many bytes will cross the wire
        if let Some(size) = download.object_size().filter(|_| !ascii) {
            data.transfer().expect(size.saturating_sub(offset));
        }
        let sent = if ascii {
            download.send(&mut AsciiSink::new(&mut data)).await?
        } else {
            download.send(&mut data).await?
        };
        data.transfer()
            .commit(false)
            .await
            .map_err(StoreError::Interrupted)?;
        data.close().await.map_err(StoreError::Interrupted)?;
        Ok(Done::Sent(sent))
    }

    /// The edge gave the data connection up before it was handed over.
    fn given_up(&self) -> StoreError {
        StoreError::Interrupted(self.session.interruption())
    }

    async fn list_directory(
        &self,
        path: &VirtualPath,
        mut outlet: Outlet,
        gate: Option<Gate>,
    ) -> Result<Done, StoreError> {
        let home = self.home(Right::List)?;
        let literal = match &outlet.pattern {
            Some(pattern) => self.named_literally(home, path, pattern).await?,
            None => None,
        };
        let path = match &literal {
            Some(named) => {
                outlet.directory += &format!("{}/", named.name());
                outlet.pattern = None;
                named
            }
            None => path,
        };
        let mut listing = self.store.list(home.directory(path)?);
        let mut page = match self.heeding(listing.next_page()).await {
            Err(StoreError::NotFound) if path.is_root() => Some(Vec::new()),
            // not a directory: a file lists itself, under the name that the client gave
            Err(StoreError::NotFound) => {
                let end = outlet.directory.trim_end_matches('/').rfind('/');
                outlet.directory.truncate(end.map_or(0, |at| at + 1));
                let file = self.heeding(self.store.file_entry(home, path)).await?;
                if matches!(outlet.format, Format::Facts(_)) {
                    return Err(StoreError::NotADirectory);
                }
                Some(vec![file])
            }
            page => page?,
        };
        if let Some(gate) = gate {
            outlet.data = Some(gate.open().await.ok_or_else(|| self.given_up())?);
        }
        while let Some(entries) = page {
            for entry in &entries {
                outlet.line(entry).await?;
            }
            page = if outlet.is_cut {
                None
            } else {
                self.heeding(listing.next_page()).await?
            };
        }
        outlet.left_out = listing.left_out();
        outlet.finish().await
    }

    /// What has the name of a pattern, such as a file `a[1].txt`: it is what the client means.
    async fn named_literally(
        &self,
        home: &Home,
        directory: &VirtualPath,
        pattern: &str,
    ) -> Result<Option<VirtualPath>, StoreError> {
        let named = VirtualPath::resolve(directory, pattern)?;
        // one request where there is no such name, which is nearly always
        if !self.heeding(self.store.any_begins(home, &named)).await? {
            return Ok(None);
        }
        match self.heeding(self.store.entry(home, &named)).await {
            Ok(_) => Ok(Some(named)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The edge sends absolute paths; they are resolved again, so that nothing depends on the engine's idea of a path.
fn resolve(path: &Path) -> Result<VirtualPath, StoreError> {
    let text = path.to_str().ok_or(StoreError::BadName(
        crate::store::NameError::ControlCharacter,
    ))?;
    Ok(VirtualPath::resolve(&VirtualPath::root(), text)?)
}

/// The client's data connection, asked for at the first byte: what can fail before, fails before the client hears a 150.
struct GatedSource {
    session: Arc<Session>,
    gate: Option<Gate>,
    data: Option<ClientData>,
}

impl Source for GatedSource {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Interruption> {
        if let Some(gate) = self.gate.take() {
            self.data = gate.open().await;
        }
        match &mut self.data {
            Some(data) => data.read(buffer).await,
            None => Err(self.session.interruption()),
        }
    }

    async fn commit(&mut self) -> Result<(), Interruption> {
        match &mut self.data {
            Some(data) => data.commit().await,
            None => Err(self.session.interruption()),
        }
    }

    async fn interrupted(&self) -> Interruption {
        match &self.data {
            Some(data) => Source::interrupted(data).await,
            None => self.session.interrupted().await,
        }
    }
}

/// Where the lines of a listing go.
struct Outlet {
    format: Format,
    pattern: Option<String>,
    directory: String,
    now: SystemTime,
    text: String,
    entries: u64,
    /// Entries were left out, since a reply has no room for more.
    is_cut: bool,
    left_out: u64,
    data: Option<ClientData>,
}

impl Outlet {
    fn new(format: Format, pattern: Option<String>, directory: String) -> Self {
        Outlet {
            format,
            pattern,
            directory,
            now: SystemTime::now(),
            text: String::new(),
            entries: 0,
            is_cut: false,
            left_out: 0,
            data: None,
        }
    }

    async fn line(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let pattern = self.pattern.as_deref();
        if pattern.is_some_and(|pattern| !matches(pattern, &entry.name)) {
            return Ok(());
        }
        if self.data.is_none() && self.entries >= REPLY_LINES {
            self.is_cut = true;
            return Ok(());
        }
        self.format
            .line(entry, &self.directory, self.now, &mut self.text);
        self.entries += 1;
        if self.text.len() >= LIST_CHUNK
            && let Some(data) = &mut self.data
        {
            data.write(self.text.as_bytes())
                .await
                .map_err(StoreError::Interrupted)?;
            self.text.clear();
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Done, StoreError> {
        if let Some(mut data) = self.data.take() {
            data.write(self.text.as_bytes())
                .await
                .map_err(StoreError::Interrupted)?;
            data.transfer()
                .commit(false)
                .await
                .map_err(StoreError::Interrupted)?;
            data.close().await.map_err(StoreError::Interrupted)?;
            self.text.clear();
        }
        Ok(Done::Listed {
            entries: self.entries,
            left_out: self.left_out,
            text: self.text,
            is_cut: self.is_cut,
        })
    }
}

/// What libunftp gets to see of a name; nothing, when it brought an order.
#[derive(Debug)]
pub struct EngineMetadata(Option<Entry>);

impl EngineMetadata {
    fn is(&self, kind: EntryKind) -> bool {
        self.0.as_ref().is_some_and(|entry| entry.kind == kind)
    }
}

impl Metadata for EngineMetadata {
    fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, |entry| entry.size)
    }

    fn is_dir(&self) -> bool {
        self.is(EntryKind::Directory)
    }

    fn is_file(&self) -> bool {
        self.is(EntryKind::File)
    }

    fn is_symlink(&self) -> bool {
        false
    }

    fn modified(&self) -> EngineResult<SystemTime> {
        let modified = self.0.as_ref().and_then(|entry| entry.modified);
        Ok(modified.unwrap_or(SystemTime::UNIX_EPOCH))
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

    async fn metadata<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        path: P,
    ) -> EngineResult<EngineMetadata> {
        let path = path.as_ref().to_owned();
        let mut found = None;
        let call = async {
            let path = resolve(&path)?;
            match self.session.take_order() {
                Some(order) => self.obey(order, &path).await,
                None => {
                    let entry = self.store.entry(&self.user()?.home, &path).await?;
                    found = Some(entry.clone());
                    Ok(Done::Entry(entry))
                }
            }
        };
        self.run(call).await?;
        Ok(EngineMetadata(found))
    }

    async fn del<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        path: P,
    ) -> EngineResult<()> {
        let path = path.as_ref().to_owned();
        let call = async {
            self.store
                .delete(self.home(Right::Delete)?, &resolve(&path)?)
                .await?;
            Ok(Done::Plain)
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
            self.store
                .make_directory(self.home(Right::Write)?, &resolve(&path)?)
                .await?;
            Ok(Done::Plain)
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
            self.store
                .remove_directory(self.home(Right::Delete)?, &resolve(&path)?)
                .await?;
            Ok(Done::Plain)
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
            let home = self.home(Right::Rename)?;
            let renamed = self
                .store
                .rename(home, &resolve(&from)?, &resolve(&to)?)
                .await?;
            Ok(Done::Renamed(renamed))
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
            self.store
                .directory_entry(&self.user()?.home, &resolve(&path)?)
                .await?;
            Ok(Done::Plain)
        };
        self.run(call).await
    }

    // The edge never sends what would call these three: it sends no command that needs a data connection.

    async fn put<P: AsRef<Path> + Send + Debug, R: AsyncRead + Send + Sync + Unpin + 'static>(
        &self,
        _: &DefaultUser,
        _: R,
        _: P,
        _: u64,
    ) -> EngineResult<u64> {
        Err(Error::from(ErrorKind::CommandNotImplemented))
    }

    async fn get<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        _: P,
        _: u64,
    ) -> EngineResult<Box<dyn AsyncRead + Send + Sync + Unpin>> {
        Err(Error::from(ErrorKind::CommandNotImplemented))
    }

    async fn list<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        _: P,
    ) -> EngineResult<Vec<Fileinfo<PathBuf, EngineMetadata>>> {
        Err(Error::from(ErrorKind::CommandNotImplemented))
    }
}

impl Debug for Backend {
    /// libunftp prints its storage in every one of its spans.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}
