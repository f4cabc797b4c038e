//! Users whose bucket is in another region or at another endpoint.

use super::*;

const OWN: &str = "access_key_id: theirs, secret_access_key: hunter2";

fn list(rest: &str) -> String {
    format!("USERS=[{{name: b, password_hash: '{HASH}', {rest}}}]")
}

/// The fate of a user of COS in ap-guangzhou.
fn at_cos(rest: &str, more: &[&str]) -> Result<Option<StoreLocation>, String> {
    let users = list(rest);
    let loaded = with_env(&cos(&users, more)).map_err(|error| error.to_string())?;
    Ok(loaded.config.users[0].site.clone())
}

/// The same of any other store.
fn at_s3(rest: &str, more: &[&str]) -> Result<Option<StoreLocation>, String> {
    let users = list(rest);
    let mut env = vec![
        "STORAGE__PROVIDER=s3",
        "STORAGE__BUCKET=files",
        "STORAGE__ACCESS_KEY_ID=id",
        "STORAGE__SECRET_ACCESS_KEY=key",
        &users,
    ];
    env.extend(more);
    let loaded = with_env(&env).map_err(|error| error.to_string())?;
    Ok(loaded.config.users[0].site.clone())
}

fn url(site: &Option<StoreLocation>) -> Option<&str> {
    site.as_ref()?.endpoint.as_deref()
}

#[test]
fn with_cos_a_region_alone_implies_the_endpoint_and_the_other_way_round() {
    let site = at_cos("region: ap-shanghai", &[]).expect("taken");
    assert_eq!(
        site,
        Some(StoreLocation {
            region: "ap-shanghai".to_owned(),
            endpoint: Some("https://cos.ap-shanghai.myqcloud.com".to_owned()),
            addressing: Addressing::Virtual,
            checksums_when_required: true,
        })
    );
    let told = at_cos("endpoint: https://cos.ap-shanghai.myqcloud.com", &[]);
    assert_eq!(told, Ok(site));
    for same in [
        "region: ap-guangzhou",
        "endpoint: https://cos.ap-guangzhou.myqcloud.com",
        "bucket: other-1250000000",
    ] {
        assert_eq!(at_cos(same, &[]), Ok(None), "{same}");
    }
    let loaded = with_env(&cos(&list("region: ap-shanghai"), &[])).expect("taken");
    let shown = loaded.describe();
    assert!(
        shown.contains("users[0].endpoint = https://cos.ap-shanghai.myqcloud.com\n"),
        "{shown}"
    );
}

#[test]
fn the_common_credentials_go_to_no_other_store() {
    const REGION: &str = "STORAGE__REGION=us-east-1";
    let minio = ["STORAGE__ENDPOINT=https://minio.example.com"];
    let amazon = ["STORAGE__ENDPOINT=https://s3.us-east-1.amazonaws.com"];
    let plain = ["STORAGE__ENDPOINT=http://cos.ap-guangzhou.myqcloud.com"];
    type Load = fn(&str, &[&str]) -> Result<Option<StoreLocation>, String>;
    let cases: [(Load, &[&str], &str, bool); 17] = [
        (at_cos, &[], "https://cos.ap-shanghai.myqcloud.com", true),
        (
            at_cos,
            &[],
            "https://cos-internal.ap-shanghai.tencentcos.cn",
            true,
        ),
        (at_cos, &[], "http://cos.ap-shanghai.myqcloud.com", false),
        (at_cos, &plain, "http://cos.ap-shanghai.myqcloud.com", true),
        (
            at_cos,
            &[],
            "https://cos.ap-shanghai.myqcloud.com.example.org",
            false,
        ),
        (at_cos, &[], "https://other.ap-shanghai.myqcloud.com", false),
        (at_cos, &[], "https://s3.us-west-2.amazonaws.com", false),
        (at_s3, &[REGION], "https://s3.us-west-2.amazonaws.com", true),
        (
            at_s3,
            &[REGION],
            "https://x.execute-api.us-west-2.amazonaws.com",
            false,
        ),
        (at_s3, &[REGION], "https://minio.example.com", false),
        (at_s3, &amazon, "https://s3.us-west-2.amazonaws.com", true),
        (at_s3, &amazon, "http://s3.us-west-2.amazonaws.com", false),
        (at_s3, &minio, "https://minio.example.com:443", true),
        (at_s3, &minio, "https://minio.example.com/tenant", true),
        (at_s3, &minio, "https://minio.example.com:9000", false),
        (at_s3, &minio, "http://minio.example.com:443", false),
        (at_s3, &minio, "https://s3.us-west-2.amazonaws.com", false),
    ];
    for (load, more, endpoint, may) in cases {
        let rest = format!("endpoint: '{endpoint}'");
        let shared = load(&rest, more);
        assert_eq!(shared.is_ok(), may, "{endpoint} {more:?}: {shared:?}");
        if let Err(error) = shared {
            for words in [
                "users[0].endpoint",
                endpoint,
                "set access_key_id",
                "COSGATE_USERS",
            ] {
                assert!(error.contains(words), "no {words:?} in {error}");
            }
        }
        let own = load(&format!("{rest}, {OWN}"), more).expect("with keys of one's own");
        assert_eq!(url(&own), Some(endpoint));
    }
    // a region alone leads to another vendor where the common endpoint is none of COS
    let elsewhere = ["STORAGE__ENDPOINT=https://cos.internal.example.com"];
    let error = at_cos("region: ap-shanghai", &elsewhere).expect_err("another host");
    assert!(error.contains("users[0].region = ap-shanghai"), "{error}");
}

#[test]
fn the_settings_of_a_place_follow_from_its_endpoint() {
    let minio = ["STORAGE__ENDPOINT=https://minio.example.com"];
    let at = |rest: &str, more: &[&str]| {
        let site = at_s3(&format!("{rest}, {OWN}"), more)
            .expect("taken")
            .expect("another");
        (site.region, site.addressing, site.checksums_when_required)
    };
    let amazon = "region: eu-west-1, endpoint: 'https://s3.eu-west-1.amazonaws.com'";
    let region = |name: &str| name.to_owned();
    assert_eq!(
        at(amazon, &minio),
        (region("eu-west-1"), Addressing::Virtual, false)
    );
    assert_eq!(
        at("endpoint: 'https://minio.example.com'", &[]),
        (region("us-east-1"), Addressing::Path, true)
    );
    // another region of the same store, or of Amazon's by the SDK's own choice
    assert_eq!(
        at("region: second", &minio),
        (region("second"), Addressing::Path, true)
    );
    let site = at_s3("region: eu-west-1", &[]).expect("taken");
    assert_eq!(url(&site), None);
    assert_eq!(site.expect("another").region, "eu-west-1");
    // what somebody chose for the vendor holds, but where it can't
    let chosen = [minio[0], "STORAGE__ADDRESSING=virtual"];
    let addressing = |endpoint: &str| at(&format!("endpoint: '{endpoint}'"), &chosen).1;
    assert_eq!(
        addressing("https://second.example.com"),
        Addressing::Virtual
    );
    assert_eq!(addressing("http://192.0.2.1:9000"), Addressing::Path);
}

#[test]
fn places_with_faults_are_refused_each_by_its_key() {
    let amazon = ["STORAGE__ENDPOINT=https://s3.us-east-1.amazonaws.com"];
    for (result, words) in [
        (at_cos("region: a/b", &[]), &["users[0].region = a/b"][..]),
        (
            at_cos("endpoint: cos.ap-shanghai.myqcloud.com", &[]),
            &["users[0].endpoint", "scheme"],
        ),
        (
            at_cos(
                "endpoint: 'https://x-1250000000.cos.ap-shanghai.myqcloud.com'",
                &[],
            ),
            &[
                "users[0].endpoint",
                "users[].bucket",
                "write https://cos.ap-shanghai",
            ],
        ),
        (
            at_cos("endpoint: 'https://a:hunter2@x'", &[]),
            &["users[0].endpoint = ***", "users[].access_key_id"],
        ),
        (
            at_s3("region: eu-west-1", &amazon),
            &["users[0].region", "set the endpoint beside it, too"],
        ),
        // `storage` is what is wrong here
        (
            at_cos("region: ap-shanghai", &["STORAGE__ENDPOINT=x"]),
            &["storage.endpoint = x"],
        ),
    ] {
        let error = result.expect_err(words[0]);
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    for rest in ["region: us-east-1", "endpoint: 'http://127.0.0.1:9000'"] {
        let error = with_env(&[&list(rest)])
            .expect_err("the embedded store")
            .to_string();
        assert!(error.contains("embedded store"), "{error}");
    }
}

#[test]
fn an_endpoints_answer_is_held_to_the_same_rule() {
    let users = users();
    let storage = with_env(&cos(&users, &[])).expect("taken").config.storage;
    let common = StorageDefaults::of(&storage);
    let answer = |rest: &str| {
        let body = format!(r#"{{"name": "b", "home": "/", "permissions": "RW", {rest}}}"#);
        answered_user(&body, &common).map_err(|error| error.to_string())
    };
    let user = answer(r#""region": "ap-shanghai""#).expect("the same vendor");
    assert_eq!(
        url(&user.site),
        Some("https://cos.ap-shanghai.myqcloud.com")
    );
    let foreign = r#""endpoint": "https://store.example.org""#;
    let error = answer(foreign).expect_err("the common credentials must not go there");
    assert!(
        error.contains("users[0].endpoint") && error.contains("the answer of auth.http.url"),
        "{error}"
    );
    let own = r#""access_key_id": "a", "secret_access_key": "b""#;
    let user = answer(&format!("{foreign}, {own}")).expect("keys of one's own");
    assert_eq!(url(&user.site), Some("https://store.example.org"));
}

#[test]
fn the_domain_of_one_bucket_serves_no_other() {
    let custom = [
        "STORAGE__ADDRESSING=custom",
        "STORAGE__ENDPOINT=https://files.example.com",
    ];
    let users = list("home: /a");
    let loaded = with_env(&cos(&users, &custom)).expect("taken");
    assert_eq!(loaded.config.storage.addressing, Addressing::Custom);
    let refused = at_cos("bucket: other-1250000000", &custom).expect_err("another bucket");
    assert!(refused.contains("the domain of one bucket"), "{refused}");
    let same = format!("bucket: files-1250000000, {OWN}");
    assert_eq!(at_cos(&same, &custom), Ok(None));
    // a region implies COS's own endpoint, which names the bucket
    let elsewhere = format!("bucket: other-1250000000, region: ap-shanghai, {OWN}");
    let site = at_cos(&elsewhere, &custom).expect("taken").expect("a site");
    assert_eq!(site.addressing, Addressing::Virtual);
    let own = format!("bucket: other-1250000000, endpoint: 'https://other.example.com', {OWN}");
    let site = at_cos(&own, &custom).expect("taken").expect("a site");
    assert_eq!(site.addressing, Addressing::Custom);
    // another region at an endpoint that serves one bucket only
    let refused = at_s3("bucket: other, region: eu-west-1", &custom).expect_err("another bucket");
    assert!(refused.contains("the domain of one bucket"), "{refused}");

    for endpoint in [
        None,
        Some("STORAGE__ENDPOINT=https://cos.ap-guangzhou.myqcloud.com"),
    ] {
        let mut without = vec!["STORAGE__ADDRESSING=custom"];
        without.extend(endpoint);
        let refused = at_cos("home: /a", &without).expect_err("no domain");
        assert!(
            refused.contains("the domain of the bucket is missing"),
            "{refused}"
        );
    }
}
