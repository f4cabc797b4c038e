//! The metadata and tags of an object: who stored it, and whether it is a fragment.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::types::{Tag, Tagging};
use tokio::io::AsyncWriteExt;

use crate::support::faults::Fault;
use crate::support::gateway::BUCKET;
use crate::support::{Ftp, Reply, TestGateway, login, pattern, users};

const MIB: usize = 1024 * 1024;

fn pairs(tags: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    tags.iter().map(owned).collect()
}

/// Sends `bytes` by `command` and aborts; returns the transfer's own reply.
async fn abort(ftp: &mut Ftp, command: &str, bytes: &[u8]) -> Reply {
    let mut data = ftp.data().await;
    assert_eq!(ftp.command(command).await.code, 150);
    data.write_all(bytes).await.expect("taken");
    let arrived = format!("{} bytes", bytes.len());
    while !ftp.command("STAT").await.text.contains(&arrived) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let reply = ftp.command("ABOR").await;
    assert_eq!(ftp.reply().await.code, 226);
    reply
}

#[tokio::test]
async fn objects_name_who_stored_them_if_that_is_asked_for() {
    let users = format!("USERS={}", users(&["name: demo", "name: 'jürgen 1%'"]));
    for (is_on, settings) in [(true, &["UPLOAD__PROVENANCE=true"][..]), (false, &[])] {
        let gateway = TestGateway::with(&[&[users.as_str()], settings].concat()).await;
        let mut ftp = login(&gateway, "jürgen 1%").await;
        for (name, bytes) in [("small", 10), ("large", 9 * MIB)] {
            gateway.put_object(name, b"somebody else's".to_vec()).await;
            // a new object, one that continues another, and a copy
            assert_eq!(
                ftp.store(format!("STOR {name}"), &pattern(bytes))
                    .await
                    .code,
                226
            );
            let user = gateway.metadata(name, "cosgate-user").await;
            let expected = is_on.then(|| "j%C3%BCrgen%201%25".to_owned());
            assert_eq!(user, expected, "{name}");
            let client = gateway.metadata(name, "cosgate-client").await;
            assert_eq!(client, is_on.then(|| "127.0.0.1".to_owned()));
            let mut other = login(&gateway, "demo").await;
            assert_eq!(other.store(format!("APPE {name}"), b"x").await.code, 226);
            let user = gateway.metadata(name, "cosgate-user").await;
            assert_eq!(user, is_on.then(|| "demo".to_owned()));
            assert_eq!(ftp.command(format!("RNFR {name}")).await.code, 350);
            assert_eq!(ftp.command("RNTO moved").await.code, 250);
            let user = gateway.metadata("moved", "cosgate-user").await;
            assert_eq!(
                user,
                is_on.then(|| "demo".to_owned()),
                "a rename is not an upload"
            );
        }
    }
}

#[tokio::test]
async fn a_fragment_is_tagged_and_a_whole_file_is_not() {
    let gateway = TestGateway::with(&["UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    let mut ftp = gateway.login().await;
    let kept = pairs(&[("cosgate-outcome", "kept")]);
    for bytes in [10, 7 * MIB] {
        let bytes = pattern(bytes);
        let reply = abort(&mut ftp, "STOR f", &bytes).await;
        assert_eq!(reply.code, 426);
        assert_eq!(gateway.tags("f").await, kept);
        // it moves with the fragment, and goes with what makes it whole
        assert_eq!(ftp.command("RNFR f").await.code, 350);
        assert_eq!(ftp.command("RNTO g").await.code, 250);
        assert_eq!(gateway.tags("g").await, kept);
        assert_eq!(ftp.store("APPE g", b"the rest").await.code, 226);
        assert_eq!(gateway.tags("g").await, pairs(&[]));
        assert!(gateway.object("g").await == Some([&bytes[..], b"the rest"].concat()));

        assert_eq!(abort(&mut ftp, "STOR f", &bytes).await.code, 426);
        assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
        assert_eq!(gateway.tags("f").await, pairs(&[]));
    }
}

#[tokio::test]
async fn tags_of_others_stay_on_what_continues_their_object() {
    let (gateway, _proxy) = TestGateway::behind_proxy(&[]).await;
    let mut ftp = gateway.login().await;
    for bytes in [10, 6 * MIB] {
        gateway.put_object("f", pattern(bytes)).await;
        let tag = Tag::builder().key("Projekt ä").value("a+b = c&d").build();
        let set = Tagging::builder().tag_set(tag.expect("a tag")).build();
        let tagged = gateway.s3().put_object_tagging().bucket(BUCKET).key("f");
        tagged
            .tagging(set.expect("tags"))
            .send()
            .await
            .expect("tagged");

        assert_eq!(abort(&mut ftp, "APPE f", b"fragment").await.code, 426);
        let own = ("Projekt ä", "a+b = c&d");
        assert_eq!(
            gateway.tags("f").await,
            pairs(&[own, ("cosgate-outcome", "kept")])
        );
        assert_eq!(ftp.store("APPE f", b"rest").await.code, 226);
        assert_eq!(gateway.tags("f").await, pairs(&[own]));
    }
}

#[tokio::test]
async fn a_whole_file_that_takes_a_fragments_place_before_the_tag_loses_it_again() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let mut ftp = gateway.login().await;
    let hold = proxy.hold_if(|head| head.starts_with("PUT") && head.contains("?tagging"));
    let (reply, ()) = tokio::join!(abort(&mut ftp, "STOR f", b"fragment"), async {
        hold.wait().await;
        // another program, or another replica
        gateway.put_object("f", b"whole".to_vec()).await;
        drop(hold);
    });
    assert_eq!(reply.code, 426);
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"whole"[..]));
    assert_eq!(gateway.tags("f").await, pairs(&[]));
}

#[tokio::test]
async fn a_store_that_has_no_tags_changes_no_reply() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let mut ftp = gateway.login().await;
    for (status, code) in [
        (501, "NotImplemented"),
        (403, "AccessDenied"),
        (404, "NoSuchKey"),
    ] {
        proxy
            .fault("PutObjectTagging", Fault::refuse(status, code))
            .always();
        let reply = abort(&mut ftp, "STOR f", b"fragment").await;
        assert_eq!(reply.code, 426);
        assert!(
            reply.text.contains("the 8 bytes that arrived were stored"),
            "{reply:?}"
        );
        assert_eq!(gateway.tags("f").await, pairs(&[]));
        assert!(proxy.faults_met() > 0);
        proxy.clear_faults();
    }
    assert_eq!(abort(&mut ftp, "STOR f", b"fragment").await.code, 426);
    assert_eq!(
        gateway.tags("f").await,
        pairs(&[("cosgate-outcome", "kept")])
    );
}
