//! Stores that break.

use std::process::{Output, Stdio};

use crate::support::{TestGateway, pattern};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn an_unreachable_store_is_451_and_changes_nothing() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[
        "STORAGE__RETRY__MAX_ATTEMPTS=2",
        "UPLOAD__MIN_PART_SIZE=5MiB",
    ])
    .await;
    gateway.put_object("f", b"old".to_vec()).await;
    let mut ftp = gateway.login().await;
    proxy.set_down(true);
    for bytes in [pattern(10), pattern(6 * MIB)] {
        let reply = ftp.store("STOR f", &bytes).await;
        assert_eq!(reply.code, 451, "{reply:?}");
    }
    // a size that can't be asked for is not a size of 0
    assert_eq!(ftp.store("APPE f", b"more").await.code, 451);
    assert_eq!(ftp.fetch("RETR f").await.1.code, 451);
    assert_eq!(ftp.fetch("LIST").await.1.code, 451);
    for line in ["SIZE f", "DELE f", "MKD d", "CWD f", "RNFR f"] {
        assert_eq!(ftp.command(line).await.code, 451, "{line}");
    }
    proxy.set_down(false);
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(gateway.keys().await, ["f"]);
    assert_eq!(
        ftp.fetch("RETR f").await.0,
        b"old",
        "and the session goes on"
    );
}

#[tokio::test]
async fn a_body_that_the_store_cuts_is_taken_up_again() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let bytes = pattern(3 * MIB);
    gateway.put_object("f", bytes.clone()).await;
    let mut ftp = gateway.login().await;
    for cut in [100_000, MIB as u64, 2 * MIB as u64 + 17] {
        proxy.cut_after(cut);
        let (fetched, reply) = ftp.fetch("RETR f").await;
        assert_eq!(reply.code, 226, "{reply:?}");
        assert!(fetched == bytes, "cut after {cut}: {} bytes", fetched.len());
    }
}

#[tokio::test]
async fn kept_bytes_that_the_store_cuts_are_taken_up_again() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let old = pattern(MIB);
    gateway.put_object("f", old.clone()).await;
    let mut ftp = gateway.login().await;
    proxy.cut_after(100_000);
    assert_eq!(ftp.store("APPE f", b" and more").await.code, 226);
    let whole = [&old[..], b" and more"].concat();
    assert!(gateway.object("f").await == Some(whole));
}

#[tokio::test]
async fn a_store_that_stays_away_in_the_middle_is_no_226() {
    let (gateway, proxy) = TestGateway::behind_proxy(&["STORAGE__RETRY__MAX_ATTEMPTS=2"]).await;
    gateway.put_object("f", pattern(64 * MIB)).await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("RETR f").await.code, 150);
    tokio::io::AsyncReadExt::read_u8(&mut data)
        .await
        .expect("the first byte");
    proxy.set_down(true);
    let mut rest = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut data, &mut rest).await;
    assert!(
        ended.is_err(),
        "a short file must end in a reset, after {} bytes",
        rest.len()
    );
    let reply = ftp.reply().await;
    assert_eq!(reply.code, 451, "{reply:?}");
}

#[tokio::test]
async fn an_upload_survives_a_broken_connection_to_the_store() {
    let (gateway, proxy) = TestGateway::behind_proxy(&["UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    let mut ftp = gateway.login().await;
    let bytes = pattern(17 * MIB);
    // within the first answers of the store
    proxy.cut_after(50);
    let reply = ftp.store("STOR f", &bytes).await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert!(gateway.object("f").await == Some(bytes));
}

/// curl as a script runs it: its exit code decides what the script does next.
async fn curl(gateway: &TestGateway, arguments: &[&str], path: &str) -> Output {
    let mut command = tokio::process::Command::new("curl");
    let user = format!("demo:{}", gateway.password);
    let url = format!("ftp://{}/{path}", gateway.address());
    command.args(["-q", "-sS", "--max-time", "60", "-u", &user]);
    command.args(arguments).arg(url).stdin(Stdio::null());
    command.output().await.expect("curl is installed")
}

#[tokio::test]
async fn curl_fails_when_the_store_fails_and_does_not_show_an_empty_directory() {
    let (gateway, proxy) = TestGateway::behind_proxy(&["STORAGE__RETRY__MAX_ATTEMPTS=1"]).await;
    gateway.put_object("d/f", b"old".to_vec()).await;
    let listed = curl(&gateway, &[], "d/").await;
    assert!(listed.status.success(), "{listed:?}");
    assert!(String::from_utf8_lossy(&listed.stdout).contains(" f"));

    // the directory can be entered, and is not listed: CWD asks for one key, a listing for all
    proxy.fail_if(|head| head.starts_with("GET ") && head.contains("delimiter="));
    for arguments in [&[][..], &["--list-only"]] {
        let listed = curl(&gateway, arguments, "d/").await;
        // CURLE_FTP_COULDNT_RETR_FILE
        assert_eq!(listed.status.code(), Some(19), "{arguments:?}: {listed:?}");
        assert!(listed.stdout.is_empty());
    }
    proxy.fail_if(|_| true);
    for (arguments, path, code) in [
        // CURLE_REMOTE_ACCESS_DENIED is what curl makes of a CWD that fails, whatever the code
        (&[][..], "d/", 9),
        (&[], "f", 19),
        // CURLE_UPLOAD_FAILED after a refusal, CURLE_QUOTE_ERROR
        (&["-Q", "DELE d/f"], "", 21),
    ] {
        let done = curl(&gateway, arguments, path).await;
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {done:?}");
    }
    proxy.fail_if(|_| false);
    assert_eq!(gateway.object("d/f").await.as_deref(), Some(&b"old"[..]));
}

#[tokio::test]
async fn what_the_store_does_not_implement_is_no_reason_to_try_again() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    gateway.put_object("f", b"old".to_vec()).await;
    let mut ftp = gateway.login().await;
    proxy.refuse_if(
        (501, "NotImplemented", "Sat, 28 Nov 2026 00:00:00 GMT"),
        |head| head.contains("x-amz-copy-source"),
    );
    assert_eq!(ftp.command("RNFR f").await.code, 350);
    let reply = ftp.command("RNTO g").await;
    assert_eq!(reply.code, 550, "{reply:?}");
    assert!(reply.text.contains("refused the request"), "{reply:?}");
    assert_eq!(gateway.keys().await, ["f"]);
}
