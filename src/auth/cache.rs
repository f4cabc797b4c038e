//! Successes that an authenticator's answer is good for: so clients with many short sessions don't load it.
//!
//! What is kept of a password is a hash under a key that lives in this process only; failures are never kept.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use lru::LruCache;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use tokio::time::Instant;

use crate::auth::user::{Peer, User};

/// Stands for everything that a login was decided by.
pub(super) type Tag = [u8; 32];

/// Successes that still hold.
pub(super) struct Cache {
    holds: Duration,
    /// Of this process only.
    key: [u8; 32],
    entries: Mutex<LruCache<Tag, (Instant, Arc<User>)>>,
}

/// Successes that are kept at most.
const ENTRIES: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

impl Cache {
    /// An empty one, in which a success holds for the time `holds`.
    pub(super) fn new(holds: Duration) -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Cache {
            holds,
            key,
            entries: Mutex::new(LruCache::new(ENTRIES)),
        })
    }

    /// The tag of a login.
    pub(super) fn tag(&self, name: &str, password: &SecretString, peer: &Peer) -> Tag {
        let mut hmac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        let address = peer.address.to_canonical().to_string();
        let cn = peer.client_cert_cn.as_deref();
        let fields = [
            name,
            password.expose_secret(),
            &address,
            if peer.tls { "tls" } else { "" },
            if cn.is_some() { "cn" } else { "" },
            cn.unwrap_or_default(),
        ];
        for field in fields {
            // with its length, no field can be taken for a part of another
            hmac.update(&(field.len() as u64).to_be_bytes());
            hmac.update(field.as_bytes());
        }
        hmac.finalize().into_bytes().into()
    }

    /// The user of a success that still holds.
    pub(super) fn get(&self, tag: &Tag) -> Option<Arc<User>> {
        let mut entries = self.entries.lock();
        match entries.get(tag) {
            Some((until, user)) if Instant::now() < *until => Some(Arc::clone(user)),
            Some(_) => {
                entries.pop(tag);
                None
            }
            None => None,
        }
    }

    /// Keeps a success.
    pub(super) fn put(&self, tag: Tag, user: Arc<User>) {
        let mut entries = self.entries.lock();
        entries.put(tag, (Instant::now() + self.holds, user));
    }
}
