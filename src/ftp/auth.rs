//! Who may come in: users, their rights, and the check of a password.
//!
//! Checking an argon2id hash costs some 20 MiB and tens of milliseconds by design, so a flood of logins must not run
//! as many at once as there are connections: a few threads of their own take them in turn. They are not the runtime's
//! blocking threads, of which there may be hundreds: each would keep the memory of its last check in an arena of the
//! allocator. An unknown user costs the same as a wrong password, or the time would tell which names exist.

use std::collections::HashMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;

use crate::config::{self, Permissions};
use crate::store::{Home, VirtualPath};

/// One FTP user.
#[derive(Debug)]
pub struct User {
    /// As typed after `USER`.
    pub name: String,
    /// Where the user's `/` lies.
    pub home: Home,
    /// What the user may do.
    pub permissions: Permissions,
    password_hash: SecretString,
}

/// All users, and the threads that check passwords.
#[derive(Debug)]
pub struct Users {
    by_name: HashMap<String, Arc<User>>,
    checks: SyncSender<Check>,
    decoy: SecretString,
}

/// One password to be checked.
#[derive(Debug)]
struct Check {
    hash: SecretString,
    password: SecretString,
    answer: oneshot::Sender<bool>,
}

/// A login failed. The client is told nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Unknown user or wrong password.
    #[error("user name or password is wrong")]
    Wrong,
    /// Too many other logins are being checked.
    #[error("too many logins at once")]
    Busy,
}

/// Password checks at the same time. Each takes a core and 19 MiB; two leave room for transfers on small machines.
const THREADS: usize = 2;

/// Checks that may wait for a thread.
const QUEUE: usize = 1000;

/// How long a login waits for its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

impl Users {
    /// `storage` says where homes lie.
    pub fn new(users: &[config::User], storage: &config::Storage) -> Result<Self, HashError> {
        let by_name = users.iter().map(|user| {
            let home = VirtualPath::resolve(&VirtualPath::root(), &user.home)
                .unwrap_or_else(|_| VirtualPath::root());
            let home = Home::new(&storage.prefix, &home, storage.max_key_bytes);
            let (name, permissions) = (user.name.clone(), user.permissions);
            let user = User {
                name: name.clone(),
                home,
                permissions,
                password_hash: user.password_hash.clone(),
            };
            (name, Arc::new(user))
        });
        Ok(Users {
            by_name: by_name.collect(),
            checks: start_threads(),
            decoy: hash_password(&random_password()?)?,
        })
    }

    /// Checks a password in the pool.
    pub async fn login(&self, name: &str, password: SecretString) -> Result<Arc<User>, LoginError> {
        let user = self.by_name.get(name).cloned();
        let hash = user
            .as_ref()
            .map_or(&self.decoy, |user| &user.password_hash)
            .clone();
        let (answer, answered) = oneshot::channel();
        let check = Check {
            hash,
            password,
            answer,
        };
        self.checks.try_send(check).map_err(|_| LoginError::Busy)?;
        let right = tokio::time::timeout(ANSWER_WITHIN, answered).await;
        match (right.map_err(|_| LoginError::Busy)?, user) {
            (Ok(true), Some(user)) => Ok(user),
            _ => Err(LoginError::Wrong),
        }
    }
}

/// The threads end when the last sender is dropped.
fn start_threads() -> SyncSender<Check> {
    let (sender, receiver) = sync_channel::<Check>(QUEUE);
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..THREADS {
        let receiver = Arc::clone(&receiver);
        std::thread::spawn(move || {
            loop {
                let next = receiver
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .recv();
                let Ok(check) = next else { return };
                // nobody waits for those who have left
                if !check.answer.is_closed() {
                    let _ = check.answer.send(verify(&check.hash, &check.password));
                }
            }
        });
    }
    sender
}

fn verify(hash: &SecretString, password: &SecretString) -> bool {
    let Ok(hash) = PasswordHash::new(hash.expose_secret()) else {
        return false;
    };
    Argon2::default()
        .verify_password(password.expose_secret().as_bytes(), &hash)
        .is_ok()
}

/// A password could not be hashed, or no random bytes could be had.
#[derive(Debug, thiserror::Error)]
#[error("a password could not be hashed: {0}")]
pub struct HashError(String);

/// The argon2id hash of a password with a fresh salt, in the PHC format that `users[].password_hash` takes.
pub fn hash_password(password: &SecretString) -> Result<SecretString, HashError> {
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password.expose_secret().as_bytes(), &salt);
    hash.map(|hash| hash.to_string().into())
        .map_err(|error| HashError(error.to_string()))
}

/// A password of 20 letters and digits, none of which looks like another: about 116 bits.
pub fn random_password() -> Result<SecretString, HashError> {
    const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    const LENGTH: usize = 20;
    let mut password = String::with_capacity(LENGTH);
    while password.len() < LENGTH {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| HashError(error.to_string()))?;
        // bytes over the last whole multiple would make some letters likelier
        let fair = random
            .iter()
            .filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
        let letters = fair.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
        password.extend(letters.take(LENGTH - password.len()));
    }
    Ok(password.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_only() {
        let password: SecretString = "correct horse".to_owned().into();
        let hash = hash_password(&password).expect("hashes");
        assert!(hash.expose_secret().starts_with("$argon2id$"));
        assert!(verify(&hash, &password));
        assert!(!verify(&hash, &"wrong".to_owned().into()));
        assert!(!verify(&"not a hash".to_owned().into(), &password));
    }

    #[test]
    fn random_passwords_differ() {
        let (one, other) = (
            random_password().expect("random"),
            random_password().expect("random"),
        );
        assert_eq!(one.expose_secret().len(), 20);
        assert_ne!(one.expose_secret(), other.expose_secret());
    }
}
