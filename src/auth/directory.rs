//! The users of the configuration by name, and the hashes that hide which of them exist.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use secrecy::ExposeSecret;

use crate::auth::user::{HomeDefaults, User};
use crate::config::{self, ANONYMOUS};
use crate::password::{HashError, PasswordHash, hash_password, random_password};

/// The users in force.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) by_name: HashMap<String, Arc<User>>,
    /// One hash of each cost that users have: a login that fails takes the work of all of them, whether or not there is
    /// such a user, and whatever the user's own hash costs.
    pub(super) decoys: Vec<PasswordHash>,
}

impl Directory {
    pub(super) fn new<'a>(
        users: impl Iterator<Item = &'a config::User>,
        defaults: &HomeDefaults,
    ) -> Result<Self, HashError> {
        let by_name: HashMap<String, Arc<User>> = users
            .map(|user| (user.name.clone(), Arc::new(User::new(user, defaults))))
            .collect();
        let hashes = by_name
            .values()
            .filter_map(|user| user.password_hash.as_ref());
        let mut decoys = one_of_each_cost(hashes);
        if decoys.is_empty() {
            let hash = hash_password(&random_password()?)?;
            decoys.push(PasswordHash::parse(hash.expose_secret()).expect("our own hash is one"));
        }
        Ok(Directory { by_name, decoys })
    }

    /// The anonymous user, if somebody who logs in as `name` is that: servers know it by either name, in any case (RFC 1635).
    pub(super) fn anonymous(&self, name: &str) -> Option<&Arc<User>> {
        let user = match self.by_name.get(name) {
            Some(own) => Some(own),
            None if name.eq_ignore_ascii_case(ANONYMOUS) || name.eq_ignore_ascii_case(ALIAS) => {
                self.by_name.get(ANONYMOUS)
            }
            None => None,
        };
        user.filter(|user| user.is_anonymous)
    }

    /// The name of the user whose name `name` is but for the case; if there are several, the exact one, or else always the same.
    pub(super) fn name_in_any_case(&self, name: &str) -> Option<&str> {
        if let Some((exact, _)) = self.by_name.get_key_value(name) {
            return Some(exact);
        }
        let names = self.by_name.keys().map(String::as_str);
        names.filter(|own| own.eq_ignore_ascii_case(name)).min()
    }

    /// The hashes that are computed besides `own`, so that a failed login takes the work of all.
    pub(super) fn decoys_beside(&self, own: Option<&PasswordHash>) -> Vec<PasswordHash> {
        let cost = own.map(PasswordHash::cost);
        let others = self
            .decoys
            .iter()
            .filter(|decoy| Some(decoy.cost()) != cost);
        others.cloned().collect()
    }
}

/// The other name of the anonymous user.
const ALIAS: &str = "ftp";

/// A hash of each kind and cost, the dearest first, and no more than [`MAX_COSTS`].
fn one_of_each_cost<'a>(hashes: impl Iterator<Item = &'a PasswordHash>) -> Vec<PasswordHash> {
    let by_cost: BTreeMap<&str, &PasswordHash> = hashes.map(|hash| (hash.cost(), hash)).collect();
    let mut each: Vec<PasswordHash> = by_cost.into_values().cloned().collect();
    each.sort_by_key(|hash| std::cmp::Reverse(hash.work()));
    each.truncate(MAX_COSTS);
    each
}

/// Kinds and costs of hashes that a failed login pays for. Users come from one or two other servers, each of which had one
/// cost; the cheapest of more than this don't show beside the others.
const MAX_COSTS: usize = 4;
