//! The index: one redb file that knows every bucket, object, upload and part.
//!
//! One thread writes. It takes all changes that are waiting, up to a limit, puts them into one
//! transaction and answers them after the commit: a hundred small uploads at once cost one sync of
//! the index and not a hundred. Readers never wait for it.

use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase as _};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::blobs::{Blobs, Draft};
use super::fault::Fault;
use super::tables::{Effects, Tables, View};

/// Handle of the open index. Clones share it; it closes when the last one is gone.
#[derive(Clone)]
pub(super) struct Index {
    file: Arc<IndexFile>,
    jobs: mpsc::Sender<Job>,
}

/// The open file. Its fields are dropped in this order, so it is closed before it is said to be.
struct IndexFile {
    database: Database,
    _closed: oneshot::Sender<()>,
}

/// Tells when the index is closed, which is when another process may open it.
pub(super) struct Closing(oneshot::Receiver<()>);

/// A change of the tables, and who waits for it. Without tables it only passes the reason on.
type Job = Box<dyn FnOnce(Result<&mut Tables<'_>, Fault>) -> Ran + Send>;

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
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create(path)?;
        let (closed, closing) = oneshot::channel();
        let file = Arc::new(IndexFile {
            database,
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
        Ok(View::new(self.file.database.begin_read()?))
    }

    /// Runs `change` in the writer and returns when it is on the disk.
    ///
    /// When `change` refuses the request it must not have changed anything. A caller that goes
    /// away does not stop its change.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |tables| {
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
        self.jobs.send(job).await.map_err(|_| Fault::Stopping)?;
        answer.await.map_err(|_| Fault::Stopping)?
    }

    /// Creates the tables of a new index and deletes the bodies that the index does not name;
    /// returns how many. Only at start, from code that may block.
    pub(super) fn sweep(&self, blobs: &Blobs) -> Result<u64, Fault> {
        let transaction = self.file.database.begin_write()?;
        drop(Tables::open(&transaction, &mut Effects::default())?);
        transaction.commit()?;
        let view = self.view()?;
        blobs.sweep(|blob| view.names(blob))
    }
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
        while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
            let mut effects = Effects::default();
            let mut ran = Vec::with_capacity(batch.len());
            let mut jobs = batch.drain(..);
            let result = self.commit(&mut jobs, &mut ran, &mut effects);
            // Kept after a failure too: whether a failed commit reached the disk is unknown until
            // the index is opened again, and then the sweep deletes what it does not name.
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

    /// Runs the jobs in one transaction; stops at the first that fails.
    fn commit(
        &self,
        jobs: &mut impl Iterator<Item = Job>,
        ran: &mut Vec<Ran>,
        effects: &mut Effects,
    ) -> Result<(), Fault> {
        let transaction = self.file.database.begin_write()?;
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
    }
}

/// Pages of the index kept in memory. Listings and look-ups of a hundred thousand objects fit.
const CACHE_BYTES: usize = 16 << 20;

/// Most changes in one transaction, and most that wait for the next one.
const BATCH: usize = 256;
