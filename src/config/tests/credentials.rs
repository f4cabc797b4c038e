//! The sources of the credentials for the store.

use super::*;

const TKE: [(&str, &str); 5] = [
    ("TKE_REGION", "ap-shanghai"),
    ("TKE_PROVIDER_ID", "cls-1234"),
    ("TKE_ROLE_ARN", "qcs::cam::uin/1:roleName/cosgate"),
    ("TKE_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/token"),
    ("HOSTNAME", "gw-0"),
];

/// Loads with variables of cosgate and of the platform, for a bucket of `provider`.
fn load(provider: &str, env: &[&str], platform: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let users = users();
    let provider = format!("STORAGE__PROVIDER={provider}");
    let mut all = vec![
        provider.as_str(),
        "STORAGE__BUCKET=files-1250000000",
        "STORAGE__REGION=ap-guangzhou",
        &users,
    ];
    all.extend(env);
    let mut variables = variables(&all);
    variables.extend(
        platform
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string())),
    );
    load_from(None, variables)
}

fn source(loaded: Result<Loaded, ConfigError>) -> CredentialSource {
    good(loaded).config.storage.credential_source
}

const KEYS: [&str; 2] = [
    "STORAGE__ACCESS_KEY_ID=id",
    "STORAGE__SECRET_ACCESS_KEY=key",
];

#[test]
fn auto_takes_keys_then_the_pods_identity_then_a_role_that_is_named() {
    assert_eq!(source(load("cos", &KEYS, &TKE)), CredentialSource::Static);
    let tke = CredentialSource::Tke(TkeIdentity {
        region: "ap-shanghai".into(),
        provider_id: "cls-1234".into(),
        role_arn: "qcs::cam::uin/1:roleName/cosgate".into(),
        token_file: "/var/run/secrets/token".into(),
        session_name: "cosgate-gw-0".into(),
        sts_endpoint: "https://sts.tencentcloudapi.com".into(),
    });
    assert_eq!(source(load("cos", &[], &TKE)), tke);
    assert_eq!(source(load("cos", &["STORAGE__CVM_ROLE=r"], &TKE)), tke);
    let cvm = CredentialSource::Cvm(CvmRole {
        name: Some("r".into()),
        metadata_endpoint: "http://metadata.tencentyun.com".into(),
    });
    assert_eq!(source(load("cos", &["STORAGE__CVM_ROLE=r"], &[])), cvm);
    assert_eq!(source(load("s3", &[], &TKE)), CredentialSource::Aws);
    let printed = good(load("cos", &[], &TKE)).describe();
    assert!(printed.contains("storage.credentials = tke"), "{printed}");
}

#[test]
fn cos_without_any_source_is_an_error_that_names_all_sources() {
    refused(
        load("cos", &[], &[]),
        &[
            "storage.access_key_id",
            "SecretId",
            "storage.credentials",
            "tke",
            "cvm",
            "storage.secret_access_key",
        ],
    );
    // the region alone is in every pod of a cluster with the identity webhook
    refused(load("cos", &[], &TKE[..2]), &["storage.access_key_id"]);
    refused(
        load("s3", &["STORAGE__CREDENTIALS=static"], &[]),
        &["storage.access_key_id"],
    );
}

#[test]
fn what_was_asked_for_holds_or_is_refused() {
    for provider in ["cos", "s3"] {
        assert_eq!(
            source(load(provider, &["STORAGE__CREDENTIALS=aws"], &TKE)),
            CredentialSource::Aws
        );
        let cvm = source(load(provider, &["STORAGE__CREDENTIALS=cvm"], &[]));
        assert!(matches!(
            cvm,
            CredentialSource::Cvm(CvmRole { name: None, .. })
        ));
        for wanted in [
            "STORAGE__CREDENTIALS=aws",
            "STORAGE__CREDENTIALS=tke",
            "STORAGE__CREDENTIALS=cvm",
        ] {
            let all = [wanted, KEYS[0], KEYS[1]];
            refused(
                load(provider, &all, &TKE),
                &["storage.credentials = ", "write static"],
            );
        }
    }
    refused(
        load("cos", &["STORAGE__CREDENTIALS=tke"], &TKE[..1]),
        &[
            "TKE_PROVIDER_ID, TKE_ROLE_ARN, TKE_WEB_IDENTITY_TOKEN_FILE are not set",
            "service account",
        ],
    );
    refused(
        load("cos", &["STORAGE__CREDENTIALS=role"], &[]),
        &["storage.credentials = role", "cvm"],
    );
    let loaded = good(with_env(&["STORAGE__CREDENTIALS=tke"]));
    assert!(
        loaded.warnings[0].contains("embedded store"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn a_token_travels_encrypted_or_not_at_all() {
    let tke = |url: &str| load("cos", &[&format!("STORAGE__STS_ENDPOINT={url}")], &TKE);
    refused(
        tke("http://sts.internal"),
        &["storage.sts_endpoint = http://sts.internal", "https"],
    );
    refused(tke("https://sts.internal/v1"), &["path"]);
    for url in [
        "https://sts.internal",
        "http://127.0.0.1:9",
        "http://[::1]:9",
        "http://localhost:9",
    ] {
        let CredentialSource::Tke(identity) = source(tke(url)) else {
            panic!("{url}")
        };
        assert_eq!(identity.sts_endpoint, url);
    }
    refused(
        load(
            "cos",
            &["STORAGE__CREDENTIALS=cvm", "STORAGE__CVM_ROLE=a/../b"],
            &[],
        ),
        &["storage.cvm_role = a/../b", "name"],
    );
    let loaded = good(load(
        "cos",
        &["STORAGE__METADATA_ENDPOINT=http://169.254.0.23"],
        &TKE,
    ));
    assert!(
        loaded.warnings[0].contains("storage.metadata_endpoint"),
        "{:?}",
        loaded.warnings
    );
}
