//! Two at work on one name

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use tokio::io::AsyncWriteExt;

use crate::support::proxy::Proxy;
use crate::support::{TestGateway, pattern};

/// The treatment by the store behind the proxy of conditions on writes and deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conditions {
    Obeyed,
    /// Answered with 501, as by a store that knows none.
    Unknown,
}

const BOTH: [Conditions; 2] = [Conditions::Obeyed, Conditions::Unknown];

async fn gateway(conditions: Conditions) -> (TestGateway, Proxy) {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    if conditions == Conditions::Unknown {
        // the SDK corrects its clock by the date of an error
        let now = DateTime::from(std::time::SystemTime::now());
        let date = now.fmt(DateTimeFormat::HttpDate).expect("a date");
        proxy.refuse_if((501, "NotImplemented", &date), is_conditional);
    }
    (gateway, proxy)
}

fn is_conditional(head: &str) -> bool {
    let is_read = head.starts_with("GET ") || head.starts_with("HEAD ");
    !is_read && (head.contains("\r\nif-match: ") || head.contains("\r\nif-none-match: "))
}

fn starts(line: &'static str) -> impl FnMut(&str) -> bool + Send + 'static {
    move |head| head.starts_with(line)
}

/// A file that is stored under the old name while a rename is under way stays there, and the reply to `RNTO` says so.
#[tokio::test]
async fn a_file_that_another_gateway_stores_under_the_old_name_while_it_is_renamed_stays() {
    for conditions in BOTH {
        let (gateway, proxy) = gateway(conditions).await;
        let mut ftp = gateway.login().await;
        for (step, line) in ["PUT /cosgate/dst", "DELETE /cosgate/src"]
            .iter()
            .enumerate()
        {
            gateway.put_object("src", b"one".to_vec()).await;
            assert_eq!(ftp.command("RNFR src").await.code, 350);
            let hold = proxy.hold_if(starts(line));
            ftp.send("RNTO dst").await;
            hold.wait().await;
            // without conditions the window of the one request that is held remains
            if step == 1 && conditions == Conditions::Unknown {
                drop(hold);
                assert_eq!(ftp.reply().await.code, 250);
                continue;
            }
            gateway.put_object("src", b"two!".to_vec()).await;
            drop(hold);
            let reply = ftp.reply().await;
            assert_eq!(reply.code, 250, "{conditions:?} {line} {reply:?}");
            if step == 0 {
                // stored before the copy, so that is what was renamed
                assert_eq!(gateway.object("dst").await, Some(b"two!".to_vec()));
                assert_eq!(gateway.object("src").await, None);
            } else {
                assert!(reply.text.contains("stays there"), "{reply:?}");
                assert_eq!(gateway.object("dst").await, Some(b"one".to_vec()));
                assert_eq!(gateway.object("src").await, Some(b"two!".to_vec()));
            }
        }
    }
}

/// A delete whose answer is lost deletes nothing that was stored since.
#[tokio::test]
async fn a_delete_whose_answer_was_lost_does_not_delete_what_was_stored_since() {
    for conditions in BOTH {
        for command in ["RNTO dst", "DELE src"] {
            let (gateway, proxy) = gateway(conditions).await;
            let mut ftp = gateway.login().await;
            // what is learnt of the store is learnt before
            gateway.put_object("x", b"x".to_vec()).await;
            assert_eq!(ftp.command("DELE x").await.code, 250);

            gateway.put_object("src", b"one".to_vec()).await;
            ftp.command("RNFR src").await;
            proxy.lose_answer_to("DELETE", "/cosgate/src");
            let lost = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            // the attempt or the look that follows the lost answer
            let hold = proxy.hold_if(move |head| {
                let is_delete = head.starts_with("DELETE /cosgate/src");
                let after = lost.load(std::sync::atomic::Ordering::SeqCst);
                if is_delete {
                    lost.store(true, std::sync::atomic::Ordering::SeqCst);
                }
                after && (is_delete || head.starts_with("HEAD /cosgate/src"))
            });
            ftp.send(command).await;
            hold.wait().await;
            assert_eq!(gateway.object("src").await, None);
            gateway.put_object("src", b"two!".to_vec()).await;
            drop(hold);
            let reply = ftp.reply().await;
            let code = if command.starts_with("DELE") {
                451
            } else {
                250
            };
            assert_eq!(reply.code, code, "{conditions:?} {command} {reply:?}");
            assert_eq!(
                gateway.object("src").await,
                Some(b"two!".to_vec()),
                "{conditions:?} {command}"
            );
        }
    }
}

/// Within one gateway an upload waits for a rename of its name, and neither loses anything.
#[tokio::test]
async fn an_upload_waits_for_a_rename_of_its_name_in_the_same_gateway() {
    let (gateway, proxy) = gateway(Conditions::Unknown).await;
    let (mut one, mut other) = (gateway.login().await, gateway.login().await);
    gateway.put_object("src", b"one".to_vec()).await;
    one.command("RNFR src").await;
    let hold = proxy.hold_if(|head| head.starts_with("DELETE /cosgate/src"));
    one.send("RNTO dst").await;
    hold.wait().await;
    let upload = async {
        let reply = other.store("STOR src", b"two!").await;
        assert_eq!(reply.code, 226, "{reply:?}");
    };
    let rename = async {
        // the upload has sent all there is to send; its request isn't among those that reach the proxy
        tokio::task::yield_now().await;
        drop(hold);
        assert_eq!(one.reply().await.code, 250);
    };
    tokio::join!(upload, rename);
    assert_eq!(gateway.object("src").await, Some(b"two!".to_vec()));
    assert_eq!(gateway.object("dst").await, Some(b"one".to_vec()));
}

/// A file that is stored into a directory while that is renamed stays where it was stored.
#[tokio::test]
async fn a_file_stored_into_a_directory_that_is_being_renamed_stays_where_it_was_stored() {
    for conditions in BOTH {
        let (gateway, proxy) = gateway(conditions).await;
        let mut ftp = gateway.login().await;
        for name in ["a", "b", "c"] {
            gateway
                .put_object(&format!("d/{name}"), b"old".to_vec())
                .await;
        }
        ftp.command("RNFR d").await;
        let hold = proxy.hold_if(|head| head.starts_with("DELETE /cosgate/d/"));
        ftp.send("RNTO new").await;
        hold.wait().await;
        gateway.put_object("d/late", b"late".to_vec()).await;
        drop(hold);
        let reply = ftp.reply().await;
        assert_eq!(reply.code, 250, "{conditions:?} {reply:?}");
        assert_eq!(gateway.object("d/late").await, Some(b"late".to_vec()));
        assert_eq!(gateway.keys().await, ["d/late", "new/a", "new/b", "new/c"]);
    }
}

/// A file that is replaced while its directory is renamed is not deleted.
#[tokio::test]
async fn a_file_that_is_replaced_while_its_directory_is_deleted_stays() {
    let (gateway, proxy) = gateway(Conditions::Obeyed).await;
    let mut ftp = gateway.login().await;
    for name in ["a", "b"] {
        gateway
            .put_object(&format!("d/{name}"), b"old".to_vec())
            .await;
    }
    ftp.command("RNFR d").await;
    let hold = proxy.hold_if(|head| head.starts_with("DELETE /cosgate/d/"));
    ftp.send("RNTO new").await;
    hold.wait().await;
    gateway.put_object("d/b", b"renewed".to_vec()).await;
    drop(hold);
    let reply = ftp.reply().await;
    assert_eq!(reply.code, 250, "{reply:?}");
    assert!(reply.text.contains("stays there"), "{reply:?}");
    assert_eq!(gateway.object("d/b").await, Some(b"renewed".to_vec()));
    assert_eq!(gateway.object("new/b").await, Some(b"old".to_vec()));
    assert_eq!(gateway.keys().await, ["d/b", "new/a", "new/b"]);
}

/// A file that is stored under the new name of a directory while that is renamed is not replaced.
#[tokio::test]
async fn a_file_stored_under_the_new_name_of_a_directory_is_not_replaced_by_the_rename() {
    for conditions in BOTH {
        let (gateway, proxy) = gateway(conditions).await;
        let mut ftp = gateway.login().await;
        for name in ["a", "b", "c"] {
            gateway
                .put_object(&format!("d/{name}"), b"old".to_vec())
                .await;
        }
        ftp.command("RNFR d").await;
        // a store without conditions is asked right before each copy, so what comes before that is seen
        let line = match conditions {
            Conditions::Obeyed => "PUT /cosgate/new/b",
            Conditions::Unknown => "HEAD /cosgate/new/b",
        };
        let hold = proxy.hold_if(move |head| head.starts_with(line));
        ftp.send("RNTO new").await;
        hold.wait().await;
        gateway.put_object("new/b", b"somebody's".to_vec()).await;
        drop(hold);
        let reply = ftp.reply().await;
        assert_eq!(reply.code, 550, "{conditions:?} {reply:?}");
        assert!(
            reply.text.contains("1 files of the same names"),
            "{reply:?}"
        );
        assert_eq!(gateway.object("new/b").await, Some(b"somebody's".to_vec()));
        assert_eq!(gateway.keys().await, ["d/b", "new/a", "new/b", "new/c"]);
    }
}

/// Of two appends to one file at once, what got 226 is in the file, and what got 451 is not.
#[tokio::test]
async fn two_appends_at_once_lose_nothing_that_was_acknowledged() {
    for conditions in BOTH {
        for size in [1000, 6 << 20] {
            let (gateway, _proxy) = gateway(conditions).await;
            let base = pattern(size);
            gateway.put_object("log", base.clone()).await;
            let (mut one, mut other) = (gateway.login().await, gateway.login().await);
            // both begin from the same version: it is looked at before the 150
            let (mut datas, lines) = (Vec::new(), ["line1\n", "line2\n"]);
            for ftp in [&mut one, &mut other] {
                datas.push(ftp.data().await);
                assert_eq!(ftp.command("APPE log").await.code, 150);
            }
            for (data, line) in datas.iter_mut().zip(lines) {
                data.write_all(line.as_bytes()).await.expect("taken");
                data.shutdown().await.expect("ended");
            }
            let (first, second) = tokio::join!(one.reply(), other.reply());
            let stored = gateway.object("log").await.expect("there");
            assert!(stored.starts_with(&base));
            let tail = String::from_utf8_lossy(&stored[size..]).into_owned();
            for (reply, line) in [(&first, "line1\n"), (&second, "line2\n")] {
                assert!(matches!(reply.code, 226 | 451), "{reply:?}");
                assert_eq!(
                    tail.contains(line),
                    reply.code == 226,
                    "{conditions:?} {size} {reply:?} {tail:?}"
                );
            }
            assert_eq!(first.code.min(second.code), 226);
            assert_eq!(first.code.max(second.code), 451);
            assert_eq!(gateway.unfinished().await, 0);
        }
    }
}

/// An append to a file that another gateway replaced meanwhile is 451, and the newer file stays; the next append
/// continues it.
#[tokio::test]
async fn an_append_loses_against_another_gateway_that_was_faster() {
    for size in [0, 1000, 6 << 20] {
        let (gateway, proxy) = gateway(Conditions::Obeyed).await;
        gateway.put_object("log", pattern(size)).await;
        let mut ftp = gateway.login().await;
        let hold = proxy.hold_if(|head| {
            (head.starts_with("PUT /cosgate/log") && !head.contains("partNumber="))
                || (head.starts_with("POST /cosgate/log") && head.contains("uploadId="))
        });
        let meanwhile = async {
            hold.wait().await;
            gateway.put_object("log", b"somebody's".to_vec()).await;
            drop(hold);
        };
        let (reply, ()) = tokio::join!(ftp.store("APPE log", b"tail"), meanwhile);
        assert_eq!(reply.code, 451, "{size} {reply:?}");
        assert!(reply.text.contains("changed meanwhile"), "{reply:?}");
        assert_eq!(gateway.object("log").await, Some(b"somebody's".to_vec()));
        assert_eq!(gateway.unfinished().await, 0);
        // and the next one continues what is there
        assert_eq!(ftp.store("APPE log", b" tail").await.code, 226);
        assert_eq!(
            gateway.object("log").await,
            Some(b"somebody's tail".to_vec())
        );
    }
}

/// An append to a missing file replaces nothing that is stored under its name meanwhile.
#[tokio::test]
async fn an_append_to_a_missing_file_does_not_replace_what_is_stored_meanwhile() {
    let (gateway, proxy) = gateway(Conditions::Obeyed).await;
    let mut ftp = gateway.login().await;
    let hold = proxy.hold_if(|head| head.starts_with("PUT /cosgate/fresh"));
    let meanwhile = async {
        hold.wait().await;
        gateway.put_object("fresh", b"whole".to_vec()).await;
        drop(hold);
    };
    let (reply, ()) = tokio::join!(ftp.store("APPE fresh", b"appended"), meanwhile);
    assert_eq!(reply.code, 451, "{reply:?}");
    assert_eq!(gateway.object("fresh").await, Some(b"whole".to_vec()));
}
