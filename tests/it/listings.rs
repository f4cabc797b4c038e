//! Listings of stores that cut their answers, or give pages with nothing on them.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::proxy::Proxy;
use crate::support::{Ftp, TestGateway};

const SHORT_BACKOFF: &str = "STORAGE__RETRY__MAX_BACKOFF=5ms";

/// Answers the first `times` listings with `xml`, where `#` is what the request asks to go on from.
fn list_as(proxy: &Proxy, times: usize, xml: &str) {
    let seen = AtomicUsize::new(0);
    proxy.answer_if(xml, move |head| {
        let line = head.lines().next().unwrap_or_default();
        let is_listing = line.starts_with("GET") && line.contains("prefix=");
        is_listing && seen.fetch_add(1, Ordering::SeqCst) < times
    });
}

async fn names(ftp: &mut Ftp) -> (Vec<String>, u16) {
    let (bytes, reply) = ftp.fetch("NLST").await;
    let text = String::from_utf8(bytes).expect("UTF-8");
    (text.lines().map(str::to_owned).collect(), reply.code)
}

const OBJECT: &str = "<Contents><Key>a</Key><Size>1</Size></Contents>";

#[tokio::test]
async fn a_page_that_was_cut_is_asked_for_again_and_never_shown() {
    for version in ["v1", "v2"] {
        let version = format!("STORAGE__LIST_VERSION={version}");
        let (gateway, proxy) = TestGateway::behind_proxy(&[SHORT_BACKOFF, &version]).await;
        for name in ["a", "b", "c"] {
            gateway.put_object(name, b"x".to_vec()).await;
        }
        let mut ftp = gateway.login().await;
        let cut = format!("<ListBucketResult><Name>cosgate</Name>{OBJECT}");
        for xml in [cut.as_str(), ""] {
            list_as(&proxy, 1, xml);
            let (listed, code) = names(&mut ftp).await;
            assert_eq!(code, 226, "{version} {xml}");
            assert_eq!(listed, ["a", "b", "c"], "{version} {xml}");
            list_as(&proxy, usize::MAX, xml);
            let (_, code) = names(&mut ftp).await;
            assert_eq!(code, 451, "{version} {xml}");
        }
    }
}

#[tokio::test]
async fn a_page_with_fewer_names_than_it_says_is_no_226() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[SHORT_BACKOFF]).await;
    let mut ftp = gateway.login().await;
    let page = |count: usize| {
        format!(
            "<ListBucketResult><Name>cosgate</Name><KeyCount>{count}</KeyCount>{OBJECT}\
             <IsTruncated>false</IsTruncated></ListBucketResult>"
        )
    };
    list_as(&proxy, 1, &page(1));
    assert_eq!(names(&mut ftp).await, (vec!["a".to_owned()], 226));
    // stores that count files only
    list_as(&proxy, 1, &page(0));
    assert_eq!(names(&mut ftp).await, (vec!["a".to_owned()], 226));
    list_as(&proxy, usize::MAX, &page(2));
    assert_eq!(names(&mut ftp).await.1, 451);
}

#[tokio::test]
async fn an_empty_page_that_names_a_next_one_is_not_the_end() {
    let (gateway, proxy) =
        TestGateway::behind_proxy(&[SHORT_BACKOFF, "STORAGE__LIST_VERSION=v1"]).await;
    for name in ["d/a", "d/b", "e/c"] {
        gateway.put_object(name, b"x".to_vec()).await;
    }
    let empty = "<ListBucketResult><Name>cosgate</Name><IsTruncated>true</IsTruncated>\
                 <NextMarker>!</NextMarker></ListBucketResult>";
    let mut ftp = gateway.login().await;
    list_as(&proxy, 1, empty);
    assert_eq!(ftp.command("CWD /d").await.code, 250);
    list_as(&proxy, 1, empty);
    assert_eq!(
        names(&mut ftp).await,
        (vec!["a".to_owned(), "b".to_owned()], 226)
    );
    list_as(&proxy, 1, empty);
    assert_eq!(ftp.command("RMD /d").await.code, 550, "it is not empty");
    list_as(&proxy, 1, empty);
    assert_eq!(ftp.command("MKD /e").await.code, 550, "it is there");
    assert_eq!(gateway.keys().await, ["d/a", "d/b", "e/c"]);
    // one that never ends must not keep a session for ever
    list_as(&proxy, usize::MAX, empty);
    assert_eq!(ftp.command("CWD /e").await.code, 451);
    assert_eq!(names(&mut ftp).await.1, 451);
}
