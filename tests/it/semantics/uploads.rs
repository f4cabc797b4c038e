//! Uploads

use tokio::io::AsyncWriteExt;

use crate::support::{TestGateway, pattern};

const MIB: usize = 1024 * 1024;

/// A file of any size arrives whole and comes back whole: an empty one, one around the size of a part, one of many
/// parts.
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

/// A file is in the bucket as soon as the client has its 226.
#[tokio::test]
async fn a_file_is_in_the_bucket_when_the_client_has_its_226() {
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

/// `REST` and `STOR` keep the first bytes of a file and replace those behind; an offset beyond its end is 554, and the
/// file stays as it is.
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

/// `REST` holds for the next transfer, and is forgotten by a command that has nothing to do with one.
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

/// `APPE` continues a file, and begins one that is missing.
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

/// `STOU` stores under a name of its own, which the 150 says.
#[tokio::test]
async fn stou_makes_a_name_of_its_own_and_says_it() {
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

/// A file over `upload.max_file_size` is 552, exact to the byte: nothing is stored, and an older file stays.
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

/// An upload that `ALLO` announces as larger than the limit is 552 before a byte is sent.
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
