//! `TYPE A`: text on the wire, text in the store.

use crate::support::{TestGateway, login, users};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn text_has_cr_lf_on_the_wire_and_lf_in_the_store() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let reply = ftp.command("TYPE A").await;
    assert_eq!(reply.text, "200 Type is ASCII, line ends are converted\r\n");
    let wire = b"one\r\ntwo\rthree\r\r\nfour\n\r";
    assert_eq!(ftp.store("STOR f", wire).await.code, 226);
    let stored = b"one\ntwo\rthree\r\nfour\n\r";
    assert_eq!(gateway.object("f").await.as_deref(), Some(&stored[..]));
    // a line that ends in CR LF in the store stays as it is
    assert_eq!(
        ftp.fetch("RETR f").await.0,
        b"one\r\ntwo\rthree\r\nfour\r\n\r"
    );
    assert_eq!(ftp.store("APPE f", b"\nfive\r\n").await.code, 226);
    assert!(ftp.listing("LIST").await.ends_with(" f\r\n"));
    ftp.command("TYPE I").await;
    assert_eq!(
        ftp.fetch("RETR f").await.0,
        b"one\ntwo\rthree\r\nfour\n\r\nfive\n"
    );
}

#[tokio::test]
async fn without_a_type_files_are_bytes() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let bytes = b"\xff\xd8\r\n\n\r";
    assert_eq!(ftp.store("STOR f.jpg", bytes).await.code, 226);
    assert_eq!(gateway.object("f.jpg").await.as_deref(), Some(&bytes[..]));
    assert_eq!(ftp.fetch("RETR f.jpg").await.0, bytes);
    assert_eq!(ftp.command("SIZE f.jpg").await.text, "213 6\r\n");
}

#[tokio::test]
async fn a_size_and_a_place_in_a_file_are_refused_in_ascii() {
    let gateway = TestGateway::start().await;
    gateway.put_object("f", b"one\ntwo\n".to_vec()).await;
    let mut ftp = gateway.login().await;
    ftp.command("REST 4").await;
    ftp.command("TYPE A").await;
    assert_eq!(ftp.fetch("RETR f").await.1.code, 504);
    assert_eq!(ftp.fetch("RETR f").await.0, b"one\r\ntwo\r\n");
    assert_eq!(ftp.command("SIZE f").await.code, 550);
    assert_eq!(ftp.command("REST 4").await.code, 504);
    assert_eq!(ftp.command("REST 0").await.code, 350);
    ftp.command("TYPE I").await;
    ftp.command("REST 4").await;
    ftp.command("TYPE A").await;
    assert_eq!(ftp.store("STOR f", b"three\r\n").await.code, 504);
    assert_eq!(
        gateway.object("f").await.as_deref(),
        Some(&b"one\ntwo\n"[..])
    );
    ftp.command("TYPE I").await;
    assert_eq!(ftp.command("SIZE f").await.text, "213 8\r\n");
}

#[tokio::test]
async fn large_text_is_converted_across_all_borders_and_its_checksum_is_the_stores() {
    let gateway = TestGateway::with(&["UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    let mut ftp = gateway.login().await;
    let lines = (0..12 * MIB / 8).map(|number| "x".repeat(number % 15));
    let text: String = lines.map(|line| line + "\n").collect();
    ftp.command("TYPE A").await;
    let wire = text.replace('\n', "\r\n");
    assert_eq!(ftp.store("STOR f", wire.as_bytes()).await.code, 226);
    assert!(gateway.object("f").await.as_deref() == Some(text.as_bytes()));
    let (fetched, reply) = ftp.fetch("RETR f").await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert!(fetched == wire.as_bytes(), "{} bytes", fetched.len());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, text.as_bytes());
    let hash = ftp.command("HASH f").await.text;
    assert!(hash.contains(&format!("0-{} {crc:016x}", text.len())));
}

#[tokio::test]
async fn the_limit_is_for_what_is_stored() {
    let gateway = TestGateway::with(&["UPLOAD__MAX_FILE_SIZE=8"]).await;
    let mut ftp = gateway.login().await;
    ftp.command("TYPE A").await;
    // what the client announces is what crosses the wire
    ftp.command("ALLO 12").await;
    assert_eq!(ftp.store("STOR f", b"a\r\nb\r\nc\r\nd\r\n").await.code, 226);
    assert_eq!(
        ftp.store("STOR g", b"a\r\nb\r\nc\r\nd\r\n\r").await.code,
        552
    );
    assert_eq!(gateway.keys().await, ["f"]);
}

#[tokio::test]
async fn files_stay_as_they_are_where_that_is_configured() {
    let users = users(&["name: a", "name: b, ascii: convert"]);
    let gateway = TestGateway::with(&[&format!("USERS={users}"), "ASCII=as_is"]).await;
    for (user, stored) in [("a", &b"x\r\n"[..]), ("b", b"x\n")] {
        let mut ftp = login(&gateway, user).await;
        ftp.command("TYPE A").await;
        assert_eq!(ftp.store("STOR f", b"x\r\n").await.code, 226);
        assert_eq!(gateway.object("f").await.as_deref(), Some(stored));
        assert_eq!(ftp.fetch("RETR f").await.0, b"x\r\n");
        let size = if user == "a" { 213 } else { 550 };
        assert_eq!(ftp.command("SIZE f").await.code, size, "{user}");
    }
}
