//! The index: one redb file that knows every bucket, object, upload and part.
//!
//! One thread writes. It takes all changes that are waiting, up to a limit, puts them into one
//! transaction and answers them after the commit: a hundred small uploads at once cost one sync of
//! the index and not a hundred. Readers never wait for it.
//!
//! After an error of the disk, redb refuses everything until the file is opened anew. That is done
//! by the next request, whichever it is, so an index that found no space works again when there is.
//!
//! Each page has a checksum, and every open verifies all of them: what a disk has damaged is an
//! error then, and never a name or a body that nobody stored. That reads the whole file, about a
//! second for a GiB.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};
use redb::{Database, ReadableDatabase as _};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::blobs::{Blobs, Draft};
use super::fault::Fault;
use super::records::BlobId;
use super::tables::{Effects, Tables, View};

/// Handle of the open index. Clones share it; it closes when the last one is gone.
#[derive(Clone)]
pub(super) struct Index {
    file: Arc<IndexFile>,
    jobs: mpsc::Sender<Job>,
}

/// The open file. Its fields are dropped in this order, so it is closed before it is said to be.
struct IndexFile {
    path: PathBuf,
    /// None after an error of the disk, until it is opened anew.
    database: RwLock<Option<Database>>,
    _closed: oneshot::Sender<()>,
}

/// Resolves when the index is closed, which is when another process may open it.
pub(super) struct Closing(oneshot::Receiver<()>);

/// A change of the tables, and who waits for it. Without tables it only passes the reason on.
type Change = Box<dyn FnOnce(Result<&mut Tables<'_>, Fault>) -> Ran + Send>;

struct Job {
    /// Not for a disk that is nearly full.
    needs_space: bool,
    change: Change,
}

/// A job that ran. `reply` says what became of the transaction.
struct Ran {
    /// The tables may be half changed, so the transaction must not be committed.
    failed: bool,
    reply: Box<dyn FnOnce(Result<(), Fault>) + Send>,
}

impl Index {
    /// Opens or creates the file and starts the writer. Must be called inside a runtime.
    ///
    /// # Errors
    ///
    /// [`redb::DatabaseError::DatabaseAlreadyOpen`] when another process has it open.
    pub(super) fn open(
        path: &Path,
        blobs: Arc<Blobs>,
    ) -> Result<(Self, Closing), redb::DatabaseError> {
        let database = open(path)?;
        let (closed, closing) = oneshot::channel();
        let file = Arc::new(IndexFile {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
            _closed: closed,
        });
        let (jobs, queue) = mpsc::channel(BATCH);
        let runtime = Handle::current();
        let writer = Writer {
            file: Arc::clone(&file),
            blobs,
            runtime,
        };
        std::thread::Builder::new()
            .name("embedded-index".to_owned())
            .spawn(move || writer.run(queue))?;
        Ok((Self { file, jobs }, Closing(closing)))
    }

    /// Runs `read` on a consistent view, on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let index = self.clone();
        spawn_blocking(move || read(&index.view()?)).await
    }

    /// A consistent view, for code that may block.
    pub(super) fn view(&self) -> Result<View, Fault> {
        self.file
            .with(|database| Ok(View::new(database.begin_read()?)))
    }

    /// Runs `change` in the writer and returns when it is on the disk.
    ///
    /// When `change` refuses the request it must not have changed anything. A caller that goes
    /// away does not stop its change.
    ///
    /// # Errors
    ///
    /// [`Fault::Full`] when the disk is nearly full.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        self.submit(true, change).await
    }

    /// As [`Self::write`], for what frees space or needs next to none: also when the disk is
    /// nearly full.
    pub(super) async fn write_small<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        self.submit(false, change).await
    }

    async fn submit<T: Send + 'static>(
        &self,
        needs_space: bool,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (reply, answer) = oneshot::channel();
        let change: Change = Box::new(move |tables| {
            let outcome = tables.and_then(change);
            let failed = !matches!(outcome, Ok(_) | Err(Fault::Refused(_)));
            let reply = move |committed: Result<(), Fault>| {
                // The receiver is gone when its client is, and then nobody needs the answer.
                let _ = reply.send(match outcome {
                    Ok(value) => committed.map(|()| value),
                    Err(fault) => Err(fault),
                });
            };
            Ran {
                failed,
                reply: Box::new(reply),
            }
        });
        let job = Job {
            needs_space,
            change,
        };
        self.jobs.send(job).await.map_err(|_| Fault::Stopping)?;
        answer.await.map_err(|_| Fault::Stopping)?
    }

    /// Creates the tables of a new index and deletes the bodies that the index does not name;
    /// returns how many. Only at start, from code that may block.
    ///
    /// # Errors
    ///
    /// [`Fault::NoIndex`] when the index is new and the bodies are not: an index that was lost must
    /// not cost the bodies, too.
    pub(super) fn sweep(&self, blobs: &Blobs) -> Result<u64, Fault> {
        // Not where they are there already: a full disk can still be read.
        match self.view()?.parts() {
            Ok(_) => {}
            Err(Fault::Index(error)) if matches!(&*error, redb::Error::TableDoesNotExist(_)) => {
                if blobs.has_bodies()? {
                    return Err(Fault::NoIndex);
                }
                self.file.with(|database| {
                    let transaction = database.begin_write()?;
                    drop(Tables::open(&transaction, &mut Effects::default())?);
                    Ok(transaction.commit()?)
                })?;
            }
            Err(fault) => return Err(fault),
        }
        let view = self.view()?;
        blobs.sweep(|blob| view.names(blob))
    }
}

impl IndexFile {
    /// Uses the database, which is opened anew if it has to be, and closed if the disk fails it.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, Fault> {
        let result = work(self.database()?.as_ref().ok_or(Fault::Stopping)?);
        if let Err(Fault::Index(error)) = &result
            && matches!(&**error, redb::Error::Io(_) | redb::Error::PreviousIo)
        {
            self.close(error);
        }
        result
    }

    fn database(&self) -> Result<RwLockReadGuard<'_, Option<Database>>, Fault> {
        let guard = self.database.read();
        if guard.is_some() {
            return Ok(guard);
        }
        drop(guard);
        let mut place = self.database.write();
        if place.is_none() {
            *place = Some(open(&self.path)?);
            info!("index of the embedded store is opened again");
        }
        drop(place);
        Ok(self.database.read())
    }

    /// Readers that are in the middle of it fail, and are asked again by their clients.
    fn close(&self, error: &redb::Error) {
        let mut place = self.database.write();
        if place.take().is_some() {
            warn!(%error, "index of the embedded store is closed, to be opened again by the next request");
        }
    }
}

fn open(path: &Path) -> Result<Database, redb::DatabaseError> {
    redb::Builder::new()
        .set_cache_size(CACHE_BYTES)
        // redb trusts a file that was closed in order, and what it finds in a damaged page may be
        // anything, also a panic of the thread that writes
        .set_check_integrity_on_open(true)
        .create(path)
}

impl Closing {
    /// Returns when the file is closed; the caller sets the time limit.
    pub(super) async fn wait(self) {
        // Nothing is ever sent: the drop of the sender is the message.
        let _ = self.0.await;
    }
}

/// Runs blocking code. It is abandoned only when the runtime itself stops.
pub(super) async fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Err(Fault::Stopping),
        },
    }
}

/// The thread that writes. It ends when every [`Index`] handle is gone.
struct Writer {
    file: Arc<IndexFile>,
    blobs: Arc<Blobs>,
    runtime: Handle,
}

impl Writer {
    fn run(self, mut queue: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH);
        // Bodies of changes that failed in the middle.
        let mut unsure = Vec::new();
        while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
            let mut effects = Effects::default();
            let mut ran = Vec::with_capacity(batch.len());
            let is_low = self.blobs.space().is_low();
            let mut jobs = batch.drain(..).filter_map(|job| {
                if is_low && job.needs_space {
                    ((job.change)(Err(Fault::Full)).reply)(Ok(()));
                    return None;
                }
                Some(job.change)
            });
            let result = self.commit(&mut jobs, &mut ran, &mut effects);
            // Kept after a failure too: whether a failed commit reached the disk is unknown until
            // the index works again.
            let adopted = effects.adopted.iter().map(Draft::blob);
            match result {
                Ok(()) => effects.dead.append(&mut self.unnamed(&mut unsure)),
                Err(_) => unsure.extend(adopted),
            }
            effects.adopted.drain(..).for_each(Draft::keep);
            let failure = result.err().map(|fault| match fault {
                Fault::Index(error) => error,
                _ => Arc::new(redb::Error::TransactionPoisoned),
            });
            let committed = || {
                failure
                    .clone()
                    .map_or(Ok(()), |error| Err(Fault::Index(error)))
            };
            // After a failure some jobs have not run, and now just learn of it.
            ran.extend(jobs.filter_map(|job| Some(job(Err(committed().err()?)))));
            for job in ran {
                (job.reply)(committed());
            }
            if failure.is_none() && !effects.dead.is_empty() {
                // Deleting large files takes a while, and the next batch is waiting.
                let blobs = Arc::clone(&self.blobs);
                self.runtime
                    .spawn_blocking(move || blobs.discard(effects.dead));
            }
        }
    }

    /// Those of `unsure` that the index does not name; it is emptied unless the index can't be asked.
    fn unnamed(&self, unsure: &mut Vec<BlobId>) -> Vec<BlobId> {
        if unsure.is_empty() {
            return Vec::new();
        }
        let view = self
            .file
            .with(|database| Ok(View::new(database.begin_read()?)));
        let unnamed: Result<Vec<BlobId>, Fault> = view.and_then(|view| {
            let mut unnamed = Vec::new();
            for blob in unsure.iter() {
                if !view.names(*blob)? {
                    unnamed.push(*blob);
                }
            }
            Ok(unnamed)
        });
        match unnamed {
            Ok(unnamed) => {
                unsure.clear();
                unnamed
            }
            // asked after the next change; at the latest the sweep at the next start finds them
            Err(_) => Vec::new(),
        }
    }

    /// Runs the jobs in one transaction; stops at the first that fails.
    fn commit(
        &self,
        jobs: &mut impl Iterator<Item = Change>,
        ran: &mut Vec<Ran>,
        effects: &mut Effects,
    ) -> Result<(), Fault> {
        self.file.with(|database| {
            let transaction = database.begin_write()?;
            let mut tables = Tables::open(&transaction, effects)?;
            for job in jobs {
                let job = job(Ok(&mut tables));
                let failed = job.failed;
                ran.push(job);
                if failed {
                    return Err(Fault::Index(Arc::new(redb::Error::TransactionPoisoned)));
                }
            }
            drop(tables);
            Ok(transaction.commit()?)
        })
    }
}

/// Pages of the index kept in memory. Listings and look-ups of a hundred thousand objects fit.
const CACHE_BYTES: usize = 16 << 20;

/// Most changes in one transaction, and most that wait for the next one.
const BATCH: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::buckets;
    use crate::store::embedded::space::DiskSpace;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_index_that_the_disk_failed_works_again_with_the_next_request() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("blobs");
        let space = Arc::new(DiskSpace::new(root.clone()));
        let blobs = Blobs::open(root, space).unwrap();
        let path = directory.path().join("index.redb");
        let (index, closing) = Index::open(&path, Arc::clone(&blobs)).unwrap();
        let ensure = |name: &'static str| {
            let ensured = index.write(move |tables| buckets::ensure(tables, name));
            async move { ensured.await.unwrap() }
        };
        ensure("one").await;
        let failure = redb::Error::Io(std::io::ErrorKind::StorageFull.into());
        for (number, second) in ["two", "three"].into_iter().enumerate() {
            // a reader of the time before holds nothing back
            let before = index.view().unwrap();
            index.file.close(&failure);
            if number == 0 {
                ensure(second).await;
            }
            let found = index.read(move |view| view.require_bucket("one")).await;
            found.unwrap();
            if number == 1 {
                ensure(second).await;
            }
            drop(before);
        }
        drop(index);
        closing.wait().await;
        let (index, _closing) = Index::open(&path, blobs).unwrap();
        for name in ["one", "two", "three"] {
            index.view().unwrap().require_bucket(name).unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_body_of_a_change_that_failed_is_deleted_once_the_index_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("blobs");
        let space = Arc::new(DiskSpace::new(root.clone()));
        let blobs = Blobs::open(root, space).unwrap();
        let path = directory.path().join("index.redb");
        let (index, _closing) = Index::open(&path, Arc::clone(&blobs)).unwrap();
        let draft = blobs.draft().unwrap();
        let blob = draft.blob();
        let failed: Result<(), Fault> = index
            .write(move |tables| {
                tables.adopt(Some(draft));
                Err(Fault::Corrupt("test"))
            })
            .await;
        assert!(matches!(failed, Err(Fault::Corrupt(_))), "{failed:?}");
        assert!(blobs.read(blob).is_ok(), "nobody knows yet");
        let ensured = index.write(|tables| buckets::ensure(tables, "one"));
        ensured.await.unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while blobs.read(blob).is_ok() {
            assert!(std::time::Instant::now() < deadline, "it stays");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}
