//! Opening the data directory: `index.redb` and, beside it, the directory `blobs`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{DatabaseError, StorageError};

use super::backend::Backend;
use super::blobs::Blobs;
use super::buckets;
use super::error::EmbeddedError;
use super::fault::Fault;
use super::index::{Closing, Index, spawn_blocking};
use super::space::DiskSpace;

/// An open data directory.
pub(super) struct Opened {
    pub(super) backend: Backend,
    pub(super) closing: Closing,
    /// Bodies that nothing named, left by a crash and deleted now.
    pub(super) swept: u64,
    pub(super) space: Arc<DiskSpace>,
}

/// Opens or creates the directory and the bucket in it.
pub(super) async fn open(data_dir: PathBuf, bucket: String) -> Result<Opened, EmbeddedError> {
    let path = index_path(&data_dir);
    let unreadable = |fault: Fault| EmbeddedError::Index {
        path: path.clone(),
        source: fault.into(),
    };
    let opened = spawn_blocking(move || Ok(open_blocking(&data_dir))).await;
    let opened = opened.map_err(unreadable)??;
    let index = &opened.backend.index;
    let ensured = index.write_small(move |tables| buckets::ensure(tables, &bucket));
    ensured.await.map_err(unreadable)?;
    Ok(opened)
}

fn open_blocking(data_dir: &Path) -> Result<Opened, EmbeddedError> {
    let blobs = data_dir.join("blobs");
    let space = Arc::new(DiskSpace::new(blobs.clone()));
    let blobs = Blobs::open(blobs, Arc::clone(&space));
    let blobs = blobs.map_err(|error| unusable(data_dir, error))?;
    let path = index_path(data_dir);
    let opened = Index::open(&path, Arc::clone(&blobs));
    let (index, closing) = opened.map_err(|error| explain(data_dir, error))?;
    // Only behind the lock of the index: the drafts of another process look like orphans.
    let swept = index.sweep(&blobs).map_err(|fault| match fault {
        Fault::NoIndex => EmbeddedError::NoIndex { path },
        other => EmbeddedError::Index {
            path,
            source: other.into(),
        },
    })?;
    Ok(Opened {
        backend: Backend { index, blobs },
        closing,
        swept,
        space,
    })
}

fn explain(data_dir: &Path, error: DatabaseError) -> EmbeddedError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => EmbeddedError::InUse {
            path: data_dir.to_owned(),
        },
        // redb says InvalidData when the file is no index, and UnexpectedEof when it is too short;
        // all else is about the directory.
        DatabaseError::Storage(StorageError::Io(source))
            if !matches!(
                source.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            unusable(data_dir, source)
        }
        other => EmbeddedError::Index {
            path: index_path(data_dir),
            source: other.into(),
        },
    }
}

fn unusable(data_dir: &Path, source: io::Error) -> EmbeddedError {
    EmbeddedError::DataDir {
        path: data_dir.to_owned(),
        source,
    }
}

fn index_path(data_dir: &Path) -> PathBuf {
    data_dir.join("index.redb")
}
