//! Files in and out.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::tls::Authority;
use crate::support::{Ftp, TestGateway, pattern};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn files_around_the_part_size_arrive_whole_and_come_back_whole() {
    let gateway = TestGateway::with(&["UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    let mut ftp = gateway.login().await;
    for size in [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 23 * MIB + 7] {
        let bytes = pattern(size);
        let reply = ftp.store("STOR file", &bytes).await;
        assert_eq!(reply.code, 226, "{size}: {reply:?}");
        assert!(
            gateway.object("file").await.as_ref() == Some(&bytes),
            "{size} bytes in the store"
        );
        assert_eq!(
            ftp.command("SIZE file").await.text,
            format!("213 {size}\r\n")
        );
        let (fetched, reply) = ftp.fetch("RETR file").await;
        assert_eq!(reply.code, 226, "{size}: {reply:?}");
        assert!(fetched == bytes, "{size} bytes came back");
    }
    assert_eq!(gateway.unfinished().await, 0);
    assert_eq!(gateway.gateway.store().buffered_bytes(), 0);
}

#[tokio::test]
async fn a_226_comes_only_after_the_store_has_the_object() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    for round in 0..50 {
        let name = format!("file-{round}");
        assert_eq!(
            ftp.store(&format!("STOR {name}"), name.as_bytes())
                .await
                .code,
            226
        );
        // read past the gateway, with no pause in between
        assert_eq!(gateway.object(&name).await, Some(name.into_bytes()));
    }
}

#[tokio::test]
async fn a_download_starts_at_the_restart_offset() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let bytes = pattern(100_000);
    gateway.put_object("file", bytes.clone()).await;
    for offset in [1, 99_999, 100_000] {
        assert_eq!(ftp.command(&format!("REST {offset}")).await.code, 350);
        let (fetched, reply) = ftp.fetch("RETR file").await;
        assert_eq!(reply.code, 226);
        assert!(fetched == bytes[offset..], "from {offset}");
    }
    ftp.command("REST 100001").await;
    assert_eq!(ftp.fetch("RETR file").await.1.code, 554);
    // the offset is used up, also by a transfer that failed
    assert_eq!(ftp.fetch("RETR file").await.0.len(), bytes.len());
}

#[tokio::test]
async fn another_command_forgets_the_restart_offset() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    gateway.put_object("file", b"0123456789".to_vec()).await;
    ftp.command("REST 5").await;
    ftp.command("PWD").await;
    assert_eq!(ftp.fetch("RETR file").await.0, b"0123456789");
    ftp.command("REST 5").await;
    ftp.command("TYPE I").await;
    assert_eq!(ftp.fetch("RETR file").await.0, b"56789");
}

#[tokio::test]
async fn an_upload_continues_at_the_restart_offset() {
    let gateway = TestGateway::with(&["UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    let mut ftp = gateway.login().await;
    // under and over the least part size, so through a read and through a copy inside the store
    for kept in [3, 6 * MIB] {
        let mut whole = pattern(kept + 100);
        gateway.put_object("file", whole.clone()).await;
        whole.truncate(kept);
        whole.extend_from_slice(b"new bytes");
        ftp.command(&format!("REST {kept}")).await;
        let reply = ftp.store("STOR file", b"new bytes").await;
        assert_eq!(reply.code, 226, "{reply:?}");
        assert!(
            gateway.object("file").await == Some(whole),
            "{kept} bytes kept"
        );
    }
    ftp.command("REST 10000000").await;
    assert_eq!(ftp.store("STOR file", b"x").await.code, 554);
    assert_eq!(
        gateway.object("file").await.map(|bytes| bytes.len()),
        Some(6 * MIB + 9)
    );
    assert_eq!(gateway.unfinished().await, 0);
}

#[tokio::test]
async fn append_continues_a_file_and_begins_a_missing_one() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("APPE log", b"one\n").await.code, 226);
    assert_eq!(ftp.store("APPE log", b"two\n").await.code, 226);
    assert_eq!(
        gateway.object("log").await.as_deref(),
        Some(&b"one\ntwo\n"[..])
    );
    let mut large = pattern(6 * MIB);
    gateway.put_object("large", large.clone()).await;
    assert_eq!(ftp.store("APPE large", b"tail").await.code, 226);
    large.extend_from_slice(b"tail");
    assert!(gateway.object("large").await == Some(large));
}

#[tokio::test]
async fn stou_makes_a_name_of_its_own_and_replies_with_it() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    let opening = ftp.command("STOU").await;
    let name = opening
        .text
        .trim_end()
        .strip_prefix("150 FILE: ")
        .expect("RFC 1123 form")
        .to_owned();
    data.write_all(b"unique").await.expect("writes");
    drop(data);
    assert_eq!(ftp.reply().await.code, 226);
    assert_eq!(gateway.object(&name).await.as_deref(), Some(&b"unique"[..]));
}

#[tokio::test]
async fn a_file_over_the_limit_is_552_and_the_old_one_stays() {
    let gateway =
        TestGateway::with(&["UPLOAD__MAX_FILE_SIZE=6MiB", "UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR file", b"old").await.code, 226);
    assert_eq!(
        ftp.store("STOR file", &pattern(6 * MIB + 1)).await.code,
        552
    );
    assert_eq!(gateway.object("file").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(gateway.unfinished().await, 0);
    // exact to the byte
    assert_eq!(ftp.store("STOR file", &pattern(6 * MIB)).await.code, 226);
    assert_eq!(
        gateway.object("file").await.map(|bytes| bytes.len()),
        Some(6 * MIB)
    );
}

#[tokio::test]
async fn an_announced_file_over_the_limit_is_552_before_a_byte_is_sent() {
    let gateway = TestGateway::with(&["UPLOAD__MAX_FILE_SIZE=6MiB"]).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.command("ALLO 6291457").await.code, 200);
    let _data = ftp.data().await;
    assert_eq!(ftp.command("STOR file").await.code, 552);
    // the announcement was for that one upload
    assert_eq!(ftp.store("STOR file", b"small").await.code, 226);
    ftp.command("ALLO 100 R 10").await;
    assert_eq!(ftp.store("STOR file", b"not what was said").await.code, 226);
}

#[tokio::test]
async fn a_missing_file_is_refused_before_any_150() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("RETR nothing").await.code, 550);
    // and its data connection ends without a byte
    let mut bytes = Vec::new();
    let _ = data.read_to_end(&mut bytes).await;
    assert!(bytes.is_empty());
}

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

#[tokio::test]
async fn files_survive_a_restart_of_the_gateway() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let directory = format!("STORAGE__DATA_DIR={}", data.path().display());
    let hash = cosgate::auth::hash_password(&"secret".to_owned().into()).expect("hashes");
    let users = format!(
        "USERS=[{{name: u, password_hash: '{}'}}]",
        secrecy::ExposeSecret::expose_secret(&hash)
    );
    for round in 0..2 {
        let gateway = crate::support::gateway::start(&[&directory, &users]).await;
        let mut ftp = crate::support::Ftp::connect(gateway.addresses()[0]).await;
        ftp.login("u", "secret").await;
        if round == 0 {
            assert_eq!(ftp.store("STOR kept", b"over the restart").await.code, 226);
        } else {
            assert_eq!(ftp.fetch("RETR kept").await.0, b"over the restart");
        }
        drop(ftp);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn pasv_and_epsv_work_over_ipv4_and_epsv_over_ipv6() {
    let gateway = TestGateway::with(&["LISTEN=127.0.0.1:0,[::1]:0"]).await;
    let mut ftp = gateway.login().await;
    let reply = ftp.command("PASV").await;
    assert_eq!(reply.code, 227);
    assert!(reply.text.contains("(127,0,0,1,"), "{reply:?}");
    assert_eq!(ftp.command("EPSV 2").await.code, 522);
    assert_eq!(ftp.command("EPSV 1").await.code, 229);
    assert_eq!(ftp.command("EPSV ALL").await.code, 200);
    assert_eq!(ftp.command("PASV").await.code, 501);

    let six = gateway
        .gateway
        .addresses()
        .iter()
        .find(|address| address.is_ipv6())
        .expect("an IPv6 listener");
    let mut ftp = crate::support::Ftp::connect(*six).await;
    ftp.login("demo", &gateway.password).await;
    // PASV has no room for the address; the session goes on
    assert_eq!(ftp.command("PASV").await.code, 425);
    assert_eq!(ftp.store("STOR six", b"over IPv6").await.code, 226);
    assert_eq!(ftp.fetch("RETR six").await.0, b"over IPv6");
}

#[tokio::test]
async fn pasv_replies_with_the_masquerade_address() {
    let gateway = TestGateway::with(&["MASQUERADE_ADDRESS=203.0.113.7"]).await;
    let reply = gateway.login().await.command("PASV").await;
    assert!(reply.text.contains("(203,0,113,7,"), "{reply:?}");
}

/// Small writes that wait for an acknowledgement which the other end delays (Nagle's algorithm, RFC 1122, section
/// 4.2.3.4) cost a file 40 ms. A busy machine slows some files down, such a pause most of them.
#[tokio::test]
async fn no_small_file_waits_for_a_delayed_acknowledgement() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &[]).await;
    let bytes = pattern(4096);
    for private in [false, true] {
        let mut ftp = gateway.login().await;
        if private {
            let client = authority.client();
            ftp = Ftp::connect(gateway.address()).await;
            ftp = ftp.secure(&client).await.expect("a handshake");
            ftp.login("demo", &gateway.password).await;
            ftp.protect(&client).await;
        }
        let (mut stored, mut fetched) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            let began = Instant::now();
            assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
            stored.push(began.elapsed());
            let began = Instant::now();
            let (content, reply) = ftp.fetch("RETR f").await;
            fetched.push(began.elapsed());
            assert_eq!((reply.code, content.len()), (226, bytes.len()));
        }
        for mut times in [stored, fetched] {
            times.sort();
            // the quickest quarter
            assert!(times[10] < Duration::from_millis(40), "{times:?}");
        }
    }
    gateway.stop().await;
}
