//! Each right that the gateway needs on a bucket, used with one object.

use super::examination::Examination;
use super::random_name;
use super::report::{Outcome, Verdict};
use crate::chain::Chain;
use crate::config::{Config, Provider};
use crate::ftp_client::printable;
use crate::store::examine::Right;
use crate::store::{Home, ObjectKey, Store, StoreError, VirtualPath};

/// Each right, and in the end the object is gone again.
pub(super) async fn examine(
    examination: &mut Examination,
    config: &Config,
    store: &Store,
    key: &ObjectKey,
) {
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
pub(super) async fn remove(
    store: &Store,
    key: &ObjectKey,
    stored: bool,
    provider: Provider,
) -> Verdict {
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

/// A key that nobody else uses, under the gateway's prefix and a home.
pub(super) fn probe_key(config: &Config, home: &VirtualPath) -> Option<ObjectKey> {
    let storage = &config.storage;
    let home = Home::new(&storage.prefix, home, storage.max_key_bytes);
    let path = VirtualPath::resolve(&VirtualPath::root(), &random_name()).ok()?;
    home.key(&path).ok()
}

/// The verdict on the use of a right.
pub(super) fn right_verdict(
    right: Right,
    used: Result<(), StoreError>,
    provider: Provider,
) -> Verdict {
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
pub(super) fn trouble(
    what: &str,
    error: &StoreError,
    actions: Option<(&str, &str)>,
    provider: Provider,
) -> Verdict {
    let text = Chain(error).to_string();
    let has = |code: &str| text.contains(code);
    let fix = if has("NoSuchBucket") {
        "create the bucket, or correct its name (COS: name-APPID), region and endpoint".to_owned()
    } else if has("InvalidAccessKeyId") {
        "correct the access key: the store does not know it".to_owned()
    } else if has("SignatureDoesNotMatch") {
        "correct the secret key; a line break at its end counts, too".to_owned()
    } else if has("RequestTimeTooSkewed") {
        "set this machine's clock (NTP): the store refuses requests that are 15 minutes off"
            .to_owned()
    } else if has("PermanentRedirect") || has("AuthorizationHeaderMalformed") {
        "the bucket is in another region: correct its region".to_owned()
    } else if has("ExpiredToken") || has("InvalidToken") {
        "the temporary credentials are no longer valid: renew them".to_owned()
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
pub(super) fn cut(text: &str) -> String {
    // errors of the SDK name their causes one after another
    const MAX_CHARS: usize = 400;
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
