//! Tencent COS as its documents have it: nothing that the gateway sends is refused there, or relies on what COS ignores.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use cosgate::doctor::{Outcome, Report};

use crate::doctor::{check, configuration};
use crate::support::strict_cos::{BUCKET, KEYS, REGION, StrictCos};
use crate::support::{Consumer, Ftp, gateway, pattern, users};

const MIB: usize = 1024 * 1024;

async fn in_front_of(cos: &StrictCos, more: &[&str]) -> (cosgate::app::Gateway, Ftp) {
    let mut settings = cos.settings();
    settings.push(format!("USERS={}", users(&["name: u"])));
    let settings = settings.iter().map(String::as_str);
    let settings: Vec<&str> = settings.chain(more.iter().copied()).collect();
    let gateway = gateway::start(&settings).await;
    let mut ftp = Ftp::connect(gateway.addresses()[0]).await;
    ftp.login("u", "secret").await;
    (gateway, ftp)
}

async fn examine(settings: &[String]) -> Report {
    let users = format!("USERS={}", users(&["name: u"]));
    configuration::examine(&[settings, &[users]].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_do_is_refused_nowhere() {
    let cos = StrictCos::start().await;
    let (gateway, mut ftp) = in_front_of(&cos, &[]).await;
    let large = pattern(5 * MIB + 17);
    let names = [
        "plain.txt",
        "a b",
        "a+b",
        "a%41b",
        "a&b<c>",
        "üñî 漢字",
        "x~!@#$^()=;:,?",
        "a%2Fb",
    ];
    for name in names {
        assert_eq!(ftp.store(&format!("STOR {name}"), b"small").await.code, 226);
        let (got, reply) = ftp.fetch(&format!("RETR {name}")).await;
        assert_eq!((got, reply.code), (b"small".to_vec(), 226), "{name}");
    }
    let (listed, reply) = ftp.fetch("NLST").await;
    assert_eq!(reply.code, 226);
    let listed = String::from_utf8(listed).expect("UTF-8");
    for name in names {
        assert!(listed.lines().any(|it| it == name), "{name} in {listed}");
    }
    // in parts. Appended to and continued is a small one: COS takes parts from 1 MiB on, as the gateway makes them then, and the store
    // behind this double from 5 MiB on; `continued` has the large ones, with a double that takes both
    assert_eq!(ftp.store("STOR large", &large).await.code, 226);
    assert!(ftp.fetch("RETR large").await.0 == large);
    assert_eq!(ftp.command("REST 5242881").await.code, 350);
    let (got, _) = ftp.fetch("RETR large").await;
    assert!(got == large[5_242_881..]);
    assert_eq!(ftp.store("APPE plain.txt", b"tail").await.code, 226);
    assert_eq!(ftp.command("REST 6").await.code, 350);
    assert_eq!(ftp.store("STOR plain.txt", b"other").await.code, 226);
    let (got, _) = ftp.fetch("RETR plain.txt").await;
    assert_eq!(got, b"smalltother");
    assert_eq!(ftp.command("MFMT 20200102030405 large").await.code, 213);
    assert_eq!(
        ftp.command("MDTM large").await.text,
        "213 20200102030405\r\n"
    );
    // directories, and renames of a file and of a directory
    assert_eq!(ftp.command("MKD d").await.code, 257);
    for (from, to) in [("large", "d/large"), ("a b", "d/c"), ("d", "e")] {
        assert_eq!(ftp.command(&format!("RNFR {from}")).await.code, 350);
        let reply = ftp.command(&format!("RNTO {to}")).await;
        assert_eq!(reply.code, 250, "{reply:?} {:?}", cos.take_refused());
    }
    assert_eq!(ftp.command("RMD e").await.code, 550);
    for command in ["DELE e/large", "DELE e/c", "RMD e"] {
        assert_eq!(ftp.command(command).await.code, 250, "{command}");
    }
    gateway.stop().await;
    assert_eq!(cos.take_refused(), Vec::<String>::new());
    assert_eq!(cos.take_ignored(), Vec::<String>::new());
    cos.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_its_bucket_sound() {
    let cos = StrictCos::start().await;
    let (_consumer, sink) = Consumer::start().await;
    let mut settings = cos.settings();
    settings.push(format!(
        "EVENTS__SINKS=[{{name: here, url: 'http://{sink}/hook'}}]"
    ));
    settings.push("EVENTS__DELIVERY=durable".to_owned());
    let report = examine(&settings).await;
    for name in [
        "put",
        "head",
        "get",
        "list",
        "multipart",
        "copy",
        "copy in parts",
        "list uploads",
        "delete",
        "outbox",
        "outbox, delete",
    ] {
        assert_eq!(
            check(&report, name).outcome,
            Outcome::Ok,
            "{name}\n{report}"
        );
    }
    assert_eq!(cos.take_refused(), Vec::<String>::new());
    assert_eq!(cos.take_ignored(), Vec::<String>::new());
    cos.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_bucket_in_the_path_is_refused_and_the_doctor_says_so() {
    let cos = StrictCos::start().await;
    let mut settings = cos.settings();
    settings.retain(|it| it != "STORAGE__ADDRESSING=custom");
    settings.push("STORAGE__ADDRESSING=path".to_owned());
    let report = examine(&settings).await;
    assert_eq!(report.outcome(), Outcome::Failed, "{report}");
    assert!(!cos.take_refused().is_empty());
    assert!(
        report.to_string().contains("PathStyleDomainForbidden"),
        "{report}"
    );
    cos.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_header_keeps_files_from_being_replaced() {
    let cos = StrictCos::start().await;
    let (gateway, mut ftp) = in_front_of(&cos, &["UPLOAD__OVERWRITE=false"]).await;
    let large = pattern(5 * MIB + 1);
    for (name, bytes) in [("small", b"old".as_slice()), ("large", &large)] {
        assert_eq!(ftp.store(&format!("STOR {name}"), bytes).await.code, 226);
        let again = ftp
            .store(&format!("STOR {name}"), &[bytes, b"new"].concat())
            .await;
        assert_eq!(again.code, 550, "{again:?}");
        assert!(ftp.fetch(&format!("RETR {name}")).await.0 == bytes);
    }
    gateway.stop().await;
    assert_eq!(cos.take_ignored(), Vec::<String>::new());
    cos.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_file_is_named_so() {
    let cos = StrictCos::start().await;
    let class = ["UPLOAD__STORAGE_CLASS=DEEP_ARCHIVE"];
    let (gateway, mut ftp) = in_front_of(&cos, &class).await;
    let large = pattern(5 * MIB + 1);
    for (name, bytes) in [("small", b"old".as_slice()), ("large", &large)] {
        assert_eq!(ftp.store(&format!("STOR {name}"), bytes).await.code, 226);
        let (_, reply) = ftp.fetch(&format!("RETR {name}")).await;
        assert_eq!(reply.code, 550, "{reply:?}");
        assert!(reply.text.contains("archived"), "{reply:?}");
        let reply = ftp.store(&format!("APPE {name}"), b"more").await;
        assert_eq!(reply.code, 550, "{reply:?}");
        assert!(reply.text.contains("archived"), "{reply:?}");
        assert_eq!(ftp.command(&format!("RNFR {name}")).await.code, 350);
        let reply = ftp.command("RNTO other").await;
        assert_eq!(reply.code, 550, "{reply:?}");
        assert!(reply.text.contains("archived"), "{reply:?}");
        assert_eq!(ftp.command(&format!("SIZE {name}")).await.code, 213);
        assert_eq!(ftp.command(&format!("DELE {name}")).await.code, 250);
    }
    gateway.stop().await;
    cos.stop().await;
}

/// The double itself: what the documents say that COS refuses.
#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_with_its_defaults_is_refused() {
    let cos = StrictCos::start().await;
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(format!("http://{}", cos.address))
        .region(Region::new(REGION))
        .force_path_style(true)
        .credentials_provider(Credentials::new(KEYS.0, KEYS.1, None, None, "test"));
    let s3 = Client::from_conf(config.build());
    let listed = s3.list_objects().bucket(BUCKET).send().await;
    let code = |error: &dyn ProvideErrorMetadata| error.code().map(str::to_owned);
    let error = listed.expect_err("refused");
    assert_eq!(code(&error).as_deref(), Some("PathStyleDomainForbidden"));
    let begun = s3.create_multipart_upload().bucket(BUCKET).key("k");
    let error = begun.send().await.expect_err("refused");
    assert_eq!(code(&error).as_deref(), Some("MissingContentLength"));
    let one = ObjectIdentifier::builder().key("k").build().expect("a key");
    let many = Delete::builder().objects(one).build().expect("a key");
    let deleted = s3.delete_objects().bucket(BUCKET).delete(many).send().await;
    let error = deleted.expect_err("refused");
    assert_eq!(code(&error).as_deref(), Some("MissingContentMD5"));
    let put = s3.put_object().bucket(BUCKET).key("k");
    let put = put.content_md5("AAAAAAAAAAAAAAAAAAAAAA==");
    let error = put.body(b"x".to_vec().into()).send().await;
    let error = error.expect_err("refused");
    assert_eq!(code(&error).as_deref(), Some("BadDigest"));
    let ignored = cos.take_ignored();
    assert!(
        ignored.iter().any(|it| it.contains("x-amz-checksum")),
        "{ignored:?}"
    );
    cos.stop().await;
}
