//! The index: one redb file that knows every bucket, object, upload and part.
//!
//! One thread writes. It takes all changes that are waiting, up to a limit, puts them into one
//! transaction and answers them after the commit: a hundred small uploads at once cost one sync of
//! the index and not a hundred. Readers never wait for it.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redb::{Database, ReadableDatabase as _};
use tokio::sync::{mpsc, oneshot};

use super::blobs::{Blobs, Draft};
use super::fault::Fault;
use super::tables::{Effects, Tables, View};

/// Handle of the open index. Clones share it; it closes when the last one is gone.
#[derive(Clone)]
pub(super) struct Index {
    database: Arc<Database>,
    jobs: mpsc::Sender<Job>,
}

/// Tells when the index is closed, which is when another process may open it.
pub(super) struct Closing(Weak<Database>);

/// A change of the tables, and who waits for it.
type Job = Box<dyn FnOnce(&mut Tables<'_>) -> Ran + Send>;

/// A job that ran. `reply` says what became of the transaction.
struct Ran {
    /// The tables may be half changed, so the transaction must not be committed.
    failed: bool,
    reply: Box<dyn FnOnce(Result<(), Fault>) + Send>,
}

impl Index {
    /// Opens or creates the file and starts the writer.
    ///
    /// # Errors
    ///
    /// [`redb::DatabaseError::DatabaseAlreadyOpen`] when another process has it open.
    pub(super) fn open(path: &Path, blobs: Arc<Blobs>) -> Result<Self, redb::DatabaseError> {
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create(path)?;
        let database = Arc::new(database);
        let (jobs, queue) = mpsc::channel(BATCH);
        let writer = Writer {
            database: Arc::clone(&database),
            blobs,
        };
        std::thread::Builder::new()
            .name("embedded-index".to_owned())
            .spawn(move || writer.run(queue))?;
        Ok(Self { database, jobs })
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
        Ok(View::new(self.database.begin_read()?))
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
            let outcome = change(tables);
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
        let transaction = self.database.begin_write()?;
        drop(Tables::open(&transaction, &mut Effects::default())?);
        transaction.commit()?;
        let view = self.view()?;
        blobs.sweep(|blob| view.names(blob))
    }

    pub(super) fn closing(&self) -> Closing {
        Closing(Arc::downgrade(&self.database))
    }
}

impl Closing {
    /// Returns when the file is closed; the caller sets the time limit.
    pub(super) async fn wait(self) {
        while self.0.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
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
    database: Arc<Database>,
    blobs: Arc<Blobs>,
}

impl Writer {
    fn run(self, mut queue: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH);
        while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
            let mut effects = Effects::default();
            let mut ran = Vec::with_capacity(batch.len());
            let result = self.commit(batch.drain(..), &mut ran, &mut effects);
            // Kept after a failure too: whether a failed commit reached the disk is unknown until
            // the index is opened again, and then the sweep deletes what it does not name.
            effects.adopted.drain(..).for_each(Draft::keep);
            let failure = result.err().map(|fault| match fault {
                Fault::Index(error) => error,
                _ => Arc::new(redb::Error::TransactionPoisoned),
            });
            if failure.is_some() {
                effects.dead.clear();
            }
            for job in ran {
                (job.reply)(
                    failure
                        .clone()
                        .map_or(Ok(()), |error| Err(Fault::Index(error))),
                );
            }
            self.blobs.discard(effects.dead);
        }
    }

    /// Runs the jobs in one transaction. Jobs behind one that failed are dropped, which tells
    /// their callers that the store is out of service.
    fn commit(
        &self,
        jobs: impl Iterator<Item = Job>,
        ran: &mut Vec<Ran>,
        effects: &mut Effects,
    ) -> Result<(), Fault> {
        let transaction = self.database.begin_write()?;
        let mut tables = Tables::open(&transaction, effects)?;
        for job in jobs {
            let job = job(&mut tables);
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
