//! Sources that fail, and how long what they gave is used.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials};
use axum::Router;
use axum::http::{StatusCode, Uri};

use super::renewed::Renewed;
use super::{cvm, tke};
use crate::chain::Chain;
use crate::config::{CvmRole, TkeIdentity};

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlLW9mLXRoZS1wb2Q";

/// A service that answers with `answers`, the last one again and again. Its URL, and what it was asked for.
async fn service(answers: Vec<(u16, String)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&asked);
    let app = Router::new().fallback(move |uri: Uri| async move {
        record.lock().expect("no panic").push(uri.path().to_owned());
        let mut answers = answers.lock().expect("no panic");
        let next = match answers.len() {
            1 => answers[0].clone(),
            _ => answers.pop_front().expect("an answer"),
        };
        (StatusCode::from_u16(next.0).expect("a status"), next.1)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, asked)
}

fn in_an_hour() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs() + 3600
}

fn issued() -> String {
    let expires = in_an_hour();
    format!(
        r#"{{"Response":{{"Credentials":{{"TmpSecretId":"id","TmpSecretKey":"key","Token":"session"}},"ExpiredTime":{expires},"RequestId":"r"}}}}"#
    )
}

fn refusal(code: &str, message: &str) -> String {
    format!(
        r#"{{"Response":{{"Error":{{"Code":"{code}","Message":"{message}"}},"RequestId":"r"}}}}"#
    )
}

/// Asks a token service at `url` with the token in a file of its own.
async fn exchange(url: &str) -> Result<Credentials, String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, format!("{TOKEN}\n")).expect("writes");
    let identity = TkeIdentity {
        region: "ap-shanghai".into(),
        provider_id: "cls-1".into(),
        role_arn: "qcs::cam::uin/1:roleName/r".into(),
        token_file,
        session_name: "cosgate-x".into(),
        sts_endpoint: url.to_owned(),
    };
    let source = tke::PodIdentity::new(identity);
    let issued = source.provide_credentials().await;
    issued.map_err(|error| Chain(&error).to_string())
}

async fn ask_metadata(url: &str, name: Option<&str>) -> Result<Credentials, String> {
    let source = cvm::InstanceRole::new(CvmRole {
        name: name.map(str::to_owned),
        metadata_endpoint: url.to_owned(),
    });
    let issued = source.provide_credentials().await;
    issued.map_err(|error| Chain(&error).to_string())
}

#[track_caller]
fn says(result: Result<Credentials, String>, words: &[&str]) {
    let text = result.expect_err("this is to fail");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    assert!(TOKEN.split('.').all(|part| !text.contains(part)), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn what_the_token_service_refuses_is_named_with_its_code_and_a_remedy() {
    for (answer, words) in [
        (
            refusal(
                "AuthFailure.UnauthorizedOperation",
                &format!("not for {TOKEN}"),
            ),
            &[
                "AuthFailure.UnauthorizedOperation",
                "not for ***",
                "trust policy",
            ][..],
        ),
        (
            refusal("InvalidParameter.WebIdentityTokenError", "bad audience"),
            &["bad audience", "OIDC provider"],
        ),
        (refusal("Strange", "thing"), &["refused: Strange: thing"]),
        ("<html>hunter2</html>".into(), &["storage.sts_endpoint"]),
        (
            r#"{"Response":{"Credentials":{"TmpSecretId":"hunter2"},"ExpiredTime":99999999999}}"#
                .into(),
            &["no TmpSecretKey"],
        ),
        (
            issued().replace("\"key\"", "\"hunter2\\nx\""),
            &["a TmpSecretKey that is none"],
        ),
        (
            issued().replace(&in_an_hour().to_string(), "1000000000"),
            &["expired already", "clock"],
        ),
        (
            issued().replace("\"ExpiredTime\"", "\"hunter2\""),
            &["no ExpiredTime"],
        ),
    ] {
        let (url, _) = service(vec![(200, answer)]).await;
        says(exchange(&url).await, words);
    }
}

#[tokio::test]
async fn throttling_and_failures_of_the_service_are_asked_again_and_refusals_are_not() {
    let passing = vec![
        (200, refusal("RequestLimitExceeded", "slow down")),
        (503, "hunter2".to_owned()),
        (200, issued()),
    ];
    let (url, asked) = service(passing).await;
    assert_eq!(
        exchange(&url).await.expect("third time").access_key_id(),
        "id"
    );
    assert_eq!(asked.lock().expect("no panic").len(), 3);

    let (url, asked) = service(vec![(200, refusal("AuthFailure", "no"))]).await;
    says(exchange(&url).await, &["AuthFailure"]);
    assert_eq!(asked.lock().expect("no panic").len(), 1);

    let (url, asked) = service(vec![(500, "hunter2".to_owned())]).await;
    says(
        exchange(&url).await,
        &["does not answer", "status 500", "network policy"],
    );
    assert_eq!(asked.lock().expect("no panic").len(), 3);
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let (url, _) = service(vec![(200, "x".repeat(100_000))]).await;
    says(exchange(&url).await, &["larger than 65536 bytes"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_never_answers_is_given_up_in_time() {
    // bound, and never accepted from
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let start = tokio::time::Instant::now();
    says(
        ask_metadata(&url, Some("r")).await,
        &["does not answer", "only a CVM"],
    );
    assert!(
        start.elapsed() < super::SOURCE_TIME,
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn without_a_token_there_is_no_exchange() {
    let identity = |token_file| TkeIdentity {
        region: String::new(),
        provider_id: String::new(),
        role_arn: String::new(),
        token_file,
        session_name: String::new(),
        sts_endpoint: "http://127.0.0.1:1".into(),
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("writes");
        path
    };
    for (path, word) in [
        (directory.path().join("none"), "No such file"),
        (file("empty", b" \n"), "empty"),
        (file("binary", b"\xff\xfe"), "no text"),
        (file("large", &[b'x'; 70_000]), "65536 bytes"),
    ] {
        let source = tke::PodIdentity::new(identity(path));
        let result = source.provide_credentials().await;
        let result = result.map_err(|error| Chain(&error).to_string());
        says(result, &["token file", word, "mounted"]);
    }
}

#[tokio::test]
async fn the_metadata_service_names_the_role_that_is_bound() {
    let expires = in_an_hour();
    let good = format!(
        r#"{{"TmpSecretId":"id","TmpSecretKey":"key","Token":"session","ExpiredTime":{expires},"Code":"Success"}}"#
    );
    let (url, asked) = service(vec![(200, "cosgate-cos\n".into()), (200, good.clone())]).await;
    let credentials = ask_metadata(&url, None).await.expect("issued");
    assert_eq!(credentials.session_token(), Some("session"));
    let path = "/latest/meta-data/cam/security-credentials/";
    assert_eq!(
        *asked.lock().expect("no panic"),
        [path.to_owned(), format!("{path}cosgate-cos")]
    );

    for (name, answers, words) in [
        (
            None,
            vec![(404, String::new())],
            &["404", "no CAM role is bound"][..],
        ),
        (None, vec![(200, "\n".into())], &["no CAM role"]),
        (
            None,
            vec![(200, "<html>hunter2</html>".into())],
            &["storage.metadata_endpoint"],
        ),
        (None, vec![(200, "../../x".into())], &["no name of a role"]),
        (
            Some("r"),
            vec![(404, String::new())],
            &["no CAM role named r", "storage.cvm_role"],
        ),
        (
            Some("r"),
            vec![(200, good.replace("Success", "Failed"))],
            &["Failed"],
        ),
        (
            Some("r"),
            vec![(200, "hunter2".into())],
            &["no credentials"],
        ),
        (Some("r"), vec![(403, "hunter2".into())], &["status 403"]),
    ] {
        let (url, _) = service(answers).await;
        says(ask_metadata(&url, name).await, words);
    }
}

/// A source by script: how long its credentials last, whether it fails or hangs, how often it was asked.
#[derive(Debug, Default)]
struct Script {
    lifetime: Option<Duration>,
    fails: AtomicBool,
    hangs: AtomicBool,
    asked: AtomicUsize,
}

#[derive(Debug, Clone)]
struct Scripted(Arc<Script>);

impl ProvideCredentials for Scripted {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let nth = self.0.asked.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::task::yield_now().await;
            if self.0.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if self.0.fails.load(Ordering::SeqCst) {
                return Err(CredentialsError::provider_error("out of order"));
            }
            let expiry = self.0.lifetime.map(|time| SystemTime::now() + time);
            let id = format!("id-{nth}");
            Ok(Credentials::new(id, "key", None, expiry, "script"))
        })
    }
}

fn renewed(lifetime: Option<Duration>, limit: Duration) -> (Arc<Renewed>, Arc<Script>) {
    let script = Arc::new(Script {
        lifetime,
        ..Script::default()
    });
    let source = Scripted(Arc::clone(&script));
    (Arc::new(Renewed::new("script", source, limit)), script)
}

/// Asks until `until` is true of what comes back, as the requests of a transfer do.
async fn ask_until(
    renewed: &Renewed,
    until: impl Fn(&Result<Credentials, CredentialsError>) -> bool,
) {
    for _ in 0..3000 {
        if until(&renewed.provide_credentials().await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true");
}

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_ask_at_once_share_one_fetch() {
    for lifetime in [None, Some(Duration::from_secs(3600))] {
        let (renewed, script) = renewed(lifetime, LIMIT);
        let asking = (0..100).map(|_| {
            let renewed = Arc::clone(&renewed);
            tokio::spawn(async move { renewed.provide_credentials().await.expect("issued") })
        });
        for asked in futures::future::join_all(asking).await {
            assert_eq!(asked.expect("no panic").access_key_id(), "id-1");
        }
        assert_eq!(script.asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn what_is_still_valid_is_used_while_new_ones_are_fetched() {
    let (renewed, script) = renewed(Some(Duration::from_secs(8)), LIMIT);
    renewed.provide_credentials().await.expect("issued");
    script.hangs.store(true, Ordering::SeqCst);
    // 2 s before they expire a fetch begins, and hangs
    let asked = Arc::clone(&script);
    ask_until(&renewed, |issued| {
        assert_eq!(
            issued.as_ref().expect("still valid").access_key_id(),
            "id-1"
        );
        asked.asked.load(Ordering::SeqCst) == 2
    })
    .await;
    let waiting = tokio::time::timeout(Duration::from_secs(1), renewed.provide_credentials());
    let issued = waiting.await.expect("at once").expect("still valid");
    assert_eq!(issued.access_key_id(), "id-1");
}

#[tokio::test]
async fn a_failed_renewal_is_outlived_and_tried_again() {
    let (renewed, script) = renewed(Some(Duration::from_secs(4)), LIMIT);
    renewed.provide_credentials().await.expect("issued");
    script.fails.store(true, Ordering::SeqCst);
    let asked = Arc::clone(&script);
    ask_until(&renewed, |issued| {
        assert!(issued.is_ok());
        asked.asked.load(Ordering::SeqCst) >= 3
    })
    .await;
    // not at each of the many requests meanwhile
    ask_until(&renewed, Result::is_err).await;
    let asked = script.asked.load(Ordering::SeqCst);
    assert!(asked < 25, "asked {asked} times");
    let error = renewed.provide_credentials().await.expect_err("expired");
    assert!(Chain(&error).to_string().contains("script: "), "{error:?}");
    script.fails.store(false, Ordering::SeqCst);
    renewed
        .provide_credentials()
        .await
        .expect("works again at once");
}

#[tokio::test]
async fn a_source_that_hangs_is_given_up() {
    let (renewed, script) = renewed(None, Duration::from_millis(50));
    script.hangs.store(true, Ordering::SeqCst);
    let error = renewed
        .provide_credentials()
        .await
        .expect_err("nothing came");
    assert!(
        Chain(&error).to_string().contains("nothing came within"),
        "{error:?}"
    );
}
