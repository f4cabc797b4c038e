//! Who may come in: users, their rights, and the check of a password.
//!
//! Checking an argon2id hash costs some 20 MiB and tens of milliseconds by design, so a flood of logins must not run as
//! many at once as there are connections: a small pool takes them in turn. An unknown user costs the same as a wrong
//! password, or the time would tell which names exist.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

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

/// All users, and the pool that checks passwords.
#[derive(Debug)]
pub struct Users {
    by_name: HashMap<String, Arc<User>>,
    checks: Arc<Semaphore>,
    decoy: SecretString,
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

/// Password checks at the same time. Each holds a core and 19 MiB; two leave room for transfers on small machines.
const CHECKS: usize = 2;

/// How long a login waits for its turn.
const CHECK_WITHIN: Duration = Duration::from_secs(20);

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
            checks: Arc::new(Semaphore::new(CHECKS)),
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
        let turn =
            tokio::time::timeout(CHECK_WITHIN, Arc::clone(&self.checks).acquire_owned()).await;
        let turn = turn
            .map_err(|_| LoginError::Busy)?
            .expect("the semaphore is never closed");
        let check = tokio::task::spawn_blocking(move || {
            let right = verify(&hash, &password);
            drop(turn);
            right
        });
        match (check.await, user) {
            (Ok(true), Some(user)) => Ok(user),
            _ => Err(LoginError::Wrong),
        }
    }
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
