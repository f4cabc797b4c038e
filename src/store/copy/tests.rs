use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::store::describe::Description;
use crate::store::{Home, Located, VirtualPath, testing};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn large_objects_are_copied_in_parts_with_all_that_belongs_to_them() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let (embedded, store) = testing::store(&data).await;
    let store = store.with(|settings| {
        settings.max_copy_bytes = 6 * MIB;
        settings.copy_part_bytes = 10 * MIB;
    });
    let home = Home::new("", &VirtualPath::root(), 1024);
    let path = |text| VirtualPath::resolve(&VirtualPath::root(), text).expect("a good path");
    let bytes: Vec<u8> = (0..25 * MIB).map(|at| (at / 1021) as u8).collect();
    let put = store.client().put_object().bucket("cosgate").key("a");
    let put = put.content_type("text/x-odd").cache_control("no-cache");
    let put = put.metadata("origin", "here").body(bytes.clone().into());
    put.send().await.expect("stored");

    let at = |text| Located {
        store: &store,
        home: &home,
        path: path(text),
    };
    Store::rename(&at("/a"), &at("/b"), std::future::ready(Ok(())))
        .await
        .expect("renamed");
    let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let entry = store.set_modified(&home, &path("/b"), time).await;
    assert_eq!(entry.expect("a time is set").size, 25 * MIB);

    let head = store.head(&home.key(&path("/b")).expect("a key")).await;
    let head = head.expect("it is there");
    assert!(head.etag.contains("-3"), "{} is of three parts", head.etag);
    assert_eq!(head.content_type.as_deref(), Some("text/x-odd"));
    assert_eq!(head.cache_control.as_deref(), Some("no-cache"));
    assert_eq!(head.modified, Some(time));
    assert_eq!(head.metadata.expect("metadata")["origin"], "here");
    let get = store.client().get_object().bucket("cosgate").key("b");
    let body = get.send().await.expect("an answer").body;
    assert!(body.collect().await.expect("a whole body").to_vec() == bytes);
    assert!(matches!(
        store.file_entry(&home, &path("/a")).await,
        Err(StoreError::NotFound)
    ));
    embedded.stop().await;
}

#[tokio::test]
async fn a_copy_that_is_given_up_half_way_leaves_no_unfinished_upload() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let (embedded, store) = testing::store(&data).await;
    let home = Home::new("", &VirtualPath::root(), 1024);
    let key = |text| {
        let path = VirtualPath::resolve(&VirtualPath::root(), text).expect("a good path");
        home.key(&path).expect("a key")
    };
    let bytes = bytes::Bytes::from(vec![b'x'; 6 << 20]);
    store
        .put(&key("/a"), bytes, &Replaces::Any, &Description::nothing())
        .await
        .expect("stored");
    let head = store.head(&key("/a")).await.expect("it is there");
    let original = head.original(&store, &key("/a"));

    let multipart = store.begin_copy(&key("/b"), &head, Replaces::Any).await;
    let multipart = multipart.expect("begun");
    let part = multipart.copy_part(&original, 1, 0..5 * MIB).await;
    part.expect("copied");
    let unfinished = || async {
        let list = store.client().list_multipart_uploads().bucket("cosgate");
        list.send().await.expect("an answer").uploads().len()
    };
    assert_eq!(unfinished().await, 1);
    drop(multipart);
    let gone = async {
        while unfinished().await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("it is aborted");
    embedded.stop().await;
}

proptest! {
    #[test]
    fn ranges_cover_everything_and_none_is_too_small(bytes in 5u64..1000, least in 1u64..5, extra in 0u64..50) {
        let most = 2 * least + extra;
        let ranges = ranges(bytes, most, least);
        prop_assert_eq!(ranges.first().map(|r| r.start), Some(0));
        prop_assert_eq!(ranges.last().map(|r| r.end), Some(bytes));
        prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        prop_assert!(ranges.iter().all(|r| r.end - r.start <= most && r.end - r.start >= least));
    }
}
