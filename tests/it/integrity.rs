//! The store's object is compared with what the client sent, before 226.

use std::sync::atomic::Ordering;

use secrecy::ExposeSecret;

use md5::Digest;

use crate::support::cos::CosDouble;
use crate::support::http::get;
use crate::support::{Ftp, TestGateway, gateway, pattern};

const MIB: usize = 1024 * 1024;

/// A gateway in front of a double of COS.
pub async fn in_front_of(cos: &CosDouble, settings: &[&str]) -> (cosgate::app::Gateway, Ftp) {
    let hash = cosgate::auth::hash_password(&"secret".to_owned().into()).expect("hashes");
    let own = [
        "STORAGE__PROVIDER=cos".to_owned(),
        "STORAGE__BUCKET=files-1250000000".to_owned(),
        "STORAGE__REGION=ap-guangzhou".to_owned(),
        format!("STORAGE__ENDPOINT=http://{}", cos.address),
        "STORAGE__ACCESS_KEY_ID=AKIDEXAMPLE".to_owned(),
        "STORAGE__SECRET_ACCESS_KEY=secret".to_owned(),
        "UPLOAD__MIN_PART_SIZE=1MiB".to_owned(),
        format!(
            "USERS=[{{name: u, password_hash: '{}'}}]",
            hash.expose_secret()
        ),
    ];
    let settings: Vec<&str> = own
        .iter()
        .map(String::as_str)
        .chain(settings.iter().copied())
        .collect();
    let gateway = gateway::start(&settings).await;
    let mut ftp = Ftp::connect(gateway.addresses()[0]).await;
    ftp.login("u", "secret").await;
    (gateway, ftp)
}

#[tokio::test]
async fn cos_gets_what_it_takes_and_its_crc64_is_compared() {
    let cos = CosDouble::start().await;
    let (_gateway, mut ftp) = in_front_of(&cos, &[]).await;
    for bytes in [pattern(10), pattern(5 * MIB)] {
        assert_eq!(ftp.store("STOR f.jpg", &bytes).await.code, 226);
        let objects = cos.state.objects.lock().expect("not poisoned");
        assert!(objects.values().next() == Some(&bytes));
    }
    assert_eq!(*cos.state.uploads.lock().expect("not poisoned"), [1, 1, 0]);
    let headers = cos.state.last_headers.lock().expect("not poisoned");
    assert_eq!(headers.get("content-type").expect("by name"), "image/jpeg");
}

#[tokio::test]
async fn at_the_buckets_own_domain_no_request_names_the_bucket() {
    let cos = CosDouble::start().await;
    let custom = ["STORAGE__ADDRESSING=custom"];
    let (gateway, mut ftp) = in_front_of(&cos, &custom).await;
    for (name, bytes) in [("small.apk", pattern(10)), ("d/large", pattern(5 * MIB))] {
        assert_eq!(ftp.store(&format!("STOR {name}"), &bytes).await.code, 226);
        {
            let stored = cos.state.objects.lock().expect("not poisoned");
            assert!(stored.get(&format!("/{name}")) == Some(&bytes), "{name}");
        }
        let (got, reply) = ftp.fetch(&format!("RETR {name}")).await;
        assert_eq!((got, reply.code), (bytes, 226));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_cos_takes_as_no_name_is_refused_with_the_reason() {
    let cos = CosDouble::start().await;
    let (gateway, mut ftp) = in_front_of(&cos, &[]).await;
    let refused = ftp.store("STOR \\f", b"x").await;
    assert_eq!(refused.code, 553, "{refused:?}");
    assert!(
        refused.text.contains("begins with a backslash"),
        "{refused:?}"
    );
    for escape in ["\u{18}", "\u{19}", "\u{1a}", "\u{1b}"] {
        let refused = ftp.store(&format!("STOR a{escape}b"), b"x").await;
        assert_eq!(refused.code, 553, "{refused:?}");
    }
    assert_eq!(ftp.store("STOR a\\f", b"x").await.code, 226);
    gateway.stop().await;
    let below = ["STORAGE__PREFIX=below/"];
    let (gateway, mut ftp) = in_front_of(&cos, &below).await;
    assert_eq!(ftp.store("STOR \\f", b"x").await.code, 226);
    gateway.stop().await;
}

#[tokio::test]
async fn hash_replies_with_what_cos_knows() {
    let cos = CosDouble::start().await;
    let (_gateway, mut ftp) = in_front_of(&cos, &[]).await;
    let bytes = pattern(5 * MIB);
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, &bytes);
    let reply = ftp.command("HASH f").await;
    let expected = format!("213 CRC64XZ 0-{} {crc:016x} /f\r\n", bytes.len());
    assert_eq!(reply.text, expected);
    assert_eq!(ftp.command("OPTS HASH CRC64XZ").await.code, 200);
    assert_eq!(ftp.command("OPTS HASH CRC64NVME").await.code, 504);
}

#[tokio::test]
async fn hash_replies_with_what_the_store_knows_and_downloads_nothing() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let mut ftp = gateway.login().await;
    for bytes in [pattern(1000), pattern(20 * MIB)] {
        assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
        proxy.take_requests();
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
        let reply = ftp.command("HASH f").await;
        let expected = format!("213 CRC64NVME 0-{} {crc:016x} /f\r\n", bytes.len());
        assert_eq!(reply.text, expected);
        assert_eq!(proxy.take_requests().len(), 1);
        let all = ftp.command("SITE HASH f").await;
        assert!(all.text.contains(&format!("{crc:016x}")), "{all:?}");
        // nobody knows a SHA-256 here, and the reply says what there is instead
        let reply = ftp.command("SITE SHA256 f").await;
        assert!(
            reply.code == 550 && reply.text.contains("CRC64NVME"),
            "{reply:?}"
        );
    }
    let bytes = pattern(1000);
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    let md5: String = md5::Md5::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        ftp.command("SITE MD5 f").await.text,
        format!("213 MD5 0-1000 {md5} /f\r\n")
    );
    // clients that verify by HASH take a refusal for a broken file, and so FEAT doesn't invite them
    assert!(!ftp.command("FEAT").await.text.contains("HASH"));
    assert_eq!(
        ftp.command("OPTS HASH crc64nvme").await.text,
        "200 CRC64NVME\r\n"
    );
    for other in ["MD5", "SHA-1", "SHA-256"] {
        assert_eq!(ftp.command(&format!("OPTS HASH {other}")).await.code, 504);
    }
    assert_eq!(ftp.command("OPTS HASH SHA-512").await.code, 504);
    for (line, code) in [
        ("HASH missing", 550),
        // the root is above itself
        ("HASH ../../f", 213),
        ("HASH", 501),
        ("SITE HASH", 501),
    ] {
        assert_eq!(ftp.command(line).await.code, code, "{line}");
    }
    assert_eq!(ftp.command("MKD d").await.code, 257);
    assert_eq!(ftp.command("HASH d").await.code, 550);
    gateway.stop().await;
}

#[tokio::test]
async fn the_hash_that_is_taken_as_option_is_there_however_a_file_came_about() {
    let gateway = TestGateway::with(&["UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR empty", b"").await.code, 226);
    assert_eq!(ftp.store("STOR small", &pattern(1000)).await.code, 226);
    assert_eq!(ftp.store("STOR large", &pattern(12 * MIB)).await.code, 226);
    assert_eq!(ftp.store("STOR longer", &pattern(6 * MIB)).await.code, 226);
    assert_eq!(ftp.store("APPE longer", &pattern(1000)).await.code, 226);
    for (from, to) in [("small", "small 2"), ("longer", "longer 2")] {
        assert_eq!(ftp.command(&format!("RNFR {from}")).await.code, 350);
        assert_eq!(ftp.command(&format!("RNTO {to}")).await.code, 250);
    }
    assert_eq!(ftp.command("MFMT 20200101000000 large").await.code, 213);
    let option = ftp.command("OPTS HASH").await.text;
    let algorithm = option
        .trim_end()
        .strip_prefix("200 ")
        .expect("an algorithm");
    for name in ["empty", "small 2", "large", "longer 2"] {
        let (bytes, _) = ftp.fetch(&format!("RETR {name}")).await;
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
        let reply = ftp.command(&format!("HASH {name}")).await;
        let expected = format!("213 {algorithm} 0-{} {crc:016x} /{name}\r\n", bytes.len());
        assert_eq!(reply.text, expected);
    }
}

#[tokio::test]
async fn a_checksum_that_differs_is_451_and_nothing_is_kept() {
    let cos = CosDouble::start().await;
    let (_gateway, mut ftp) = in_front_of(&cos, &[]).await;
    cos.state.lie.store(true, Ordering::SeqCst);
    for bytes in [pattern(10), pattern(5 * MIB)] {
        assert_eq!(ftp.store("STOR f", &bytes).await.code, 451);
        assert!(cos.state.objects.lock().expect("not poisoned").is_empty());
    }
    let [begun, completed, aborted] = *cos.state.uploads.lock().expect("not poisoned");
    assert_eq!(
        (begun, completed, aborted),
        (1, 0, 1),
        "the first part showed it"
    );
}

#[tokio::test]
async fn a_store_of_cos_without_its_checksum_is_compared_by_etags() {
    let cos = CosDouble::start().await;
    let (_gateway, mut ftp) = in_front_of(&cos, &[]).await;
    cos.state.omits_crc.store(true, Ordering::SeqCst);
    for bytes in [pattern(10), pattern(5 * MIB)] {
        let reply = ftp.store("STOR f", &bytes).await;
        assert_eq!(reply.code, 226, "{reply:?}");
        let objects = cos.state.objects.lock().expect("not poisoned");
        assert!(objects.values().next() == Some(&bytes));
    }
    cos.state.wrong_etags.store(true, Ordering::SeqCst);
    assert_eq!(ftp.store("STOR f", &pattern(6 * MIB)).await.code, 451);
    let objects = cos.state.objects.lock().expect("not poisoned");
    assert!(objects.values().next() == Some(&pattern(5 * MIB)));
}

#[tokio::test]
async fn without_leave_to_overwrite_a_taken_name_is_550_before_a_byte_is_sent() {
    let cos = CosDouble::start().await;
    let (_gateway, mut ftp) = in_front_of(&cos, &["UPLOAD__OVERWRITE=false"]).await;
    assert_eq!(ftp.store("STOR f", b"first").await.code, 226);
    assert_eq!(ftp.store("STOR f", b"second").await.code, 550);

    let gateway =
        TestGateway::with(&["UPLOAD__OVERWRITE=false", "UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    let mut ftp = gateway.login().await;
    for bytes in [pattern(10), pattern(6 * MIB)] {
        let name = format!("STOR f{}", bytes.len());
        assert_eq!(ftp.store(&name, &bytes).await.code, 226);
        assert_eq!(ftp.store(&name, b"second").await.code, 550);
        assert!(gateway.object(&name[5..]).await == Some(bytes));
    }
    assert_eq!(ftp.store("APPE f10", b"more").await.code, 550);
    assert_eq!(ftp.store("STOR fresh", b"fresh").await.code, 226);
    ftp.command("RNFR fresh").await;
    assert_eq!(ftp.command("RNTO f10").await.code, 550);
    assert_eq!(gateway.unfinished().await, 0);

    // who comes between the question and the end of the upload wins
    for size in [10, 6 * MIB] {
        use tokio::io::AsyncWriteExt;
        let mut data = ftp.data().await;
        assert_eq!(ftp.command("STOR race").await.code, 150);
        data.write_all(&pattern(size)).await.expect("writes");
        gateway.put_object("race", b"the other one".to_vec()).await;
        drop(data);
        assert_eq!(ftp.reply().await.code, 550);
        assert_eq!(
            gateway.object("race").await.as_deref(),
            Some(&b"the other one"[..])
        );
        ftp.command("DELE race").await;
    }
    assert_eq!(gateway.unfinished().await, 0);
}

#[tokio::test]
async fn bytes_that_change_on_the_way_to_the_store_are_found() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[
        "UPLOAD__MIN_PART_SIZE=5MiB",
        "STORAGE__SIGN_PAYLOAD=never",
        "ADMIN__LISTEN=127.0.0.1:0",
    ])
    .await;
    gateway.put_object("f", b"old".to_vec()).await;
    let mut ftp = gateway.login().await;
    // each body is sent again once
    for (size, bodies) in [(100_000, 2), (6 * MIB, 4)] {
        proxy.corrupt_next_bodies(bodies);
        assert_eq!(
            ftp.store("STOR f", &pattern(size)).await.code,
            451,
            "{size}"
        );
        assert_eq!(
            gateway.object("f").await.as_deref(),
            Some(&b"old"[..]),
            "{size}"
        );
    }
    assert_eq!(gateway.unfinished().await, 0);
    proxy.corrupt_next_bodies(1);
    assert_eq!(ftp.store("STOR f", &pattern(100)).await.code, 226);
    assert!(gateway.object("f").await == Some(pattern(100)));
    let admin = gateway.gateway.admin_address().expect("it is on");
    let metrics = get(admin, "/metrics", &[]).await.body;
    let counted = "\ncosgate_integrity_failures_total 2\n";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_lost_answer_to_the_completion_is_resolved_by_asking() {
    let (gateway, proxy) = TestGateway::behind_proxy(&["UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    let mut ftp = gateway.login().await;
    let bytes = pattern(6 * MIB);
    // the store does its work, and the connection breaks before it can say so
    proxy.lose_answer_to("POST", "uploadId=");
    let reply = ftp.store("STOR f", &bytes).await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert!(gateway.object("f").await == Some(bytes));
    assert_eq!(proxy.answers_lost(), 1);
}

#[tokio::test]
async fn an_upload_that_still_moves_is_never_swept() {
    use tokio::io::AsyncWriteExt;
    let gateway =
        TestGateway::with(&["UPLOAD__STALE_AFTER=2s", "UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    let bytes = pattern(30 * MIB);
    for chunk in bytes.chunks(MIB) {
        data.write_all(chunk).await.expect("writes");
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    }
    drop(data);
    assert_eq!(ftp.reply().await.code, 226);
    assert!(gateway.object("f").await == Some(bytes));
}

#[tokio::test]
async fn an_upload_that_is_slower_than_the_sweeper_is_patient_is_not_swept() {
    use tokio::io::AsyncWriteExt;
    let gateway =
        TestGateway::with(&["UPLOAD__STALE_AFTER=1s", "UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    let bytes = pattern(11 * MIB);
    data.write_all(&bytes[..10 * MIB]).await.expect("writes");
    crate::support::eventually("the first part is there", || async {
        gateway.unfinished().await == 1
    })
    .await;
    // long enough for some sweeps
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(gateway.unfinished().await, 1);
    data.write_all(&bytes[10 * MIB..]).await.expect("writes");
    drop(data);
    let reply = ftp.reply().await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert!(gateway.object("f").await == Some(bytes));
}
