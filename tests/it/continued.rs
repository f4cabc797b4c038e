//! Files that are continued or rewritten inside the store: what they keep, how that is proved, and what a gateway that
//! dies meanwhile leaves.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, StorageClass};
use cosgate::store::parts::is_marked;
use tokio::io::AsyncWriteExt;

use crate::integrity::in_front_of;
use crate::support::cos::CosDouble;
use crate::support::faults::Fault;
use crate::support::gateway::BUCKET;
use crate::support::{TestGateway, TestStore, eventually, pattern};

const MIB: usize = 1024 * 1024;
const EXPIRES: &str = "Thu, 01 Dec 2033 16:00:00 GMT";

/// Stores an object as another program does, with all that can belong to one.
async fn put_described(store: &TestStore, key: &str, bytes: Vec<u8>) {
    let put = store.s3().put_object().bucket(BUCKET).key(key);
    let expires = DateTime::from_str(EXPIRES, DateTimeFormat::HttpDate).expect("a date");
    put.content_type("text/x-log")
        .cache_control("no-cache")
        .content_disposition("attachment")
        .content_language("de")
        .expires(expires)
        .storage_class(StorageClass::StandardIa)
        .metadata("origin", "a machine")
        .metadata("mtime", "1000000000")
        .body(bytes.into())
        .send()
        .await
        .expect("stored");
}

/// Asserts that all of it is there still, and returns the object's metadata.
async fn described(store: &TestStore, key: &str) -> HashMap<String, String> {
    let head = store.s3().head_object().bucket(BUCKET).key(key);
    let head = head.send().await.expect("it is there");
    assert_eq!(head.content_type(), Some("text/x-log"));
    assert_eq!(head.cache_control(), Some("no-cache"));
    assert_eq!(head.content_disposition(), Some("attachment"));
    assert_eq!(head.content_language(), Some("de"));
    assert_eq!(head.expires_string(), Some(EXPIRES));
    assert_eq!(head.storage_class(), Some(&StorageClass::StandardIa));
    let metadata = head.metadata.expect("metadata");
    assert_eq!(metadata["origin"], "a machine");
    metadata
}

#[tokio::test]
async fn what_belongs_to_a_file_stays_when_it_is_continued_dated_or_renamed() {
    let (gateway, _proxy) = TestGateway::behind_proxy(&[]).await;
    let mut ftp = gateway.login().await;
    for size in [0, 1000, 7 * MIB] {
        let bytes = pattern(size);
        put_described(&gateway, "f", bytes.clone()).await;
        assert_eq!(ftp.store("APPE f", b"tail").await.code, 226);
        // the time that was set was that of the old content
        let metadata = described(&gateway, "f").await;
        assert_eq!(metadata.get("mtime"), None);
        assert!(gateway.object("f").await == Some([&bytes[..], b"tail"].concat()));

        assert_eq!(ftp.command("MFMT 20020717210715 f").await.code, 213);
        let metadata = described(&gateway, "f").await;
        assert_eq!(metadata["mtime"], "1026940035");
        ftp.command("RNFR f").await;
        assert_eq!(ftp.command("RNTO g").await.code, 250);
        described(&gateway, "g").await;

        let rest = size / 2 + 1;
        assert_eq!(ftp.command(&format!("REST {rest}")).await.code, 350);
        assert_eq!(ftp.store("STOR g", b"end").await.code, 226);
        described(&gateway, "g").await;
        let whole = [&bytes[..], b"tail"].concat();
        assert!(gateway.object("g").await == Some([&whole[..rest], b"end"].concat()));
        // a file that is replaced has nothing of the old one
        assert_eq!(ftp.store("STOR g", b"new").await.code, 226);
        assert_eq!(gateway.metadata("g", "origin").await, None);
    }
}

#[tokio::test]
async fn every_length_around_the_least_part_can_be_continued() {
    let (gateway, _proxy) = TestGateway::behind_proxy(&[]).await;
    let mut ftp = gateway.login().await;
    let first = cosgate::store::parts::marked(5 * MIB as u64) as usize;
    for size in [
        5 * MIB - 1,
        5 * MIB,
        first - 1,
        first,
        first + 1,
        first + 5 * MIB,
    ] {
        let bytes = pattern(size);
        gateway.put_object("f", bytes.clone()).await;
        for tail in [&b""[..], b"tail", &pattern(9 * MIB)] {
            gateway.put_object("f", bytes.clone()).await;
            let reply = ftp.store("APPE f", tail).await;
            assert_eq!(reply.code, 226, "{size} {reply:?}");
            let stored = gateway.object("f").await;
            assert!(stored == Some([&bytes[..], tail].concat()), "{size}");
        }
    }
}

#[tokio::test]
async fn a_store_that_ignores_the_range_of_a_copy_is_found_out_before_anything_is_replaced() {
    let cos = CosDouble::start().await;
    let (_gateway, mut ftp) = in_front_of(&cos, &[]).await;
    let bytes = pattern(5 * MIB);
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    for ignores in [true, false] {
        cos.state.ignores_ranges.store(ignores, Ordering::SeqCst);
        ftp.command(&format!("REST {}", 3 * MIB)).await;
        let reply = ftp.store("STOR f", b"tail").await;
        let whole = [&bytes[..3 * MIB], b"tail"].concat();
        let (code, expected) = if ignores {
            (451, &bytes)
        } else {
            (226, &whole)
        };
        assert_eq!(reply.code, code, "{reply:?}");
        assert_eq!(reply.text.contains("could not be verified"), ignores);
        let objects = cos.state.objects.lock().expect("not poisoned");
        assert!(objects.values().next() == Some(expected));
    }
    let [begun, completed, aborted] = *cos.state.uploads.lock().expect("not poisoned");
    assert_eq!((begun, completed, aborted), (3, 2, 1));
}

#[tokio::test]
async fn requests_without_a_body_say_so() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let mut ftp = gateway.login().await;
    gateway.put_object("f", pattern(6 * MIB)).await;
    proxy.take_requests();
    assert_eq!(ftp.store("APPE f", b"tail").await.code, 226);
    ftp.command("RNFR f").await;
    assert_eq!(ftp.command("RNTO g").await.code, 250);
    let requests = proxy.take_requests();
    let find = |what: &dyn Fn(&str) -> bool| {
        let found = requests.iter().find(|head| what(head));
        found
            .unwrap_or_else(|| panic!("not among {requests:?}"))
            .to_lowercase()
    };
    let is_copy = |head: &str| head.contains("x-amz-copy-source:");
    for head in [
        find(&|head| head.starts_with("POST") && head.contains("?uploads")),
        find(&|head| is_copy(head) && head.contains("partNumber=")),
        find(&|head| is_copy(head) && head.starts_with("PUT /cosgate/g")),
    ] {
        assert!(head.contains("\r\ncontent-length: 0\r\n"), "{head}");
    }
}

/// Sizes of the parts of the only unfinished upload.
async fn part_sizes(store: &TestStore) -> Vec<u64> {
    let s3 = store.s3();
    let uploads = s3.list_multipart_uploads().bucket(BUCKET).send().await;
    let uploads = uploads.expect("a listing").uploads.unwrap_or_default();
    let [upload] = &uploads[..] else {
        return Vec::new();
    };
    let parts = s3.list_parts().bucket(BUCKET);
    let parts = parts
        .key(upload.key().expect("a key"))
        .upload_id(upload.upload_id().expect("an id"));
    let parts = parts.send().await.expect("a listing");
    let sizes = parts.parts().iter().filter_map(|part| part.size());
    sizes.map(|bytes| bytes as u64).collect()
}

#[tokio::test]
async fn the_first_part_that_the_store_has_marks_the_upload() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let mut ftp = gateway.login().await;

    // of a file that is continued: the copied range
    gateway.put_object("f", pattern(6 * MIB)).await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("APPE f").await.code, 150);
    data.write_all(b"more").await.expect("taken");
    let sizes = part_sizes(&gateway).await;
    assert!(sizes.len() == 1 && is_marked(sizes[0]), "{sizes:?}");
    drop(data);
    assert_eq!(ftp.reply().await.code, 226);

    // of another: not the last part, which has any size, before the first one is there
    let hold = proxy.hold_if(|head| head.contains("partNumber=1&"));
    let bytes = pattern(10 * MIB);
    let (reply, ()) = tokio::join!(ftp.store("STOR g", &bytes), async {
        hold.wait().await;
        // all bytes have been sent by then, or soon after; the last part must not follow
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(part_sizes(&gateway).await.is_empty());
        drop(hold);
    });
    assert_eq!(reply.code, 226);
}

#[tokio::test]
async fn where_uploads_are_listed_without_checksums_all_that_have_no_part_are_swept() {
    let settings = ["UPLOAD__SWEEP=own", "UPLOAD__STALE_AFTER=1s"];
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    let without = Fault::edit(|answer| {
        let mut text = String::from_utf8_lossy(&answer.body).into_owned();
        for name in ["ChecksumAlgorithm", "ChecksumType"] {
            while let Some((before, rest)) = text.split_once(&format!("<{name}>")) {
                let (_, after) = rest.split_once(&format!("</{name}>")).expect("its end");
                text = format!("{before}{after}");
            }
        }
        answer.body = text.into_bytes();
    });
    proxy.fault("ListMultipartUploads", without).always();
    let begin = gateway.s3().create_multipart_upload().bucket(BUCKET);
    let begun = begin
        .key("died")
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .checksum_type(ChecksumType::FullObject);
    begun.send().await.expect("begun");
    gateway.begin_multipart("theirs", 1000).await;
    eventually("what has no part is swept", || async {
        gateway.unfinished_keys().await == ["theirs"]
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_died_before_its_first_part_is_swept_too() {
    let settings = ["UPLOAD__SWEEP=own", "UPLOAD__STALE_AFTER=1s"];
    let (gateway, _proxy) = TestGateway::behind_proxy(&settings).await;
    let begin = |key: &'static str| {
        gateway
            .s3()
            .create_multipart_upload()
            .bucket(BUCKET)
            .key(key)
    };
    begin("theirs").send().await.expect("begun");
    begin("ours")
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .checksum_type(ChecksumType::FullObject)
        .send()
        .await
        .expect("begun");
    eventually("ours is swept", || async {
        gateway.unfinished_keys().await == ["theirs"]
    })
    .await;
}
