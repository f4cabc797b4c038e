//! Times

use std::time::{Duration, Instant};

use crate::support::http::get;
use crate::support::{Ftp, TestGateway, eventually, pattern};

const SET: &str = "20020717210715";

/// A gateway that gives the times that clients set.
async fn with_metadata(more: &[&str]) -> TestGateway {
    let own = ["LISTING__TIMES=metadata", "ADMIN__LISTEN=127.0.0.1:0"];
    TestGateway::with(&[&own, more].concat()).await
}

/// HEADs that the gateway has sent.
async fn heads(gateway: &TestGateway) -> u64 {
    let admin = gateway.gateway.admin_address().expect("it is on");
    let metrics = get(admin, "/metrics", &[]).await.body;
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("cosgate_s3_requests_total{operation=\"HeadObject\""));
    let counts = lines.map(|line| line.rsplit(' ').next().expect("a value"));
    counts
        .map(|count| count.parse::<f64>().expect("a number") as u64)
        .sum()
}

/// The answers of MLSD, MDTM and MLST about the time of `name`.
async fn times(ftp: &mut Ftp, name: &str) -> [String; 3] {
    let of_facts = |line: &str| {
        let (_, rest) = line.split_once("modify=").expect("a time");
        rest[..14].to_owned()
    };
    let listing = ftp.listing("MLSD").await;
    let mut lines = listing.lines();
    let line = lines.find(|line| line.ends_with(&format!("; {name}")));
    let mlsd = of_facts(line.expect("it is listed"));
    let mdtm = ftp.command(&format!("MDTM {name}")).await.text;
    let mlst = of_facts(&ftp.command(&format!("MLST {name}")).await.text);
    [mlsd, mdtm[4..18].to_owned(), mlst]
}

/// By default a listing has the times of the store, `MDTM` and the `LIST` of one file have the time that a client set, and
/// `FEAT` has no `MFMT`.
#[tokio::test]
async fn by_default_a_listing_has_the_stores_times_and_mfmt_is_not_announced() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR f", b"bytes").await.code, 226);
    assert!(!ftp.command("FEAT").await.text.contains("MFMT"));
    let before = times(&mut ftp, "f").await[0].clone();
    assert_eq!(ftp.command(&format!("MFMT {SET} f")).await.code, 213);
    let [listed, told, _] = times(&mut ftp, "f").await;
    assert!(listed >= before, "{listed} {before}");
    assert_eq!(told, SET);
    let one = ftp.listing("LIST f").await;
    assert!(one.contains("Jul 17  2002"), "{one}");
    gateway.stop().await;
}

/// With `listing.times: metadata` listings, `MDTM`, `MLST` and `STAT` all give the time that was set, and `FEAT` has
/// `MFMT`.
#[tokio::test]
async fn with_metadata_all_commands_give_the_time_that_was_set() {
    let gateway = with_metadata(&[]).await;
    let mut ftp = gateway.login().await;
    assert!(ftp.command("FEAT").await.text.contains("\r\n MFMT\r\n"));
    for name in ["a", "b", "with space", "ü"] {
        assert_eq!(ftp.store(&format!("STOR {name}"), b"x").await.code, 226);
    }
    ftp.command("MKD d").await;
    // the same bytes under the same name: the ETag stays, and often the store's second, too
    for second in 10..30 {
        let time = format!("200207172107{second}");
        assert_eq!(ftp.command(&format!("MFMT {time} ü")).await.code, 213);
        assert_eq!(times(&mut ftp, "ü").await, [time.as_str(); 3]);
    }
    let [listed, told, _] = times(&mut ftp, "a").await;
    assert_eq!(listed, told, "one that nobody set");
    let long = ftp.listing("LIST").await;
    let line = long.lines().find(|line| line.ends_with(" ü"));
    assert!(
        line.is_some_and(|line| line.contains("Jul 17  2002")),
        "{long}"
    );
    assert_eq!(long.lines().count(), 5, "{long}");
    // STAT and a pattern likewise
    for line in ["STAT /", "STAT /ü*"] {
        let reply = ftp.command(line).await;
        assert!(reply.text.contains("Jul 17  2002"), "{line}: {reply:?}");
    }
    gateway.stop().await;
}

/// With `listing.times: metadata` a file costs one HEAD, once, and only where its time is shown.
#[tokio::test]
async fn a_time_is_asked_for_once_and_only_where_it_is_shown() {
    let gateway = with_metadata(&[]).await;
    let mut ftp = gateway.login().await;
    for number in 0..40 {
        gateway
            .put_object(&format!("f{number}"), b"x".to_vec())
            .await;
    }
    let before = heads(&gateway).await;
    ftp.listing("NLST").await;
    assert_eq!(ftp.command("OPTS MLST type;size;").await.code, 200);
    ftp.listing("MLSD").await;
    assert_eq!(heads(&gateway).await, before, "no line has a time");
    assert_eq!(ftp.command("OPTS MLST type;size;modify;").await.code, 200);
    ftp.listing("MLSD").await;
    assert_eq!(heads(&gateway).await, before + 40);
    // once the files are older than the store's clock is coarse
    let began = Instant::now();
    eventually("all times are remembered", || async {
        let before = heads(&gateway).await;
        let mut ftp = gateway.login().await;
        ftp.listing("MLSD").await;
        heads(&gateway).await == before
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(30));
    // what is set or stored is asked for again, the others are not
    let before = heads(&gateway).await;
    assert_eq!(ftp.command(&format!("MFMT {SET} f7")).await.code, 213);
    gateway.put_object("f8", b"other".to_vec()).await;
    let of_mfmt = heads(&gateway).await - before;
    assert_eq!(times(&mut ftp, "f7").await[0], SET);
    // MDTM and MLST of `times` are one HEAD each
    assert_eq!(heads(&gateway).await, before + of_mfmt + 2 + 2);
    gateway.stop().await;
}

/// `MFMT` sets the time of a file, which `MDTM` and `MLST` give and which a rename keeps; the content stays.
/// Directories have none: 550.
#[tokio::test]
async fn a_client_can_set_the_time_of_a_file() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let bytes = pattern(1000);
    ftp.store("STOR f", &bytes).await;
    assert_eq!(
        ftp.command("MFMT 20020717210715 f").await.text,
        "213 Modify=20020717210715; /f\r\n"
    );
    assert_eq!(ftp.command("MDTM f").await.text, "213 20020717210715\r\n");
    let facts = ftp.command("MLST f").await;
    assert!(
        facts
            .text
            .contains(" type=file;size=1000;modify=20020717210715; /f\r\n"),
        "{facts:?}"
    );
    // before 1970, and a second time
    assert_eq!(ftp.command("MFMT 19690720201740 f").await.code, 213);
    assert_eq!(ftp.command("MDTM f").await.text, "213 19690720201740\r\n");
    assert!(gateway.object("f").await == Some(bytes));
    // it goes with the file
    ftp.command("RNFR f").await;
    assert_eq!(ftp.command("RNTO g").await.code, 250);
    assert_eq!(ftp.command("MDTM g").await.text, "213 19690720201740\r\n");

    ftp.command("MKD d").await;
    assert_eq!(ftp.command("MFMT 20020717210715 d").await.code, 550);
    assert_eq!(ftp.command("MFMT 20020717210715 nothing").await.code, 550);
    assert_eq!(ftp.command("MFMT 20021317210715 g").await.code, 501);
    assert_eq!(ftp.command("SITE CHMOD 644 g").await.code, 200);
    assert_eq!(ftp.command("SITE EXEC ls").await.code, 504);
    // the next command has its own meaning again
    assert_eq!(ftp.command("SIZE g").await.text, "213 1000\r\n");
}
