//! The store of this configuration, and those of its users: way, credentials, clock, bucket, rights.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::events;
use super::examination::{CheckResult, Examination};
use super::random_name;
use super::reach::Site;
use super::report::{Outcome, Verdict};
use crate::chain::Chain;
use crate::config::{Config, CredentialSource, Provider, Storage};
use crate::ftp_client::printable;
use crate::store::client::Tenant;
use crate::store::examine::{self, Right};
use crate::store::tenants::Tenants;
use crate::store::{Home, ObjectKey, Store, StoreError, VirtualPath};

/// The checks of the gateway's own store.
pub(super) const CHECKS: [&str; 15] = [
    "credentials",
    "store",
    "clock",
    "bucket",
    "put",
    "head",
    "get",
    "list",
    "multipart",
    "copy",
    "copy in parts",
    "list uploads",
    "integrity",
    "delete",
    "stores of users",
];

/// Examines the store; an error is the reason why it ends.
pub(super) async fn examine(
    examination: &mut Examination,
    config: &Config,
) -> Result<(), &'static str> {
    let storage = &config.storage;
    if storage.provider == Provider::Embedded {
        examination.note("store", data_dir(&storage.data_dir));
        return Err("the embedded store is part of the gateway; --connect examines both");
    }
    let within = examination.time_left();
    let obtained = examination.step("credentials", obtain(storage));
    obtained.await.ok_or("there are no credentials")?;
    let (url, bucket) = (storage.endpoint.as_deref(), &storage.bucket);
    let site = Site::of(url, &storage.region, storage.addressing, bucket);
    let reached = examination.step("store", site.reach());
    reached.await.ok_or("the store is not reached")?;
    let store = with_short_timeouts(config, within).await?;
    if storage.provider == Provider::Cos {
        let versioning = async { versioning(store.examine_versioning().await) };
        examination.step("versioning", versioning).await;
    }
    let mut time = None;
    let asked = async {
        let (answer, told) = store.examine_bucket().await;
        time = told;
        bucket_verdict(answer, config)
    };
    let bucket = examination.step("bucket", asked).await;
    examination.note("clock", clock(time, SystemTime::now()));
    bucket.ok_or("the bucket can't be used")?;
    let key =
        probe_key(config, &VirtualPath::root()).ok_or("no key is free under storage.prefix")?;
    rights(examination, config, &store, &key).await;
    events::outbox(examination, config, &store).await;
    users(examination, config, &store).await;
    // a multipart upload that ran out of time is still being aborted
    store.settle(within).await;
    Ok(())
}

/// COS has no conditional writes, only a header that forbids to replace an object, and that is void on a bucket that has, or
/// ever had, versioning (<https://www.tencentcloud.com/document/product/436/7749>).
fn versioning(answer: Result<Option<String>, StoreError>) -> CheckResult<()> {
    let verdict = match answer {
        Ok(None) => Verdict::ok(
            "the bucket never had versioning: COS itself sees to it that nothing is replaced unasked",
        ),
        Ok(Some(status)) => Verdict::warning(
            format!(
                "the bucket's versioning is {}, and x-cos-forbid-overwrite is void where it ever was on: two clients who store \
                 one new name at the same moment (STOU, upload.overwrite: false, users without the right to overwrite) are \
                 kept apart within one gateway only",
                printable(&status)
            ),
            "use a bucket that never had versioning, or let one gateway write to it",
        ),
        Err(error) => Verdict::skipped(format!(
            "whether the bucket ever had versioning can't be asked ({}); the right name/cos:GetBucketVersioning would do",
            printable(&Chain(&error).to_string())
        )),
    };
    (Some(()), verdict)
}

/// The gateway's own store with less patience: a doctor wants the first answer.
async fn with_short_timeouts(config: &Config, within: Duration) -> Result<Store, &'static str> {
    let mut storage = config.storage.clone();
    storage.retry.max_attempts = storage.retry.max_attempts.min(2);
    storage.retry.time_limit = storage.retry.time_limit.min(within);
    storage.request_timeout = storage.request_timeout.min(within / 2);
    storage.connect_timeout = storage.connect_timeout.min(within / 2);
    let store = Store::new(
        &storage,
        &config.upload,
        &config.download,
        config.sessions.max,
    )
    .await;
    store.map_err(
        |_| "the settings of uploads contradict each other; the gateway does not start with them",
    )
}

/// Each right, and in the end the object is gone again.
async fn rights(examination: &mut Examination, config: &Config, store: &Store, key: &ObjectKey) {
    let provider = config.storage.provider;
    let mut stored = false;
    for right in Right::ALL {
        match right {
            Right::Delete => continue,
            Right::Head | Right::Get | Right::List | Right::Copy | Right::CopyPart if !stored => {
                continue;
            }
            _ => {}
        }
        let used = async {
            let verdict = right_verdict(right, store.examine(right, key).await, provider);
            (Some(verdict.outcome), verdict)
        };
        let outcome = examination.step(name(right), used).await;
        stored |= right == Right::Put && outcome == Some(Outcome::Ok);
    }
    let proof = match stored {
        true => Verdict::ok(format!("uploads are compared by {}", store.proof())),
        false => Verdict::skipped("nothing was stored"),
    };
    examination.note("integrity", proof);
    let rest = ["head", "get", "list", "copy", "copy in parts"];
    examination.skip_rest(&rest, "nothing was stored");
    let removed = remove(store, key, stored, provider);
    examination.tidy_up("delete", removed).await;
}

/// Removes the object, and says whether it is still there.
async fn remove(store: &Store, key: &ObjectKey, stored: bool, provider: Provider) -> Verdict {
    match store.examine(Right::Delete, key).await {
        Err(StoreError::NotFound) | Ok(()) if stored => {
            Verdict::ok(format!("{} is removed", printable(key.as_str())))
        }
        // a put that was answered too late may have left something
        Err(StoreError::NotFound) | Ok(()) => Verdict::ok("nothing is left there"),
        Err(error) => {
            let mut verdict = right_verdict(Right::Delete, Err(error), provider);
            let stays = if stored { "stays" } else { "may be left" };
            verdict.finding = format!(
                "{}; the object {} {stays} there",
                verdict.finding,
                printable(key.as_str())
            );
            verdict
        }
    }
}

/// The stores of users who have their own, each with one object.
async fn users(examination: &mut Examination, config: &Config, store: &Store) {
    let file = config.users_file.iter().flat_map(|file| &file.users);
    let own =
        config.users.iter().chain(file).filter(|user| {
            user.bucket.is_some() || user.site.is_some() || user.credentials.is_some()
        });
    let tenants = Tenants::new(store.clone());
    let mut seen = HashSet::new();
    let mut left_out = 0;
    for user in own {
        let keys = user.credentials.as_ref();
        let place = (
            user.bucket.clone(),
            user.site.clone(),
            keys.map(|keys| keys.access_key_id.clone()),
        );
        if !seen.insert(place) {
            continue;
        }
        if seen.len() > MAX_USERS {
            left_out += 1;
            continue;
        }
        let tenant = Tenant {
            bucket: user.bucket.clone(),
            site: user.site.clone(),
            credentials: user.credentials.clone(),
            overwrite: user.permissions.overwrite,
        };
        let name = format!("store of {}", printable(&user.name));
        let its = tenants.store(&tenant);
        // the user's rights may end there
        let key = VirtualPath::resolve(&VirtualPath::root(), &user.home).ok();
        let Some(key) = key.and_then(|home| probe_key(config, &home)) else {
            let reason = "no key is free under storage.prefix and the user's home";
            examination.note(&name, Verdict::skipped(reason));
            continue;
        };
        let provider = config.storage.provider;
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
        (0, _) => Verdict::ok("no user has a store of the own"),
        (count, 0) => Verdict::ok(format!("{count} different ones, each with its own check")),
        (_, more) => Verdict::skipped(format!(
            "the first {MAX_USERS} are examined, {more} more are not"
        )),
    };
    examination.note("stores of users", verdict);
}

/// True if an object of a user may be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Putting {
    Not,
    Begun,
    Done,
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

async fn obtain(storage: &Storage) -> CheckResult<()> {
    let source = match (&storage.credentials, &storage.credential_source) {
        (Some(_), _) => "storage.access_key_id and storage.secret_access_key",
        (_, CredentialSource::Static) => "none",
        (_, CredentialSource::Aws) => "AWS's chain",
        (_, CredentialSource::Tke(_)) => "TKE's pod identity",
        (_, CredentialSource::Cvm(_)) => "the CVM's role",
    };
    match examine::credentials(storage).await {
        Ok(None) => (Some(()), Verdict::ok(format!("from {source}"))),
        Ok(Some(until)) => {
            let until = humantime::format_rfc3339_seconds(until);
            (
                Some(()),
                Verdict::ok(format!("from {source}, until {until}")),
            )
        }
        Err(error) => {
            let finding = format!("{source}: {}", cut(&error));
            let fix = "see \"Credentials\" in the guide (src/guide/credentials.md); storage.credentials says where they come from";
            (None, Verdict::failed(finding, fix))
        }
    }
}

/// True if the directory of the embedded store can be used.
fn data_dir(directory: &Path) -> Verdict {
    let shown = directory.display();
    // it is made at the start
    let existing = directory.ancestors().find(|path| path.is_dir());
    let existing = existing.unwrap_or(Path::new("."));
    let probe = existing.join(random_name());
    let written = std::fs::write(&probe, b"");
    let _ = std::fs::remove_file(&probe);
    match written {
        Ok(()) => Verdict::ok(format!("the embedded one, in {shown}; for trials")),
        Err(error) => Verdict::failed(
            format!("storage.data_dir = {shown} can't be written to ({error})"),
            "choose another directory, or give this user the right to write there",
        ),
    }
}

/// A key that nobody else uses, under the gateway's prefix and a home.
fn probe_key(config: &Config, home: &VirtualPath) -> Option<ObjectKey> {
    let storage = &config.storage;
    let home = Home::new(&storage.prefix, home, storage.max_key_bytes);
    let path = VirtualPath::resolve(&VirtualPath::root(), &random_name()).ok()?;
    home.key(&path).ok()
}

fn bucket_verdict(answer: Result<(), StoreError>, config: &Config) -> CheckResult<()> {
    let bucket = &config.storage.bucket;
    match answer {
        Ok(()) => (Some(()), Verdict::ok(format!("{bucket} is there"))),
        Err(error) => {
            let actions = Some(("s3:ListBucket", "name/cos:HeadBucket"));
            let verdict = trouble(bucket, &error, actions, config.storage.provider);
            // who may not ask for the bucket may still be allowed to use it
            let goes_on = Chain(&error).to_string().contains("AccessDenied");
            (goes_on.then_some(()), verdict)
        }
    }
}

fn right_verdict(right: Right, used: Result<(), StoreError>, provider: Provider) -> Verdict {
    match used {
        Ok(()) => Verdict::ok("allowed, and it works"),
        Err(error) => {
            let actions = Some(right.actions());
            let mut verdict = trouble(name(right), &error, actions, provider);
            verdict.finding.push_str(match right {
                Right::Copy => "; renames and MFMT fail",
                Right::CopyPart => "; APPE, REST with STOR, and renames of files over 5 GB fail",
                Right::ListUploads => "; uploads of gateways that died are not swept",
                Right::Put | Right::Head | Right::Get | Right::List | Right::Multipart => "",
                Right::Delete => "",
            });
            // transfers do without it
            if right == Right::ListUploads {
                verdict.outcome = Outcome::Warning;
            }
            verdict
        }
    }
}

/// The verdict on an error of the store.
fn trouble(
    what: &str,
    error: &StoreError,
    actions: Option<(&str, &str)>,
    provider: Provider,
) -> Verdict {
    let text = Chain(error).to_string();
    let has = |code: &str| text.contains(code);
    let fix = if has("NoSuchBucket") {
        "create the bucket, or correct storage.bucket (COS: name-APPID), storage.region and storage.endpoint".to_owned()
    } else if has("InvalidAccessKeyId") {
        "correct the access key: the store does not know it".to_owned()
    } else if has("SignatureDoesNotMatch") {
        "correct the secret key; a line break at its end counts, too".to_owned()
    } else if has("RequestTimeTooSkewed") {
        "set this machine's clock (NTP): the store refuses requests that are 15 minutes off"
            .to_owned()
    } else if has("PermanentRedirect") || has("AuthorizationHeaderMalformed") {
        "the bucket is in another region: correct storage.region".to_owned()
    } else if has("ExpiredToken") || has("InvalidToken") {
        "the temporary credentials are no longer valid: renew storage.session_token".to_owned()
    } else {
        match (error, actions) {
            (StoreError::Denied { .. }, Some((s3, cos))) => {
                let action = if provider == Provider::Cos { cos } else { s3 };
                format!("allow {action} for this bucket and prefix to these credentials")
            }
            (StoreError::Unavailable { .. }, _) => {
                "try again; if it stays so, look at the store's own status and quotas".to_owned()
            }
            (StoreError::Integrity { .. }, _) => {
                "something between here and the store changes what passes; if nothing does, tell the store's operator"
                    .to_owned()
            }
            _ => "look the store's code up in its manual; storage.provider may be the wrong one".to_owned(),
        }
    };
    Verdict::failed(format!("{what}: {}", cut(&text)), fix)
}

/// The error of this machine's clock.
fn clock(store: Option<SystemTime>, here: SystemTime) -> Verdict {
    let Some(store) = store else {
        return Verdict::skipped("the store told no time");
    };
    let (off, word) = match here.duration_since(store) {
        Ok(off) => (off, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    let finding = format!("{} s {word} the store's", off.as_secs());
    let fix = "set this machine's clock (NTP): requests that are 15 minutes off are refused";
    if off >= REFUSED_SKEW {
        Verdict::failed(finding, fix)
    } else if off >= ODD_SKEW {
        Verdict::warning(finding, fix)
    } else {
        Verdict::ok("this machine's and the store's agree")
    }
}

fn name(right: Right) -> &'static str {
    match right {
        Right::Put => "put",
        Right::Head => "head",
        Right::Get => "get",
        Right::List => "list",
        Right::Multipart => "multipart",
        Right::Copy => "copy",
        Right::CopyPart => "copy in parts",
        Right::ListUploads => "list uploads",
        Right::Delete => "delete",
    }
}

/// An error's text without line breaks, and no longer than one reads.
fn cut(text: &str) -> String {
    // errors of the SDK name their causes one after another
    const MAX_CHARS: usize = 400;
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_CHARS).collect()
}

/// S3 and COS refuse requests that are so far off.
const REFUSED_SKEW: Duration = Duration::from_secs(15 * 60);

/// A machine that keeps its clock by NTP is never so far off.
const ODD_SKEW: Duration = Duration::from_secs(60);

/// Stores of users that are examined; who has more of them has a monitoring, too.
const MAX_USERS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_held_against_each_other_in_both_directions() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        for (seconds, outcome) in [
            (2, Outcome::Ok),
            (90, Outcome::Warning),
            (900, Outcome::Failed),
        ] {
            let off = Duration::from_secs(seconds);
            assert_eq!(clock(Some(now - off), now).outcome, outcome, "{seconds}");
            assert_eq!(clock(Some(now + off), now).outcome, outcome, "{seconds}");
        }
        assert_eq!(clock(None, now).outcome, Outcome::Skipped);
    }

    #[test]
    fn each_code_of_the_store_has_its_remedy() {
        let denied = |code: &str| StoreError::Denied {
            operation: "PutObject",
            source: format!("service error: {code}").into(),
        };
        for (code, words) in [
            ("NoSuchBucket", "create the bucket"),
            ("InvalidAccessKeyId", "access key"),
            ("SignatureDoesNotMatch", "secret key"),
            ("RequestTimeTooSkewed", "clock"),
            ("AccessDenied", "name/cos:PutObject"),
        ] {
            let verdict = right_verdict(Right::Put, Err(denied(code)), Provider::Cos);
            let fix = verdict.fix.expect("a fix");
            assert!(fix.contains(words), "{code}: {fix}");
        }
        let sweep = right_verdict(
            Right::ListUploads,
            Err(denied("AccessDenied")),
            Provider::S3,
        );
        assert_eq!(sweep.outcome, Outcome::Warning);
    }
}
