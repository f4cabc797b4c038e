//! The stores of users who have their own, for the home or for a mount, and the settings for what they store.

use std::collections::HashSet;

use super::examination::Examination;
use super::report::Verdict;
use super::rights::{probe_key, remove, right_verdict, trouble};
use crate::config::{self, Config, Provider};
use crate::ftp_client::printable;
use crate::store::client::Tenant;
use crate::store::examine::Right;
use crate::store::tenants::Tenants;
use crate::store::{ObjectKey, Store, VirtualPath};

/// The stores of users who have their own, each with one object.
pub(super) async fn examine(examination: &mut Examination, config: &Config, store: &Store) {
    let file = config.users_file.iter().flat_map(|file| &file.users);
    let own = config.users.iter().chain(file).flat_map(places);
    let own = own.filter(|(_, place)| {
        let is_elsewhere =
            place.bucket.is_some() || place.site.is_some() || place.credentials.is_some();
        is_elsewhere || place.permissions.write && place.upload.objects.say_how_to_store()
    });
    let tenants = Tenants::new(store.clone());
    let mut seen = HashSet::new();
    let mut left_out = 0;
    for (name, place) in own {
        let keys = place.credentials.as_ref();
        let identity = (
            place.bucket.clone(),
            place.site.clone(),
            keys.map(|keys| keys.access_key_id.clone()),
            place.permissions.write,
            place.upload.objects.clone(),
        );
        if !seen.insert(identity) {
            continue;
        }
        if seen.len() > MAX_USERS {
            left_out += 1;
            continue;
        }
        let name = format!("store of {}", printable(&name));
        let its = tenants.store(&Tenant::of(place.clone()));
        let provider = config.storage.provider;
        if !place.permissions.write {
            // its keys may allow no more than that
            let asked = async { (Some(()), answers(&its, provider).await) };
            examination.step(&name, asked).await;
            continue;
        }
        // the user's rights may end there
        let key = VirtualPath::resolve(&VirtualPath::root(), &place.home).ok();
        let Some(key) = key.and_then(|home| probe_key(config, &home)) else {
            let reason = "no key is free under storage.prefix and the user's home";
            examination.note(&name, Verdict::skipped(reason));
            continue;
        };
        let mut put = Putting::Not;
        let examined = async {
            let verdict = of_user(&its, &key, &mut put, provider).await;
            (Some(()), verdict)
        };
        examination.step(&name, examined).await;
        if put != Putting::Not {
            // what it stored before it failed or ran out of time
            let removed = remove(&its, &key, put == Putting::Done, provider);
            let name = format!("{name}, delete");
            examination.tidy_up(&name, removed).await;
        }
    }
    let verdict = match (seen.len(), left_out) {
        (0, _) => Verdict::ok("no user has a store, or settings for new objects, of the own"),
        (count, 0) => Verdict::ok(format!("{count} different ones, each with its own check")),
        (_, more) => Verdict::skipped(format!(
            "the first {MAX_USERS} are examined, {more} more are not"
        )),
    };
    examination.note("stores of users", verdict);
}

/// The home of a user and the mounts in it, each with a name for reports.
fn places(user: &config::User) -> impl Iterator<Item = (String, config::Mount)> {
    user.places().map(|place| {
        let name = match place.path.as_str() {
            "/" => user.name.clone(),
            path => format!("{} at {path}", user.name),
        };
        (name, place)
    })
}

/// True if an object of a user may be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Putting {
    Not,
    Begun,
    Done,
}

/// The bucket of somebody who stores nothing in it.
async fn answers(store: &Store, provider: Provider) -> Verdict {
    match store.examine_bucket().await.0 {
        Ok(()) => Verdict::ok(
            "the bucket answers; nothing is stored there without the permission to write",
        ),
        Err(error) => trouble("HeadBucket", &error, None, provider),
    }
}

async fn of_user(store: &Store, key: &ObjectKey, put: &mut Putting, provider: Provider) -> Verdict {
    if let (Err(error), _) = store.examine_bucket().await {
        return trouble("HeadBucket", &error, None, provider);
    }
    for right in [
        Right::Put,
        Right::Get,
        Right::List,
        Right::Copy,
        Right::CopyPart,
        Right::Delete,
    ] {
        if right == Right::Put {
            *put = Putting::Begun;
        }
        if let Err(error) = store.examine(right, key).await {
            return right_verdict(right, Err(error), provider);
        }
        match right {
            Right::Put => *put = Putting::Done,
            Right::Delete => *put = Putting::Not,
            _ => {}
        }
    }
    Verdict::ok("the bucket answers, and takes, gives back, lists, copies and removes an object")
}

/// Stores of users that are examined; who has more of them has a monitoring, too.
const MAX_USERS: usize = 20;
