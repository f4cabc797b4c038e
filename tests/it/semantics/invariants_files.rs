//! Invariants: files, memory and homes

use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWriteExt;

use crate::support::faults::Fault;
use crate::support::{Ftp, TestGateway, pattern, users};

const MIB: usize = 1024 * 1024;

/// A file of two parts and a bit.
const LARGE: usize = 11 * MIB;

const SMALL_PARTS: &str = "UPLOAD__MIN_PART_SIZE=5MiB";

/// True for the request that makes a whole object of what was sent.
fn is_last(head: &str) -> bool {
    let is_put = head.starts_with("PUT /cosgate/f") && !head.contains("partNumber=");
    is_put || (head.starts_with("POST /cosgate/f") && head.contains("uploadId="))
}

/// Sends all of a file.
async fn send(ftp: &mut Ftp, bytes: &[u8]) {
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    data.write_all(bytes).await.expect("taken");
    data.shutdown().await.expect("the end of the file");
}

/// Invariant 1: 226 is sent only after the store acknowledged the whole object.
#[tokio::test]
async fn a_226_is_sent_only_after_the_store_acknowledged_the_whole_object() {
    type Chosen = fn(&str) -> bool;
    let a_part: Chosen = |head| head.contains("partNumber=1&");
    let in_one: Chosen = |head| head.starts_with("PUT /cosgate/f");
    let the_end: Chosen = |head| head.starts_with("POST ") && head.contains("uploadId=");
    for (size, chosen) in [(1000, in_one), (LARGE, a_part), (LARGE, the_end)] {
        let (gateway, proxy) = TestGateway::behind_proxy(&[SMALL_PARTS]).await;
        let mut ftp = gateway.login().await;
        let bytes = pattern(size);
        // the store has done its work, and its answer is on the way
        let hold = proxy.hold_answers_if(chosen);
        send(&mut ftp, &bytes).await;
        hold.wait().await;
        for _ in 0..50 {
            assert_eq!(ftp.command("NOOP").await.code, 200, "and no 226 before it");
        }
        let early = tokio::time::timeout(Duration::from_millis(300), ftp.reply()).await;
        assert!(early.is_err(), "{size} bytes: {early:?}");
        drop(hold);
        assert_eq!(ftp.reply().await.code, 226);
        assert!(gateway.object("f").await == Some(bytes));
        gateway.stop().await;
    }
}

/// Invariant 2: An upload ends in exactly one of: stored, or not stored with its multipart upload aborted.
#[tokio::test]
async fn an_upload_is_stored_or_its_multipart_upload_is_aborted() {
    let settings = [
        SMALL_PARTS,
        "UPLOAD__ON_INTERRUPT=discard",
        "UPLOAD__STALL_TIMEOUT=1s",
        "UPLOAD__MAX_FILE_SIZE=12MiB",
        "STORAGE__RETRY__MAX_ATTEMPTS=2",
    ];
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    let bytes = pattern(LARGE);
    let refuse = |operation| proxy.fault(operation, Fault::refuse(500, "InternalError"));
    for end in [
        "clean",
        "ABOR",
        "reset",
        "stall",
        "too large",
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
    ] {
        gateway.put_object("f", b"old".to_vec()).await;
        let mut ftp = gateway.login().await;
        match end {
            "CreateMultipartUpload" => {
                refuse("CreateMultipartUpload").always();
            }
            "UploadPart" => {
                refuse("UploadPart").after(1).always();
            }
            "CompleteMultipartUpload" => {
                refuse("CompleteMultipartUpload").always();
            }
            _ => {}
        }
        let mut data = ftp.data().await;
        assert_eq!(ftp.command("STOR f").await.code, 150);
        // a store that refuses ends the upload before its client has sent all
        let sent = data.write_all(&bytes).await;
        let reply = match end {
            "ABOR" => {
                let reply = ftp.command("ABOR").await;
                assert_eq!(ftp.reply().await.code, 226);
                reply
            }
            "reset" => {
                let linger = SockRef::from(&data).set_linger(Some(Duration::ZERO));
                linger.expect("a TCP socket");
                drop(data);
                ftp.reply().await
            }
            "stall" => ftp.reply().await,
            "too large" => {
                let _ = data.write_all(&bytes).await;
                ftp.reply().await
            }
            _ => {
                let _ = data.shutdown().await;
                ftp.reply().await
            }
        };
        proxy.clear_faults();
        let stored = gateway.object("f").await.expect("one of the two");
        match reply.code {
            226 => assert!(stored == bytes, "{end}: {} bytes", stored.len()),
            _ => assert_eq!(stored, b"old", "{end}: {reply:?}"),
        }
        assert_eq!(
            reply.code == 226,
            end == "clean",
            "{end}: {reply:?}, {sent:?}"
        );
        assert_eq!(gateway.unfinished().await, 0, "{end}");
    }
}

/// Invariant 3: An existing object is not touched before the first byte of its replacement has arrived and the new object is
/// complete.
#[tokio::test]
async fn an_existing_object_is_not_touched_before_its_replacement_is_complete() {
    for size in [1000, LARGE] {
        let (gateway, proxy) = TestGateway::behind_proxy(&[SMALL_PARTS]).await;
        gateway.put_object("f", b"old".to_vec()).await;
        let mut ftp = gateway.login().await;
        // a client that comes, sends nothing and breaks off
        let data = ftp.data().await;
        assert_eq!(ftp.command("STOR f").await.code, 150);
        assert_eq!(ftp.command("ABOR").await.code, 426);
        assert_eq!(ftp.reply().await.code, 226);
        drop(data);
        assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
        // one that has sent all, before the store has the request that completes the object
        let hold = proxy.hold_if(is_last);
        let bytes = pattern(size);
        send(&mut ftp, &bytes).await;
        hold.wait().await;
        assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
        let mut reader = gateway.login().await;
        assert_eq!(reader.fetch("RETR f").await.0, b"old");
        drop(hold);
        assert_eq!(ftp.reply().await.code, 226);
        assert!(gateway.object("f").await.as_ref() == Some(&bytes));
        assert!(reader.fetch("RETR f").await.0 == bytes);
        gateway.stop().await;
    }
}

/// Invariant 4: Memory for part buffers never exceeds the budget; a full budget slows clients down by TCP backpressure.
#[tokio::test]
async fn many_clients_upload_at_once_through_few_ports_and_little_memory() {
    let gateway = TestGateway::with(&[
        "UPLOAD__MEMORY_BUDGET=64MiB",
        "UPLOAD__MIN_PART_SIZE=5MiB",
        "UPLOAD__MAX_FILE_SIZE=1GiB",
    ])
    .await;
    let bytes = pattern(11 * MIB);
    let uploads = (0..20).map(|client| {
        let (gateway, bytes) = (&gateway, &bytes);
        async move {
            let mut ftp = gateway.login().await;
            let reply = ftp.store(&format!("STOR file-{client}"), bytes).await;
            assert_eq!(reply.code, 226, "{client}: {reply:?}");
        }
    });
    let peak = async {
        let mut peak = 0;
        loop {
            peak = gateway.gateway.store().buffered_bytes().max(peak);
            assert!(peak <= 64 * MIB as u64, "{peak} bytes of buffers");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        _ = futures::future::join_all(uploads) => {}
        () = peak => {}
    }
    for client in 0..20 {
        assert!(
            gateway.object(&format!("file-{client}")).await.as_ref() == Some(&bytes),
            "{client}"
        );
    }
}

/// Invariant 5: A path never leaves the user's home, or the mount that it is in.
#[tokio::test]
async fn a_path_never_leaves_the_users_home() {
    let users = users(&[
        "name: a, home: /a, mounts: [{path: /m, home: /m}]",
        "name: ab, home: /ab",
        "name: reader, permissions: R",
        "name: writer, permissions: W",
    ]);
    let users = format!("USERS={users}");
    let gateway = TestGateway::with(&[&users, "STORAGE__PREFIX=ftp/"]).await;
    let mut a = gateway.connect().await;
    a.login("a", "secret").await;
    let mut ab = gateway.connect().await;
    ab.login("ab", "secret").await;
    assert_eq!(ab.store("STOR secret", b"ab's").await.code, 226);
    assert_eq!(gateway.keys().await, ["ftp/ab/secret"]);
    assert_eq!(a.listing("NLST").await, "m\r\n");
    for path in [
        "/../ab/secret",
        "../ab/secret",
        "/b/secret",
        "b/secret",
        "/ftp/ab/secret",
        "m/../ab/secret",
        "m/../../ab/secret",
        "/m/../../../ab/secret",
        "m/ab/secret",
    ] {
        let code = a.fetch(&format!("RETR {path}")).await.1.code;
        assert!(matches!(code, 550 | 553), "{path}: {code}");
    }

    // rights: a reader changes nothing, a writer sees nothing
    let mut reader = gateway.connect().await;
    reader.login("reader", "secret").await;
    assert_eq!(reader.fetch("RETR ab/secret").await.0, b"ab's");
    assert_eq!(
        reader.store("STOR ab/secret", b"overwritten").await.code,
        550
    );
    for line in ["DELE ab/secret", "MKD x", "RMD ab"] {
        assert_eq!(reader.command(line).await.code, 550, "{line}");
    }
    assert_eq!(reader.command("RNFR ab/secret").await.code, 550);
    assert_eq!(reader.command("RNTO ab/other").await.code, 503);
    let mut writer = gateway.connect().await;
    writer.login("writer", "secret").await;
    assert_eq!(writer.store("STOR dropped", b"box").await.code, 226);
    assert_eq!(writer.fetch("RETR dropped").await.1.code, 550);
    assert_eq!(writer.fetch("LIST").await.1.code, 550);
    assert_eq!(gateway.keys().await, ["ftp/ab/secret", "ftp/dropped"]);
}
