//! Commands that clients of all ages send, and what they make of the replies.

use futures::StreamExt;

use crate::support::tls::Authority;
use crate::support::{Ftp, TestGateway, pattern};

/// Sends each line, and expects each reply to begin so.
async fn expect(ftp: &mut Ftp, dialogue: &[(&str, &str)]) {
    for (line, wanted) in dialogue {
        let reply = ftp.command(line).await;
        assert!(
            reply.text.starts_with(wanted),
            "{line}: {:?} and not {wanted}",
            reply.text
        );
    }
}

#[tokio::test]
async fn settings_are_known_in_all_their_spellings() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    ftp.command("MKD d").await;
    expect(
        &mut ftp,
        &[
            ("TYPE A N", "200"),
            ("type a n", "200"),
            ("TYPE AN", "200"),
            ("TYPE L  8", "200"),
            ("TYPE I", "200"),
            ("TYPE A T", "504"),
            ("MODE", "501"),
            ("STRU", "501"),
            ("MODE S", "200"),
            ("STRU F", "200"),
            ("CWD d", "250"),
            // the home directory
            ("CWD", "250"),
            ("PWD", "257 \"/\""),
            ("SITE HELP", "214-"),
            ("SITE", "504"),
        ],
    )
    .await;
    let help = ftp.command("SITE HELP").await.text;
    assert!(help.contains(" UTIME ") && help.ends_with("214 End\r\n"));
}

#[tokio::test]
async fn a_time_is_set_by_each_command_that_clients_know_for_it() {
    let gateway = TestGateway::start().await;
    gateway.put_object("f", b"x".to_vec()).await;
    let mut ftp = gateway.login().await;
    expect(
        &mut ftp,
        &[
            ("MDTM 20200102030405 f", "213"),
            ("MDTM f", "213 20200102030405"),
            ("SITE UTIME 202101020304 f", "213"),
            ("MDTM f", "213 20210102030400"),
            (
                "SITE UTIME f 20190101000000 20220102030405 20190101000000 UTC",
                "213",
            ),
            ("MDTM f", "213 20220102030405"),
            ("MDTM 20200102030405 nothing", "550"),
            ("SITE UTIME 20200102030405 nothing", "550"),
            ("SITE UTIME f", "501"),
        ],
    )
    .await;
    // a file whose name begins with a timestamp is asked about, and no other is touched
    gateway.put_object("20200102030405 f", b"yz".to_vec()).await;
    let reply = ftp.command("MDTM 20200102030405 f").await;
    assert_eq!(reply.code, 213);
    assert!(!reply.text.contains("Modify="), "{reply:?}");
    expect(&mut ftp, &[("MDTM f", "213 20220102030405")]).await;
}

#[tokio::test]
async fn changing_the_mode_of_what_is_missing_is_refused() {
    let gateway = TestGateway::start().await;
    gateway.put_object("f", b"x".to_vec()).await;
    gateway.put_object("d/g", b"x".to_vec()).await;
    let mut ftp = gateway.login().await;
    expect(
        &mut ftp,
        &[
            ("SITE CHMOD 644 f", "200"),
            ("SITE CHMOD u+x,g-w d", "200"),
            ("SITE CHMOD 644 nothing", "550"),
            ("SITE CHMOD 644 ../../f", "200"),
            ("SITE CHMOD 644", "501"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_client_chooses_the_facts_that_it_gets() {
    let gateway = TestGateway::start().await;
    gateway.put_object("f", pattern(42)).await;
    let mut ftp = gateway.login().await;
    let features = ftp.command("FEAT").await.text;
    assert!(
        features.contains("\r\n MLST type*;size*;modify*;\r\n"),
        "{features}"
    );
    let reply = ftp.command("OPTS MLST size;unix.mode;TYPE;").await;
    assert_eq!(reply.text, "200 MLST OPTS type;size;\r\n");
    let features = ftp.command("FEAT").await.text;
    assert!(
        features.contains("\r\n MLST type*;size*;modify;\r\n"),
        "{features}"
    );
    assert_eq!(ftp.listing("MLSD").await, "type=file;size=42; f\r\n");
    let facts = ftp.command("MLST f").await.text;
    assert!(facts.contains("\r\n type=file;size=42; /f\r\n"), "{facts}");
    let reply = ftp.command("OPTS MLST").await;
    assert_eq!(reply.text, "200 MLST OPTS\r\n");
    assert_eq!(ftp.listing("MLSD").await, " f\r\n");
}

#[tokio::test]
async fn a_file_where_a_directory_is_meant_and_the_other_way_round_are_named_as_that() {
    let gateway = TestGateway::start().await;
    gateway.put_object("d/f", b"x".to_vec()).await;
    let mut ftp = gateway.login().await;
    let (_, reply) = ftp.fetch("MLSD d/f").await;
    assert_eq!(reply.code, 501, "RFC 3659, section 7.2.1: {reply:?}");
    assert_eq!(ftp.fetch("MLSD nothing").await.1.code, 550);
    let (_, reply) = ftp.fetch("RETR d").await;
    assert_eq!(reply.text, "550 Is a directory\r\n");
    let (_, reply) = ftp.fetch("RETR nothing").await;
    assert_eq!(reply.text, "550 No such file or directory\r\n");
}

#[tokio::test]
async fn patterns_have_classes_and_an_existing_name_wins_over_a_pattern() {
    let gateway = TestGateway::start().await;
    for key in [
        "d/a1",
        "d/b2",
        "d/c3",
        "d/e[1].txt",
        "d/e1.txt",
        "d/s*/x",
        "d/star",
    ] {
        gateway.put_object(key, b"x".to_vec()).await;
    }
    let mut ftp = gateway.login().await;
    for (line, names) in [
        ("NLST d/[ab]*", "d/a1\r\nd/b2\r\n"),
        ("NLST d/[!a-d]?.txt", "d/e1.txt\r\n"),
        ("NLST d/e[1].txt", "d/e[1].txt\r\n"),
        // a directory of that name is listed itself
        ("NLST d/s*", "d/s*/x\r\n"),
        ("NLST d/st*", "d/star\r\n"),
        ("NLST d/[xyz]", ""),
    ] {
        assert_eq!(ftp.listing(line).await, names, "{line}");
    }
    ftp.command("CWD d").await;
    assert_eq!(ftp.listing("NLST [ab]?").await, "a1\r\nb2\r\n");
    assert_eq!(ftp.listing("NLST e[1].txt").await, "e[1].txt\r\n");
}

#[tokio::test]
async fn a_pattern_costs_one_request_besides_the_listing() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    gateway.put_object("a.jpg", b"x".to_vec()).await;
    let mut ftp = gateway.login().await;
    proxy.take_requests();
    assert_eq!(ftp.listing("NLST *.jpg").await, "a.jpg\r\n");
    assert_eq!(proxy.take_requests().len(), 2);
}

#[tokio::test]
async fn a_recursive_listing_is_refused_and_never_flat() {
    let gateway = TestGateway::start().await;
    gateway.put_object("d/f", b"x".to_vec()).await;
    let mut ftp = gateway.login().await;
    for line in ["LIST -R", "LIST -alR /", "NLST -R d", "STAT -R"] {
        let reply = ftp.command(line).await;
        assert_eq!(reply.code, 504, "{line}: {reply:?}");
    }
    assert_eq!(ftp.listing("NLST").await, "d\r\n");
}

#[tokio::test]
async fn a_listing_in_a_reply_says_that_it_was_cut() {
    let gateway = TestGateway::start().await;
    let keys: Vec<String> = (0..1000)
        .map(|number| format!("many/{number:04}"))
        .collect();
    futures::stream::iter(&keys)
        .for_each_concurrent(16, |key| gateway.put_object(key, Vec::new()))
        .await;
    let mut ftp = gateway.login().await;
    let whole = ftp.command("STAT many").await.text;
    assert!(whole.ends_with("\r\n213 End of status\r\n"));
    assert_eq!(whole.lines().count(), 1002);
    gateway.put_object("many/z", Vec::new()).await;
    let cut = ftp.command("STAT many").await.text;
    assert_eq!(cut.lines().count(), 1002);
    assert!(cut.ends_with("\r\n213 Cut after 1000 entries, LIST and MLSD show all\r\n"));
}

#[tokio::test]
async fn a_directory_is_listed_with_the_day_of_today() {
    let gateway = TestGateway::start().await;
    gateway.put_object("d/f", b"x".to_vec()).await;
    let mut ftp = gateway.login().await;
    let line = ftp.listing("LIST").await;
    assert!(line.ends_with(" 00:00 d\r\n"), "{line}");
    assert!(!line.contains("1970"), "{line}");
}

#[tokio::test]
async fn clients_from_before_the_rfc_get_tls_by_their_own_words() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &["TLS__REQUIRED=all"]).await;
    let client = authority.client();
    for mechanism in ["SSL", "TLS-P"] {
        let ftp = gateway.connect().await;
        let mut ftp = ftp
            .secure_by(mechanism, &client)
            .await
            .expect("a handshake");
        ftp.login("demo", &gateway.password).await;
        // data connections are protected without PBSZ and PROT
        ftp.protect_silently(&client);
        assert_eq!(ftp.store("STOR f", b"secret").await.code, 226);
        assert_eq!(ftp.fetch("RETR f").await.0, b"secret");
    }
    for mechanism in ["TLS", "TLS-C"] {
        let ftp = gateway.connect().await;
        let mut ftp = ftp
            .secure_by(mechanism, &client)
            .await
            .expect("a handshake");
        ftp.login("demo", &gateway.password).await;
        assert_eq!(ftp.command("EPSV").await.code, 521);
    }
    let mut ftp = gateway.connect().await;
    assert_eq!(ftp.command("AUTH GSSAPI").await.code, 504);
    gateway.stop().await;
}
