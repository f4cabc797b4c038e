//! Changes of files inside the store: renames that break, listings by both operations, times that clients set.

use crate::support::TestGateway;

pub async fn put_many(gateway: &TestGateway, directory: &str, count: usize) -> Vec<String> {
    let keys: Vec<String> = (0..count)
        .map(|number| format!("{directory}/{}/key-{number:04}", number % 3))
        .collect();
    let puts = keys
        .iter()
        .map(|key| gateway.put_object(key, key.as_bytes().to_vec()));
    futures::future::join_all(puts).await;
    keys
}

#[tokio::test]
async fn the_list_operation_is_a_choice() {
    for version in ["v1", "v2"] {
        let setting = format!("STORAGE__LIST_VERSION={version}");
        let (gateway, proxy) = TestGateway::behind_proxy(&[&setting]).await;
        put_many(&gateway, "d", 6).await;
        let mut ftp = gateway.login().await;
        assert_eq!(ftp.listing("NLST d/1").await.lines().count(), 2);
        assert_eq!(ftp.command("CWD d").await.code, 250);
        assert_eq!(ftp.command("RMD /d").await.code, 550);
        ftp.command("RNFR /d").await;
        assert_eq!(ftp.command("RNTO /new").await.code, 250);
        let requests = proxy.take_requests();
        let is_list = |head: &&String| head.starts_with("GET /cosgate") && head.contains("prefix=");
        let lists: Vec<&String> = requests.iter().filter(is_list).collect();
        assert!(lists.len() >= 5, "{requests:?}");
        for head in lists {
            assert_eq!(head.contains("list-type=2"), version == "v2", "{head}");
        }
    }
}
