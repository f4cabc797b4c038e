//! The store of this configuration: way, credentials, clock, bucket, rights.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::events;
use super::examination::{CheckResult, Examination};
use super::random_name;
use super::reach::Site;
use super::report::Verdict;
use super::rights::{self, cut, probe_key, trouble};
use super::user_stores;
use crate::chain::Chain;
use crate::config::{Config, CredentialSource, Provider, Storage};
use crate::ftp_client::printable;
use crate::store::examine;
use crate::store::{Store, StoreError, VirtualPath};

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
    rights::examine(examination, config, &store, &key).await;
    events::outbox(examination, config, &store).await;
    user_stores::examine(examination, config, &store).await;
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

/// S3 and COS refuse requests that are so far off.
const REFUSED_SKEW: Duration = Duration::from_secs(15 * 60);

/// A machine that keeps its clock by NTP is never so far off.
const ODD_SKEW: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Outcome;

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
}
