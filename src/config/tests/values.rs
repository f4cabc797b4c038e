//! Single values, as a store, or the ports of a machine, make of single values.

use super::*;

#[test]
fn several_listen_addresses_come_from_text_or_list() {
    let loaded = good(with_env(&["LISTEN=0.0.0.0:2121, [::]:2121"]));
    assert_eq!(loaded.config.listen.len(), 2);
    let loaded = good(with_yaml("listen: ['127.0.0.1:0', '127.0.0.1:0']", &[]));
    assert_eq!(loaded.config.listen.len(), 2);
    refused(
        with_env(&["LISTEN=1.2.3.4:21,1.2.3.4:21"]),
        &["listen = ", "twice"],
    );
    refused(with_env(&["LISTEN=1.2.3.4:21,0.0.0.0:21"]), &["same port"]);
    refused(
        with_env(&["LISTEN=1.2.3.4:21,ftp:21"]),
        &["listen = ftp:21 (from COSGATE_LISTEN)"],
    );
}

#[test]
fn ports_that_collide_are_refused_and_risky_ones_warned_of() {
    refused(
        with_env(&["PASSIVE__PORTS=2000-3000"]),
        &["passive.ports = 2000-3000", "2121 is the control port"],
    );
    refused(
        with_env(&["ADMIN__LISTEN=127.0.0.1:2121"]),
        &["admin.listen", "control port"],
    );
    refused(
        with_env(&["ADMIN__LISTEN=127.0.0.1:30003"]),
        &["admin.listen", "passive.ports"],
    );
    let loaded = good(with_env(&[
        "PASSIVE__PORTS=40000-40015",
        "ADMIN__LISTEN=off",
    ]));
    assert!(
        loaded.warnings[0].contains("ip_local_port_range"),
        "{:?}",
        loaded.warnings
    );
    assert!(loaded.config.admin.listen.is_none());
}

#[test]
fn cos_gets_what_it_needs() {
    let users = users();
    let storage = good(with_env(&cos(&users, &[]))).config.storage;
    assert_eq!(
        storage.endpoint.as_deref(),
        Some("https://cos.ap-guangzhou.myqcloud.com")
    );
    assert_eq!(storage.addressing, Addressing::Virtual);
    assert!(storage.checksums_when_required);
    assert_eq!(
        (storage.max_key_bytes, storage.part_bytes),
        (850, 1 << 20..=5 << 30)
    );
    good(with_env(&cos(
        &users,
        &[
            "UPLOAD__MAX_FILE_SIZE=48.82TiB",
            "UPLOAD__MIN_PART_SIZE=1MiB",
        ],
    )));
    let endpoint = "STORAGE__ENDPOINT=https://cos.ap-beijing.myqcloud.com";
    let storage = good(with_env(&cos(&users, &[endpoint, "STORAGE__REGION="])))
        .config
        .storage;
    assert_eq!(storage.region, "ap-beijing");
}

#[test]
fn a_double_of_cos_at_an_ip_address_is_addressed_by_path() {
    let users = users();
    let env = cos(&users, &["STORAGE__ENDPOINT=http://127.0.0.1:9000"]);
    let storage = good(with_env(&env)).config.storage;
    assert_eq!(storage.addressing, Addressing::Path);
    assert!(storage.checksums_when_required);
}

#[test]
fn what_cos_would_refuse_is_refused_here() {
    let users = users();
    for (change, words) in [
        ("STORAGE__BUCKET=files", &["name-APPID"][..]),
        (
            "STORAGE__BUCKET=",
            &[
                "storage.bucket: this is required",
                "COSGATE_STORAGE__BUCKET",
            ],
        ),
        ("STORAGE__REGION=", &["storage.region: this is required"]),
        ("STORAGE__ADDRESSING=path", &["PathStyleDomainForbidden"]),
        (
            "STORAGE__ACCESS_KEY_ID=",
            &["storage.access_key_id", "without it"],
        ),
        (
            "STORAGE__ENDPOINT=https://files-1250000000.cos.ap-guangzhou.myqcloud.com",
            &["write https://cos.ap-guangzhou.myqcloud.com"],
        ),
        (
            "STORAGE__ENDPOINT=cos.ap-guangzhou.myqcloud.com",
            &["scheme is missing"],
        ),
        (
            "UPLOAD__MAX_FILE_SIZE=49TiB",
            &["Tencent COS takes objects up to 48.82 TiB"],
        ),
        ("UPLOAD__MIN_PART_SIZE=1MB", &["parts of 1 MiB to 5 GiB"]),
        ("USERS=", &["users", "cosgate hash-password"]),
    ] {
        let error = refused(with_env(&cos(&users, &[change])), words);
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let error = refused(
        with_env(&["STORAGE__PROVIDER=cos"]),
        &[
            "storage.bucket",
            "storage.region",
            "SecretId",
            "SecretKey",
            "users",
        ],
    );
    assert_eq!(error.lines().count(), 5, "{error}");
}

#[test]
fn an_s3_store_is_addressed_as_its_endpoint_wants() {
    let users = users();
    for (endpoint, addressing, checksums_when_required) in [
        ("", Addressing::Virtual, false),
        (
            "https://s3.eu-west-1.amazonaws.com",
            Addressing::Virtual,
            false,
        ),
        ("http://minio:9000", Addressing::Path, true),
        (
            "https://oss-cn-beijing.aliyuncs.com",
            Addressing::Virtual,
            true,
        ),
    ] {
        let endpoint = format!("STORAGE__ENDPOINT={endpoint}");
        let env = [
            "STORAGE__PROVIDER=s3",
            "STORAGE__BUCKET=My_Files",
            &users,
            &endpoint,
        ];
        let storage = good(with_env(&env)).config.storage;
        assert_eq!(storage.addressing, addressing, "{endpoint}");
        assert_eq!(
            storage.checksums_when_required, checksums_when_required,
            "{endpoint}"
        );
        assert_eq!(storage.region, "us-east-1");
        assert!(storage.credentials.is_none());
    }
}

#[test]
fn keys_that_fit_another_store_are_warned_of_or_refused() {
    let users = users();
    let loaded = good(with_env(&cos(&users, &["STORAGE__DATA_DIR=/data"])));
    assert!(
        loaded.warnings[0].starts_with("storage.data_dir = /data"),
        "{:?}",
        loaded.warnings
    );
    let loaded = good(with_env(&["STORAGE__ADDRESSING=virtual"]));
    assert_eq!(
        (loaded.config.storage.addressing, loaded.warnings.len()),
        (Addressing::Path, 1)
    );
    refused(
        with_env(&["STORAGE__ENDPOINT=https://s3.example.com"]),
        &["this machine only"],
    );
    good(with_env(&["STORAGE__ENDPOINT=http://127.0.0.1:9000"]));
    refused(
        with_env(&["STORAGE__SESSION_TOKEN=x"]),
        &["storage.session_token = ***", "goes with"],
    );
}

#[test]
fn an_unknown_provider_is_one_problem_and_not_five() {
    let env = [
        "STORAGE__PROVIDER=aws",
        "STORAGE__BUCKET=My_Files",
        "STORAGE__ENDPOINT=https://x.example",
        "UPLOAD__MIN_PART_SIZE=1MiB",
    ];
    let error = refused(
        with_env(&env),
        &["storage.provider = aws", "embedded", "s3", "cos"],
    );
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn a_prefix_is_brought_into_form() {
    for (text, prefix) in [("ftp", "ftp/"), ("/ftp//in/", "ftp/in/"), ("/", "")] {
        let loaded = good(with_env(&[&format!("STORAGE__PREFIX={text}")]));
        assert_eq!(loaded.config.storage.prefix, prefix);
    }
    refused(
        with_env(&["STORAGE__PREFIX=a/../b"]),
        &["storage.prefix = a/../b"],
    );
    refused(
        with_env(&[&format!("STORAGE__PREFIX={}", "x".repeat(1023))]),
        &["1024 bytes"],
    );
}

#[test]
fn the_memory_budget_holds_two_parts() {
    let env = [
        "UPLOAD__MEMORY_BUDGET=100MiB",
        "UPLOAD__MIN_PART_SIZE=51MiB",
    ];
    refused(
        with_env(&env),
        &["upload.memory_budget = 100MiB", "102 MiB"],
    );
    good(with_env(&["UPLOAD__MEMORY_BUDGET=102MiB", env[1]]));
}

#[test]
fn few_addresses_that_can_hold_all_sessions_are_warned_of() {
    let without_login = "SESSIONS__MAX_UNAUTHENTICATED_PER_IP";
    for (settings, is_warned) in [
        (vec!["SESSIONS__MAX=1000".to_owned()], false),
        (vec!["SESSIONS__MAX=400".to_owned()], false),
        (
            vec![
                "SESSIONS__MAX=400".to_owned(),
                format!("{without_login}=100"),
            ],
            true,
        ),
        (
            vec![
                "SESSIONS__MAX=400".to_owned(),
                format!("{without_login}=99"),
            ],
            false,
        ),
        (vec!["SESSIONS__MAX=4".to_owned()], false),
    ] {
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let warnings = good(with_env(&settings)).warnings;
        let said = warnings.iter().any(|text| text.contains("never log in"));
        assert_eq!(said, is_warned, "{settings:?}: {warnings:?}");
    }
}
