//! Stores of users who have a bucket, credentials or rights of their own.
//!
//! They share everything that is one per process with the gateway's own store: connections, memory budgets, settings. One
//! is built for the first session that needs it and shared by all with the same settings; it goes with the last of them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Weak;

use parking_lot::Mutex;
use secrecy::ExposeSecret;

use crate::config::{ObjectOverrides, StaticCredentials, StoreLocation};
use crate::store::client::{Inner, Store, Tenant};

/// Hands out stores.
pub struct Tenants {
    base: Store,
    built: Mutex<HashMap<Key, Weak<Inner>>>,
    secrets: RandomState,
}

/// The identity of a store. Of secrets there is a keyed hash only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    bucket: Option<String>,
    site: Option<StoreLocation>,
    credentials: Option<(String, u64)>,
    overwrite: bool,
    objects: ObjectOverrides,
}

impl Tenants {
    /// `base` is the gateway's own store.
    pub fn new(base: Store) -> Self {
        Tenants {
            base,
            built: Mutex::default(),
            secrets: RandomState::new(),
        }
    }

    /// The store for `tenant`.
    pub fn store(&self, tenant: &Tenant) -> Store {
        if tenant.is_like(&self.base) {
            return self.base.clone();
        }
        let key = Key {
            bucket: tenant.bucket.clone(),
            site: tenant.site.clone(),
            credentials: tenant.credentials.as_ref().map(|keys| self.hashed(keys)),
            overwrite: tenant.overwrite,
            objects: tenant.objects.clone(),
        };
        // a client is built in microseconds, without a request: nobody waits long for the lock
        let mut built = self.built.lock();
        if let Some(store) = built.get(&key).and_then(Weak::upgrade) {
            return Store::from(store);
        }
        built.retain(|_, store| store.strong_count() > 0);
        let store = self.base.for_tenant(tenant);
        built.insert(key, store.downgrade());
        store
    }

    fn hashed(&self, keys: &StaticCredentials) -> (String, u64) {
        let token = keys.session_token.as_ref().map(ExposeSecret::expose_secret);
        let secret = keys.secret_access_key.expose_secret();
        (
            keys.access_key_id.clone(),
            self.secrets.hash_one((secret, token)),
        )
    }
}

impl std::fmt::Debug for Tenants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tenants")
    }
}
