//! Files that change while the program runs: users, certificates, the mapping of ports.
//!
//! They are read now and then, whole and bounded, and compared by content. That is all it takes to follow a mounted
//! Kubernetes Secret, where a new version appears as another target of the symbolic link `..data`, a file that is renamed
//! into place, and one that is edited: no watch on an inode survives all three. Files that belong together, such as a
//! certificate and its key, are one [`Watched`]: nobody sees the one new and the other old.
//!
//! Invariant: what [`Watched::changed`] yields was read twice, the same both times, a moment apart.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// Stands for the content of files, of which it shows nothing: those may hold secrets.
pub type Digest = [u8; 32];

/// Far above any real configuration; keeps a path such as /dev/zero from filling memory.
const MAX_BYTES: u64 = 16 << 20;

/// The time for which content has to stay the same before it counts: a file that is being written is read half.
const STABLE_TIME: Duration = Duration::from_millis(200);

/// Files that are read again and again, together.
#[derive(Debug)]
pub struct Watched {
    paths: Vec<PathBuf>,
    interval: Duration,
    /// Of what was yielded last.
    seen: Option<Digest>,
    /// The trouble that was yielded last.
    trouble: Option<String>,
}

/// A file can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {reason}", path.display())]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// Such as "cannot be read: permission denied".
    pub reason: String,
}

/// The state of content that is loaded again when it changes; for logs, metrics and the status page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// When what is in force was loaded.
    pub since: SystemTime,
    /// Why what came later is not in force; none if nothing is wrong.
    pub failure: Option<Failure>,
}

/// The failure of the newest state, if it could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When that was found, for the first time since the last good state.
    pub since: SystemTime,
    /// The fault now; it holds no secret.
    pub error: String,
}

impl Watched {
    /// Files that are looked at every `interval`; none of them is read yet.
    pub fn new(paths: Vec<PathBuf>, interval: Duration) -> Self {
        Watched {
            paths,
            interval,
            seen: None,
            trouble: None,
        }
    }

    /// The same, for files whose content is known already.
    pub fn seen(self, digest: Digest) -> Self {
        Watched {
            seen: Some(digest),
            ..self
        }
    }

    /// The content at this moment, for those who can't wait; [`Self::changed`] goes on from there.
    pub async fn now(&mut self) -> Result<Vec<Vec<u8>>, ReadError> {
        let read = self.read().await;
        match &read {
            Ok(contents) => self.seen = Some(digest(contents)),
            Err(error) => self.trouble = Some(error.to_string()),
        }
        read
    }

    /// Waits for new content and returns it, one entry per path. Cancel safe.
    ///
    /// An error is new as well: that a file can't be read, and only once for the same reason. Afterwards even the content
    /// that was seen before counts as new, so that its return ends the trouble.
    pub async fn changed(&mut self) -> Result<Vec<Vec<u8>>, ReadError> {
        loop {
            tokio::time::sleep(self.interval).await;
            match self.read().await {
                Ok(contents) if Some(digest(&contents)) == self.seen && self.trouble.is_none() => {}
                Ok(contents) => {
                    tokio::time::sleep(STABLE_TIME).await;
                    if self.read().await.as_ref() == Ok(&contents) {
                        self.seen = Some(digest(&contents));
                        self.trouble = None;
                        return Ok(contents);
                    }
                }
                Err(error) => {
                    // a file that is replaced by hand is missing for a moment
                    tokio::time::sleep(STABLE_TIME).await;
                    let text = Some(error.to_string());
                    if self.trouble != text && self.read().await.as_ref() == Err(&error) {
                        self.trouble = text;
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Waits for the next text of the one file and returns what `make` makes of it, off the runtime's threads, since a large text takes a
    /// while. An error is why there is nothing: the file can't be read, or `make`'s own. None once `stop` is cancelled.
    pub async fn next<T: Send + 'static>(
        &mut self,
        stop: &CancellationToken,
        make: impl FnOnce(String) -> Result<T, String> + Send + 'static,
    ) -> Option<Result<T, String>> {
        let changed = tokio::select! {
            changed = self.changed() => changed,
            () = stop.cancelled() => return None,
        };
        let content = match changed {
            Ok(contents) => contents.concat(),
            Err(error) => return Some(Err(error.to_string())),
        };
        let make = move || {
            let text =
                String::from_utf8(content).map_err(|_| "the file is not UTF-8 text".to_owned())?;
            make(text)
        };
        let made = tokio::task::spawn_blocking(make).await;
        Some(made.unwrap_or_else(|error| Err(error.to_string())))
    }

    async fn read(&self) -> Result<Vec<Vec<u8>>, ReadError> {
        let paths = self.paths.clone();
        let read = move || {
            let each = paths.into_iter().map(|path| {
                read_bounded(&path).map_err(|reason| ReadError {
                    path: path.clone(),
                    reason,
                })
            });
            each.collect()
        };
        // a file on a network mount may hang: not on the runtime's threads
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|error| {
            Err(ReadError {
                path: PathBuf::new(),
                reason: format!("cannot be read: {error}"),
            })
        })
    }
}

impl Reload {
    /// Loaded now.
    pub fn now() -> Self {
        Reload {
            since: SystemTime::now(),
            failure: None,
        }
    }

    /// The same state in force, with `error` against what came later.
    pub fn failed(&mut self, error: String) {
        let since = self
            .failure
            .take()
            .map_or_else(SystemTime::now, |first| first.since);
        self.failure = Some(Failure { since, error });
    }
}

/// The digest of several contents, of which none can be taken for a part of another.
pub fn digest<B: AsRef<[u8]>>(contents: impl IntoIterator<Item = B>) -> Digest {
    let mut hash = Sha256::new();
    for content in contents {
        let content = content.as_ref();
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(content);
    }
    hash.finalize().into()
}

/// The bytes of a file of at most 16 MiB, or why there are none, in words that follow the file's name.
pub fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err("is larger than 16 MiB".to_string());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    async fn next(watched: &mut Watched) -> Result<Vec<Vec<u8>>, ReadError> {
        tokio::time::timeout(SOON, watched.changed())
            .await
            .expect("a change is seen")
    }

    /// A directory as kubelet makes it: names that point into `..data`, which points to the version in force.
    fn mount(dir: &Path, version: &str, content: [&str; 2]) {
        let data = dir.join(version);
        fs::create_dir(&data).expect("a version");
        for (name, content) in ["crt", "key"].into_iter().zip(content) {
            fs::write(data.join(name), content).expect("a file");
            let _ = symlink(Path::new("..data").join(name), dir.join(name));
        }
        symlink(version, dir.join("..data_tmp")).expect("a link");
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).expect("swapped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_swapped_secret_is_seen_whole_and_once() {
        let dir = tempfile::tempdir().expect("a directory");
        mount(dir.path(), "v1", ["crt 1", "key 1"]);
        let paths = vec![dir.path().join("crt"), dir.path().join("key")];
        let mut watched =
            Watched::new(paths, Duration::from_millis(5)).seen(digest(["crt 1", "key 1"]));
        let quiet = tokio::time::timeout(Duration::from_millis(100), watched.changed());
        assert!(quiet.await.is_err(), "nothing has changed");
        for version in 2..5 {
            let content = [format!("crt {version}"), format!("key {version}")];
            mount(
                dir.path(),
                &format!("v{version}"),
                [&content[0], &content[1]],
            );
            let seen = next(&mut watched).await.expect("readable");
            assert_eq!(seen, content.map(String::into_bytes));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_file_is_reported_once_and_its_return_as_well() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("users");
        fs::write(&path, "a").expect("written");
        let mut watched =
            Watched::new(vec![path.clone()], Duration::from_millis(5)).seen(digest(["a"]));
        fs::remove_file(&path).expect("removed");
        let error = next(&mut watched).await.expect_err("it is gone");
        assert!(error.to_string().contains("cannot be read"), "{error}");
        let quiet = tokio::time::timeout(Duration::from_millis(600), watched.changed());
        assert!(quiet.await.is_err(), "the same trouble is told once");
        fs::write(&path, "a").expect("written");
        assert_eq!(next(&mut watched).await, Ok(vec![b"a".to_vec()]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_at_once_is_not_reported_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("mapping");
        let mut watched = Watched::new(vec![path.clone()], Duration::from_millis(5));
        watched.now().await.expect_err("it is not there yet");
        let quiet = tokio::time::timeout(Duration::from_millis(600), watched.changed());
        assert!(quiet.await.is_err(), "it still isn't");
        fs::write(&path, "a").expect("written");
        assert_eq!(next(&mut watched).await, Ok(vec![b"a".to_vec()]));
        let mut watched = Watched::new(vec![path.clone()], Duration::from_millis(5));
        assert_eq!(watched.now().await, Ok(vec![b"a".to_vec()]));
        let quiet = tokio::time::timeout(Duration::from_millis(600), watched.changed());
        assert!(quiet.await.is_err(), "nothing has changed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_written_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("users");
        fs::write(&path, "").expect("written");
        let mut watched =
            Watched::new(vec![path.clone()], Duration::from_millis(5)).seen(digest([""]));
        let writer = tokio::spawn(async move {
            for length in 1..=40 {
                fs::write(&path, "x".repeat(length)).expect("written");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let seen = next(&mut watched).await.expect("readable");
        assert_eq!(seen, [vec![b'x'; 40]], "only the end counts");
        writer.await.expect("no panic");
    }

    #[test]
    fn an_endless_file_is_refused() {
        let reason = read_bounded(Path::new("/dev/zero")).expect_err("it never ends");
        assert!(reason.contains("16 MiB"));
    }

    #[test]
    fn contents_do_not_run_together() {
        assert_ne!(digest(["ab", "c"]), digest(["a", "bc"]));
        assert_ne!(digest(["a"]), digest(["a", ""]));
    }

    #[test]
    fn the_first_failure_since_the_last_good_state_counts() {
        let mut state = Reload::now();
        state.failed("one".to_owned());
        let first = state.failure.clone().expect("it failed");
        state.failed("another".to_owned());
        let last = state.failure.expect("it failed");
        assert_eq!((last.since, last.error.as_str()), (first.since, "another"));
    }
}
