//! The threads that check passwords.
//!
//! A check costs some 20 MiB and tens of milliseconds by design, so a flood of logins must not run as many at once as
//! there are connections: a few threads of their own take them in turn, and leave half of the cores to transfers. They
//! are not the runtime's blocking threads, of which there may be hundreds. Each keeps its memory from check to check.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::sync::oneshot;

use crate::password::{PasswordHash, Scratch};

/// Hands checks to the threads. They end when it is dropped.
#[derive(Debug)]
pub struct Pool(SyncSender<Check>);

/// The hash of a password.
#[derive(Debug)]
pub struct Hashes {
    /// The user's own; none if there is no such user.
    pub own: Option<PasswordHash>,
    /// Those that are computed as well if the login fails: so every failure takes the same work, whoever it is for.
    pub decoys: Vec<PasswordHash>,
    /// The login fails even with the right password.
    pub refused: bool,
}

/// One password to be checked.
#[derive(Debug)]
struct Check {
    hashes: Hashes,
    password: SecretString,
    answer: oneshot::Sender<bool>,
}

/// The check was not made: too many others were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// More threads would only raise the memory; four check more than 100 logins a second.
const MAX_THREADS: usize = 4;

/// Checks that may wait for a thread.
const QUEUE: usize = 1000;

/// The longest time that a login waits for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

impl Pool {
    /// Starts the threads.
    pub fn start() -> Self {
        let (sender, receiver) = sync_channel::<Check>(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..(cores / 2).clamp(1, MAX_THREADS) {
            let receiver = Arc::clone(&receiver);
            std::thread::spawn(move || {
                let mut scratch = Scratch::default();
                loop {
                    let next = receiver.lock().recv();
                    let Ok(check) = next else { return };
                    // nobody waits for those who have left
                    if !check.answer.is_closed() {
                        let right = check.hashes.verify(&check.password, &mut scratch);
                        let _ = check.answer.send(right);
                    }
                }
            });
        }
        Pool(sender)
    }

    /// True if `password` is that of the own hash.
    pub async fn check(&self, hashes: Hashes, password: SecretString) -> Result<bool, Busy> {
        let (answer, answered) = oneshot::channel();
        let check = Check {
            hashes,
            password,
            answer,
        };
        self.0.try_send(check).map_err(|_| Busy)?;
        match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
            Ok(Ok(right)) => Ok(right),
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }
}

impl Hashes {
    /// True if `password` is the right one. Without a break in the work of a login that fails: a check that waited for its
    /// turn a second time would show that there was a second one.
    fn verify(&self, password: &SecretString, scratch: &mut Scratch) -> bool {
        let own = self.own.as_ref();
        let right = own.is_some_and(|own| own.verify(password, scratch));
        if !right || self.refused {
            for decoy in &self.decoys {
                // what it says doesn't matter
                std::hint::black_box(decoy.verify(password, scratch));
            }
        }
        right
    }
}
