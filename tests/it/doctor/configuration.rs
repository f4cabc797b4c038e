//! A configuration, examined where it is used.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime};

use cosgate::config::load_from;
use cosgate::doctor::{Limits, Outcome, Report, examine_configuration};
use serde_json::json;
use tokio::net::TcpListener;

use super::{check, expect, expect_sound};
use crate::support::cos::CosDouble;
use crate::support::faults::Fault;
use crate::support::proxy::Proxy;
use crate::support::tls::Authority;
use crate::support::{Absent, Consumer, KubeApi, TestGateway, TestStore, users};

/// Four passive ports for each examination: two at once would take them from each other.
static NEXT_PORT: AtomicU16 = AtomicU16::new(18_000);

/// Examines what a gateway with these settings would find; of two with one key the later one holds.
pub async fn examine(settings: &[String]) -> Report {
    let port = NEXT_PORT.fetch_add(4, Ordering::Relaxed);
    let own = [
        "LISTEN=127.0.0.1:0".to_owned(),
        "ADMIN__LISTEN=off".to_owned(),
        format!("PASSIVE__PORTS={port}-{}", port + 3),
    ];
    let env = own.iter().chain(settings).map(|setting| {
        let (key, value) = setting.split_once('=').expect("KEY=value");
        (format!("COSGATE_{key}"), value.to_owned())
    });
    let env: std::collections::HashMap<String, String> = env.collect();
    let loaded = load_from(None, env).expect("a good configuration");
    examine_configuration(&loaded, Limits::within(Duration::from_secs(120))).await
}

async fn store(more: &[&str]) -> (TestStore, Proxy, Vec<String>) {
    let (store, proxy, mut settings) = TestStore::behind_proxy().await;
    settings.push("STORAGE__RETRY__MAX_ATTEMPTS=1".to_owned());
    settings.extend(more.iter().map(|setting| (*setting).to_owned()));
    (store, proxy, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn versioning_of_a_cos_bucket_voids_its_header_and_that_is_said() {
    let cos = CosDouble::start().await;
    let settings = [
        "STORAGE__PROVIDER=cos".to_owned(),
        "STORAGE__BUCKET=files-1250000000".to_owned(),
        "STORAGE__REGION=ap-guangzhou".to_owned(),
        format!("STORAGE__ENDPOINT=http://{}", cos.address),
        "STORAGE__ACCESS_KEY_ID=AKIDEXAMPLE".to_owned(),
        "STORAGE__SECRET_ACCESS_KEY=secret".to_owned(),
        "STORAGE__RETRY__MAX_ATTEMPTS=1".to_owned(),
        format!("USERS={}", users(&["name: a"])),
    ];
    let report = examine(&settings).await;
    expect(
        &report,
        "versioning",
        Outcome::Ok,
        &["never had versioning"],
    );
    for status in ["Enabled", "Suspended"] {
        *cos.state.versioning.lock().expect("not poisoned") = Some(status);
        let report = examine(&settings).await;
        let said = [
            status,
            "x-cos-forbid-overwrite is void",
            "a bucket that never had versioning",
        ];
        expect(&report, "versioning", Outcome::Warning, &said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_and_the_outbox_are_tried_and_nothing_is_published() {
    let (consumer, address) = Consumer::start().await;
    let (_absent, nowhere) = Absent::new();
    let sinks = format!(
        "EVENTS__SINKS=[{{name: here, url: 'http://{address}/hook'}}, {{name: gone, url: 'http://{nowhere}/hook'}}]"
    );
    let (store, proxy, settings) = store(&[&sinks, "EVENTS__DELIVERY=durable"]).await;
    let report = examine(&settings).await;
    expect(&report, "sink here", Outcome::Ok, &["reached"]);
    expect(&report, "sink gone", Outcome::Failed, &["events.sinks"]);
    let said = ["below .cosgate/outbox/", "no path of a client"];
    expect(&report, "outbox", Outcome::Ok, &said);
    expect(&report, "outbox, delete", Outcome::Ok, &[]);
    assert_eq!(store.keys().await, Vec::<String>::new());
    assert!(consumer.taken().is_empty());
    proxy.choose_faults(|operation, key| {
        let is_entry = operation == "PutObject" && key.starts_with(".cosgate/");
        is_entry.then(|| Fault::refuse(403, "AccessDenied"))
    });
    let report = examine(&settings).await;
    expect(&report, "outbox", Outcome::Failed, &["s3:PutObject", "451"]);
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_store_is_sound_and_nothing_is_left_there() {
    let (store, _proxy, settings) = store(&["STORAGE__PREFIX=below/"]).await;
    let report = examine(&settings).await;
    expect_sound(&report);
    for name in [
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
        "passive ports",
    ] {
        expect(&report, name, Outcome::Ok, &[]);
    }
    expect(&report, "integrity", Outcome::Ok, &["CRC-64/NVME"]);
    expect(&report, "delete", Outcome::Ok, &["below/.cosgate-doctor-"]);
    assert!(store.keys().await.is_empty());
    assert_eq!(store.unfinished().await, 0);
    let json = report.json();
    for key in store.keys_of_outside() {
        assert!(!json.contains(&key), "{json}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_buckets_and_addresses_are_distinguished() {
    let (_store, _proxy, settings) = store(&[]).await;
    let with = |more: &str| [&settings[..], &[more.to_owned()]].concat();

    let report = examine(&with("STORAGE__SECRET_ACCESS_KEY=wrong")).await;
    expect(
        &report,
        "bucket",
        Outcome::Failed,
        &["SignatureDoesNotMatch", "secret key"],
    );
    expect(&report, "put", Outcome::Skipped, &["bucket"]);
    assert_eq!(report.outcome(), Outcome::Failed);

    let report = examine(&with("STORAGE__ACCESS_KEY_ID=unknown")).await;
    assert_eq!(
        check(&report, "bucket").outcome,
        Outcome::Failed,
        "{report}"
    );

    let report = examine(&with("STORAGE__BUCKET=missing")).await;
    expect(
        &report,
        "bucket",
        Outcome::Failed,
        &["NoSuchBucket", "create the bucket"],
    );

    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let nobody = closed.local_addr().expect("bound");
    drop(closed);
    let report = examine(&with(&format!("STORAGE__ENDPOINT=http://{nobody}"))).await;
    expect(
        &report,
        "store",
        Outcome::Failed,
        &["connection refused", "storage.endpoint"],
    );
    expect(&report, "bucket", Outcome::Skipped, &["not reached"]);

    let report = examine(&with("STORAGE__ENDPOINT=http://store.invalid")).await;
    expect(
        &report,
        "store",
        Outcome::Failed,
        &["store.invalid", "does not resolve"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_speaks_no_tls_or_shows_a_strange_certificate_is_reported() {
    let (_store, proxy, settings) = store(&[]).await;
    let endpoint = format!("STORAGE__ENDPOINT=https://{}", proxy.address());
    let report = examine(&[&settings[..], &[endpoint]].concat()).await;
    expect(
        &report,
        "store",
        Outcome::Failed,
        &["TLS handshake fails", "https"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_that_is_missing_is_named_and_nothing_is_left() {
    let (store, proxy, settings) = store(&[]).await;
    let now = humantime_date(SystemTime::now());
    let copies = "x-amz-copy-source";
    for (name, method, query, header, right) in [
        ("put", "PUT ", "", "", "s3:PutObject"),
        ("get", "GET ", "x-id=GetObject", "", "s3:GetObject"),
        (
            "multipart",
            "POST ",
            "uploads",
            "",
            "s3:AbortMultipartUpload",
        ),
        ("copy", "PUT ", "x-id=CopyObject", copies, "s3:PutObject"),
        (
            "copy in parts",
            "PUT ",
            "partNumber=1",
            copies,
            "s3:PutObject",
        ),
        (
            "list uploads",
            "GET ",
            "uploads",
            "",
            "s3:ListBucketMultipartUploads",
        ),
    ] {
        proxy.refuse_if((403, "AccessDenied", &now), move |head| {
            let line = head.lines().next().unwrap_or_default();
            line.starts_with(method) && line.contains(query) && head.contains(header)
        });
        let report = examine(&settings).await;
        let outcome = match name {
            "list uploads" => Outcome::Warning,
            _ => Outcome::Failed,
        };
        expect(&report, name, outcome, &["AccessDenied", right]);
        proxy.fail_if(|_| false);
        assert!(store.keys().await.is_empty(), "{name}");
        assert_eq!(store.unfinished().await, 0, "{name}");
    }
    // who may not ask for the bucket may still be allowed to use it
    proxy.refuse_if((403, "AccessDenied", &now), |head| {
        !head.contains(".cosgate-doctor-")
    });
    let report = examine(&settings).await;
    let words = ["AccessDenied", "s3:ListBucket"];
    expect(&report, "bucket", Outcome::Failed, &words);
    expect(&report, "put", Outcome::Ok, &[]);
    proxy.refuse_if((403, "AccessDenied", &now), |head| {
        head.starts_with("DELETE /cosgate/.cosgate-doctor")
    });
    let report = examine(&settings).await;
    expect(
        &report,
        "delete",
        Outcome::Failed,
        &["s3:DeleteObject", "stays there"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_reported() {
    let (_store, proxy, settings) = store(&[]).await;
    let date = humantime_date(SystemTime::now() - Duration::from_secs(3600));
    proxy.refuse_if((403, "RequestTimeTooSkewed", &date), |_| true);
    let report = examine(&settings).await;
    expect(
        &report,
        "bucket",
        Outcome::Failed,
        &["RequestTimeTooSkewed", "NTP"],
    );
    expect(&report, "clock", Outcome::Failed, &["ahead of", "NTP"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_of_users_are_examined_too() {
    let (store, proxy, settings) = store(&[]).await;
    store.create_bucket("second").await;
    let list = users(&[
        "name: common",
        "name: good, bucket: second, home: /in",
        "name: same, bucket: second",
        "name: bad, bucket: missing",
        "name: many, home: /h, mounts: [{path: /seen, bucket: second, permissions: R}, {path: /kept, bucket: third}]",
    ]);
    let report = examine(&[&settings[..], &[format!("USERS={list}")]].concat()).await;
    expect(&report, "store of good", Outcome::Ok, &[]);
    expect(&report, "store of bad", Outcome::Failed, &["NoSuchBucket"]);
    // where nobody stores anything, neither does the doctor
    let read_only = ["nothing is stored"];
    expect(&report, "store of many at /seen", Outcome::Ok, &read_only);
    let missing = ["NoSuchBucket"];
    expect(&report, "store of many at /kept", Outcome::Failed, &missing);
    expect(&report, "stores of users", Outcome::Ok, &["4 different"]);
    assert!(
        !report
            .checks
            .iter()
            .any(|check| check.name == "store of same")
    );
    let seen = proxy.take_requests();
    let below = |head: &&String| head.starts_with("PUT /second/in/.cosgate-doctor-");
    assert!(seen.iter().any(|head| below(&head)), "under the home");
    // the object that stays is named
    let now = humantime_date(SystemTime::now());
    proxy.refuse_if((403, "AccessDenied", &now), |head| {
        let line = head.lines().next().unwrap_or_default();
        line.starts_with("DELETE /second/") && !line.contains("uploadId")
    });
    let report = examine(&[&settings[..], &[format!("USERS={list}")]].concat()).await;
    expect(
        &report,
        "store of good",
        Outcome::Failed,
        &["s3:DeleteObject"],
    );
    let words = ["the object in/.cosgate-doctor-", "stays there"];
    expect(&report, "store of good, delete", Outcome::Failed, &words);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_for_what_a_user_stores_are_tried() {
    let (_store, _proxy, settings) = store(&[]).await;
    let list = users(&[
        "name: common, upload: {on_interrupt: discard}",
        "name: cold, home: /in, upload: {storage_class: STANDARD_IA, tags: [a=b]}",
        "name: wrong, home: /h, mounts: [{path: /m, home: /m, upload: {storage_class: NONSENSE}}]",
    ]);
    let report = examine(&[&settings[..], &[format!("USERS={list}")]].concat()).await;
    expect(&report, "store of cold", Outcome::Ok, &[]);
    let words = ["InvalidStorageClass"];
    expect(&report, "store of wrong at /m", Outcome::Failed, &words);
    expect(&report, "stores of users", Outcome::Ok, &["2 different"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_that_are_trusted_are_named_and_everybody_is_warned_of() {
    let (_store, _proxy, settings) = store(&[]).await;
    let with = async |trusted: &str, masquerade: &str| {
        let trusted = format!("PROXY_PROTOCOL__TRUSTED={trusted}");
        let masquerade = format!("PROXY_PROTOCOL__MASQUERADE={masquerade}");
        examine(&[&settings[..], &[trusted, masquerade]].concat()).await
    };
    let report = examine(&settings).await;
    expect(&report, "proxies", Outcome::Skipped, &["no PROXY header"]);
    let report = with("192.0.2.10,10.1.0.0/16", "true").await;
    let words = ["192.0.2.10/32, 10.1.0.0/16", "every passive port"];
    expect(&report, "proxies", Outcome::Ok, &words);
    let words = ["by their connection's PROXY header"];
    expect(&report, "public address", Outcome::Ok, &words);
    let report = with("0.0.0.0/0", "false").await;
    let words = ["can claim any address"];
    expect(&report, "proxies", Outcome::Warning, &words);
    let report = with("127.0.0.9,127.0.0.1", "false").await;
    let words = ["fine if the proxy runs here"];
    expect(&report, "proxies", Outcome::Warning, &words);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_says_is_reported() {
    let api = KubeApi::start().await;
    let (_store, _proxy, mut settings) = store(&[]).await;
    settings.extend(api.settings());
    let report = examine(&settings).await;
    expect(&report, "kubernetes", Outcome::Ok, &["ftp/control"]);
    expect(
        &report,
        "public address",
        Outcome::Failed,
        &["does not exist", "PASV is refused"],
    );
    api.set_ingress(json!([{"ip": "203.0.113.7"}]));
    let report = examine(&settings).await;
    expect_sound(&report);
    expect(
        &report,
        "public address",
        Outcome::Ok,
        &["203.0.113.7 from the Service ftp/control"],
    );
    api.forbid(true);
    let report = examine(&settings).await;
    let words = [
        "get: ",
        "list: ",
        "watch: ",
        "forbidden",
        "resourceNames: [control]",
    ];
    expect(&report, "kubernetes", Outcome::Failed, &words);
}

#[tokio::test(flavor = "multi_thread")]
async fn public_addresses_are_judged() {
    let (_store, _proxy, settings) = store(&[]).await;
    for (more, outcome, words) in [
        (
            "MASQUERADE_ADDRESS=203.0.113.7",
            Outcome::Ok,
            "203.0.113.7 from masquerade_address",
        ),
        ("MASQUERADE_ADDRESS=10.0.0.7", Outcome::Warning, "private"),
        (
            "MASQUERADE_ADDRESS=ftp.invalid",
            Outcome::Failed,
            "does not resolve",
        ),
        (
            "KUBERNETES__IN_CLUSTER=true",
            Outcome::Failed,
            "kubernetes.service",
        ),
        (
            "MASQUERADE__MAPPING_FILE=/does/not/exist",
            Outcome::Failed,
            "cannot be read",
        ),
        ("DRAIN__DEADLINE=1s", Outcome::Ok, "NAT"),
    ] {
        let report = examine(&[&settings[..], &[more.to_owned()]].concat()).await;
        expect(&report, "public address", outcome, &[words]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_files_are_judged() {
    let (_store, _proxy, settings) = store(&[]).await;
    let authority = Authority::new();
    let with = |address: &str| [&settings[..], &authority.settings(&[address])].concat();
    let report = examine(&with("MASQUERADE_ADDRESS=127.0.0.1")).await;
    expect(&report, "certificate", Outcome::Ok, &["for 127.0.0.1"]);
    let report = examine(&with("MASQUERADE_ADDRESS=203.0.113.7")).await;
    let words = ["not made out to 203.0.113.7"];
    expect(&report, "certificate", Outcome::Warning, &words);
    let report = examine(&[&settings[..], &["TLS__SELF_SIGNED=true".to_owned()]].concat()).await;
    expect(
        &report,
        "certificate",
        Outcome::Warning,
        &["no client can verify"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_runs_here_is_asked_and_has_its_ports() {
    let gateway = TestGateway::with(&["ADMIN__LISTEN=127.0.0.1:0"]).await;
    let ports = gateway.gateway.passive_ports();
    let ports = format!("PASSIVE__PORTS={}-{}", ports.start(), ports.end());
    let admin = gateway.gateway.admin_address().expect("it is on");
    let report = examine(&[ports.clone(), format!("ADMIN__LISTEN={admin}")]).await;
    expect_sound(&report);
    expect(&report, "gateway", Outcome::Ok, &["ready"]);
    expect(
        &report,
        "passive ports",
        Outcome::Ok,
        &["the gateway that runs here"],
    );
    expect(
        &report,
        "put",
        Outcome::Skipped,
        &["embedded store", "--connect"],
    );
    let report = examine(&[ports]).await;
    expect(&report, "gateway", Outcome::Skipped, &["admin.listen"]);
    // it may be this gateway, and can't be asked
    let words = ["4 of which can't be bound", "admin.listen"];
    expect(&report, "passive ports", Outcome::Warning, &words);
    let listen = format!("LISTEN={}", gateway.address());
    let report = examine(&[listen, "ADMIN__LISTEN=127.0.0.1:1".to_owned()]).await;
    let address = gateway.address().to_string();
    let words = [address.as_str(), "ss -ltnp"];
    expect(&report, "control ports", Outcome::Failed, &words);
    let report = examine(&["LISTEN=203.0.113.7:2121".to_owned()]).await;
    let words = ["203.0.113.7:2121", "does not have"];
    expect(&report, "control ports", Outcome::Failed, &words);
}

/// As HTTP has it.
fn humantime_date(time: SystemTime) -> String {
    let time = aws_smithy_types::DateTime::from(time);
    let format = aws_smithy_types::date_time::Format::HttpDate;
    time.fmt(format).expect("after 1970")
}
