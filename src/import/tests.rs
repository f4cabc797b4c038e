//! Whole files, from `vsftpd.conf` to a configuration that is taken.

use secrecy::{ExposeSecret as _, SecretString};

use super::*;
use crate::config::HASH_FOR_TESTS as HASH;
use crate::config::parse_yaml;
use crate::config::yaml::Node;
use crate::config::{Config, Provider, load_from};

mod properties;
mod releases;
mod servers;

/// As the file comes with the old program: tabs, and comments behind values.
const SAMPLE: &str = "\
# comment
[COS_ACCOUNT_0]
cos_secretid = AKIDsecretid0000\t# SecretId
cos_secretkey = secretkey0000
cos_bucket = files-1250000000
cos_region = ap-guangzhou\t\t# region
cos_protocol = https
home_dir = /home/user0
ftp_login_user_name=user0
ftp_login_user_password=ftppassword0000
authority=RW\t# R, W or RW
delete_enable=true

[COS_ACCOUNT_1]
cos_secretid = AKIDsecretid0000
cos_secretkey = secretkey0000
cos_bucket = files-1250000000
cos_region = ap-guangzhou
home_dir = /home/user1
ftp_login_user_name=user1
ftp_login_user_password=ftppassword1111
authority=W

[NETWORK]
masquerade_address = 203.0.113.7
listen_port = 2121
passive_port = 60000,65535

[FILE_OPTION]
single_file_max_size = 214748364800

[OPTIONAL]
config_check_enable = true
min_part_size = 2097152
upload_thread_num = 4
max_connection_num = 512
max_list_file = 10000
log_level = INFO
log_dir = log
";

fn fake_hash(_: &SecretString) -> Result<SecretString, Box<dyn std::error::Error + Send + Sync>> {
    Ok(HASH.into())
}

fn convert_as(text: &str, format: Format) -> Result<Imported, ImportError> {
    convert(&Text::utf8(text), None, format, "cosgate", &fake_hash)
}

#[track_caller]
fn good(text: &str) -> Imported {
    convert_as(text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}

/// The configuration that cosgate makes of the result, with the secrets in the environment.
fn load(format: Format, imported: &Imported) -> Result<Config, String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("cosgate.yaml");
    let mut env = Vec::new();
    let file = match format {
        Format::Yaml => {
            env.extend(assignments(imported.secrets.expose_secret()));
            std::fs::write(&path, &imported.values).expect("writes");
            Some(path.as_path())
        }
        Format::Env => {
            env.extend(assignments(imported.secrets.expose_secret()));
            env.extend(assignments(&imported.values));
            None
        }
        Format::HelmValues => {
            env = helm(
                &imported.values,
                imported.secrets.expose_secret(),
                directory.path(),
                &path,
            );
            Some(path.as_path())
        }
    };
    let loaded = load_from(file, env).map_err(|error| error.to_string())?;
    Ok(loaded.config)
}

/// The work of the chart and Kubernetes: the configuration goes to `path`, the Secret's keys to variables and to a mounted file.
fn helm(values: &str, manifest: &str, mount: &Path, path: &Path) -> Vec<(String, String)> {
    let (_, config) = values.split_once("\nconfig:\n").expect("a configuration");
    let file = mount.join("users.yaml");
    let config: String = config
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("  ").expect("below config")))
        .collect();
    std::fs::write(path, config).expect("writes");
    let Ok(Node::Map(manifest)) = parse_yaml(manifest) else {
        panic!("no manifest: {manifest}");
    };
    let data = manifest.into_iter().find(|(key, _)| key == "stringData");
    let Some((_, Node::Map(data))) = data else {
        panic!("no stringData");
    };
    // the chart's own key of the configuration
    let mut env = vec![("COSGATE_USERS_FILE".to_owned(), file.display().to_string())];
    for (key, value) in data {
        match value {
            Node::Text(text) if key == "users.yaml" => std::fs::write(&file, text).expect("writes"),
            Node::Text(text) => env.push((key, text)),
            other => panic!("{key}: {other:?}"),
        }
    }
    env
}

#[test]
fn a_file_as_it_comes_becomes_a_configuration_that_says_the_same() {
    for format in [Format::Yaml, Format::Env] {
        let imported = convert_as(SAMPLE, format).expect("sound");
        let config = load(format, &imported).expect("taken");
        assert_eq!(config.listen, ["0.0.0.0:2121".parse().expect("an address")]);
        assert_eq!(config.passive.ports, 30000..=30047);
        assert_eq!(config.storage.provider, Provider::Cos);
        assert_eq!(config.storage.bucket, "files-1250000000");
        assert_eq!(
            config.storage.endpoint.as_deref(),
            Some("https://cos.ap-guangzhou.myqcloud.com")
        );
        let keys = config.storage.credentials.expect("keys");
        assert_eq!(keys.access_key_id, "AKIDsecretid0000");
        assert_eq!(keys.secret_access_key.expose_secret(), "secretkey0000");
        assert_eq!(
            (config.upload.max_file_size, config.upload.min_part_size),
            (200 << 30, 2 << 20)
        );
        assert_eq!((config.upload.concurrency, config.sessions.max), (4, 512));
        let users: Vec<_> = config
            .users
            .iter()
            .map(|user| {
                (
                    user.name.as_str(),
                    user.home.as_str(),
                    user.permissions.to_string(),
                )
            })
            .collect();
        assert_eq!(
            users,
            [
                ("user0", "/", "RW".to_owned()),
                ("user1", "/", "W".to_owned())
            ]
        );
        for said in [
            "passive_port was 60000,65535",
            "max_list_file = 10000 has no counterpart",
            "log_dir",
            "home_dir = /home/user0",
            "config_check_enable",
            "user1 may upload, and neither download nor list",
        ] {
            assert!(
                imported.values.contains(said),
                "no {said:?} in\n{}",
                imported.values
            );
        }
    }
}

#[test]
fn helm_values_carry_the_configuration_and_name_the_secret() {
    let imported = convert_as(SAMPLE, Format::HelmValues).expect("sound");
    let (head, config) = imported
        .values
        .split_once("\nconfig:\n")
        .expect("a configuration");
    assert!(head.ends_with("existingSecret: cosgate"), "{head}");
    // the same as the file, two columns to the right; the chart itself names the Secret's file of users
    let config: String = config
        .lines()
        .map(|line| format!("{}\n", &line[2..]))
        .collect();
    assert!(good(SAMPLE).values.ends_with(&config), "{config}");
    let secret = imported.secrets.expose_secret();
    for line in [
        "kind: Secret",
        "  name: cosgate",
        "  COSGATE_STORAGE__SECRET_ACCESS_KEY: \"secretkey0000\"",
        "  users.yaml: |",
        "    users:",
    ] {
        assert!(
            secret.lines().any(|it| it == line),
            "no {line:?} in\n{secret}"
        );
    }
    let file = load(Format::HelmValues, &imported)
        .expect("taken")
        .users_file;
    assert_eq!(file.expect("a users file").users.len(), 2);
}

#[test]
fn accounts_that_differ_keep_their_own_place_and_keys() {
    let other = SAMPLE
        .replacen("[COS_ACCOUNT_1]\ncos_secretid = AKIDsecretid0000\ncos_secretkey = secretkey0000\ncos_bucket = files-1250000000\ncos_region = ap-guangzhou",
            "[COS_ACCOUNT_1]\ncos_secretid = AKIDsecretid1111\ncos_secretkey = secretkey1111\ncos_bucket = other-1250000000\ncos_region = ap-shanghai\ndelete_enable = false", 1);
    let imported = good(&other);
    assert!(
        !imported.values.contains("secretkey1111")
            && imported.values.contains("bucket other-1250000000")
    );
    let secrets = imported.secrets.expose_secret();
    for field in [
        r#""bucket": "other-1250000000""#,
        r#""region": "ap-shanghai""#,
        r#""endpoint": "https://cos.ap-shanghai.myqcloud.com""#,
        r#""access_key_id": "AKIDsecretid1111""#,
        r#""secret_access_key": "secretkey1111""#,
        r#""permissions": "W", "delete": false"#,
    ] {
        assert_eq!(secrets.matches(field).count(), 1, "{field} in {secrets}");
    }
    assert!(
        imported
            .values
            .contains("write permissions: [write, overwrite] in the place")
    );
    let users = load(Format::Yaml, &imported).expect("taken").users;
    let (first, second) = (&users[0], &users[1]);
    assert!(first.site.is_none() && first.bucket.is_none() && first.credentials.is_none());
    assert_eq!(second.bucket.as_deref(), Some("other-1250000000"));
    let site = second.site.as_ref().expect("another place");
    assert_eq!(
        (site.region.as_str(), site.endpoint.as_deref()),
        ("ap-shanghai", Some("https://cos.ap-shanghai.myqcloud.com"))
    );
    let keys = second.credentials.as_ref().expect("keys");
    assert_eq!(keys.secret_access_key.expose_secret(), "secretkey1111");
    assert_eq!(second.permissions.to_string(), "write");
}

#[test]
fn keys_that_two_accounts_share_are_repeated_only_where_the_common_ones_may_not_go() {
    for (place, repeated) in [
        ("cos_region = ap-shanghai", false),
        (
            "cos_endpoint = cos-internal.ap-shanghai.tencentcos.cn",
            false,
        ),
        ("cos_region = ap-shanghai\ncos_protocol = http", true),
        ("cos_endpoint = cos.example.org", true),
        ("cos_region = ap-guangzhou\ncos_protocol = http", true),
    ] {
        let mut text = SAMPLE.to_owned();
        let at = text
            .rfind("cos_region = ap-guangzhou")
            .expect("the second account");
        text.replace_range(at..at + "cos_region = ap-guangzhou".len(), place);
        let users = load(Format::Yaml, &good(&text)).expect("taken").users;
        assert!(users[1].site.is_some(), "{place}");
        assert_eq!(users[1].credentials.is_some(), repeated, "{place}");
    }
}

#[test]
fn every_mistake_is_reported_with_its_line_and_no_secret() {
    let bad = "\
[COS_ACCOUNT_0]
cos_secretid = AKID x
cos_bucket = Files
authority = X
cos_protocol = ftp
delete_enable = maybe
ftp_login_user_name = a
ftp_login_user_password = hunter2
nonsense
[NETWORK]
listen_port = 70000
passive_port = 9,7
masquerade_address = nowhere.example
[OPTIONAL]
min_part_size = 2MB
";
    let error = convert_as(bad, Format::Yaml)
        .expect_err("wrong")
        .to_string();
    for part in [
        "line 1: [COS_ACCOUNT_0] cos_secretkey: this is required",
        "line 1: [COS_ACCOUNT_0] cos_region: neither region nor endpoint",
        "line 2: [COS_ACCOUNT_0] cos_secretid = ***",
        "line 3: [COS_ACCOUNT_0] cos_bucket = Files",
        "line 4: [COS_ACCOUNT_0] authority = X: write R, W or RW",
        "line 5: ",
        "line 6: ",
        "line 9: line: this is neither",
        "line 11: [NETWORK] listen_port = 70000: write a port from 1 to 65535",
        "line 12: ",
        "line 13: ",
        "line 15: [OPTIONAL] min_part_size = 2MB: write a number of bytes",
    ] {
        assert!(error.contains(part), "no {part:?} in\n{error}");
    }
    assert!(
        !error.contains("hunter2") && !error.contains("nonsense"),
        "{error}"
    );
    let nothing = convert_as("[NETWORK]\n", Format::Yaml)
        .expect_err("no account")
        .to_string();
    assert!(nothing.contains("there is no account"), "{nothing}");
    let twice = SAMPLE.replace("user1\nftp", "user0\nftp");
    assert!(
        convert_as(&twice, Format::Yaml)
            .expect_err("twice")
            .to_string()
            .contains("has this user")
    );
}

#[test]
fn what_is_not_known_is_said_without_its_value() {
    let text = SAMPLE.replace(
        "delete_enable=true",
        "cos_secretky = hunter2\ndelete_enable=true\n[STRANGE]\na = hunter2",
    );
    let imported = good(&text);
    assert!(!imported.values.contains("hunter2"), "{}", imported.values);
    for said in [
        "[COS_ACCOUNT_0] cos_secretky in line 12 is no key",
        "[STRANGE] in line 14 is no section",
    ] {
        assert!(
            imported
                .warnings
                .iter()
                .any(|warning| warning.contains(said)),
            "{:?}",
            imported.warnings
        );
        assert!(imported.values.contains(said));
    }
    let cut = good(&SAMPLE.replace("ftppassword1111", "ftp #word1111"));
    assert!(
        cut.warnings
            .iter()
            .any(|warning| warning.contains("read up to the comment")),
        "{:?}",
        cut.warnings
    );
}

#[test]
fn places_in_all_their_forms_are_one_url() {
    let at = |lines: &str| {
        let text = SAMPLE.replace(
            "cos_region = ap-guangzhou\t\t# region\ncos_protocol = https",
            lines,
        );
        let text = text.replace("cos_region = ap-guangzhou", lines);
        load(Format::Yaml, &good(&text)).expect("taken").storage
    };
    for (lines, url, region) in [
        (
            "cos_endpoint = cos.ap-beijing.myqcloud.com",
            "https://cos.ap-beijing.myqcloud.com",
            "ap-beijing",
        ),
        (
            "cos_endpoint = files-1250000000.cos.ap-beijing.myqcloud.com",
            "https://cos.ap-beijing.myqcloud.com",
            "ap-beijing",
        ),
        (
            "cos_endpoint = http://cos-internal.ap-beijing.tencentcos.cn",
            "http://cos-internal.ap-beijing.tencentcos.cn",
            "ap-beijing",
        ),
        (
            "cos_region = ap-beijing\ncos_protocol = http",
            "http://cos.ap-beijing.myqcloud.com",
            "ap-beijing",
        ),
        (
            "cos_region = ap-beijing\ncos_endpoint = cos.accelerate.myqcloud.com",
            "https://cos.accelerate.myqcloud.com",
            "ap-beijing",
        ),
    ] {
        let storage = at(lines);
        assert_eq!(
            (storage.endpoint.as_deref(), storage.region.as_str()),
            (Some(url), region),
            "{lines}"
        );
    }
}

#[test]
fn ports_that_can_be_published_stay_and_others_are_replaced() {
    for (listen, passive, ports) in [
        ("2121", "50000,50010", 50000..=50010),
        ("2121", "2000,2040", 2000..=2040),
        ("2121", "2110,2130", 30000..=30047),
        ("2121", "8070,8090", 30000..=30047),
        ("30010", "1,65535", 31000..=31047),
        ("8080", "8081,8090", 30000..=30047),
    ] {
        let text = SAMPLE
            .replace("= 2121", &format!("= {listen}"))
            .replace("60000,65535", passive);
        let config = load(Format::Yaml, &good(&text))
            .unwrap_or_else(|error| panic!("{listen} {passive}: {error}"));
        assert_eq!(config.passive.ports, ports, "{listen} {passive}");
    }
}

#[test]
fn the_secrets_are_written_for_their_owner_alone_and_over_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("secrets");
    let mode = || {
        std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode()
            & 0o777
    };
    write_secrets(&path, &"one".into(), false).expect("new");
    assert_eq!(mode(), 0o600);
    let error = write_secrets(&path, &"two".into(), false).expect_err("there already");
    assert!(error.to_string().contains("--force"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "one");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("own");
    write_secrets(&path, &"two".into(), true).expect("forced");
    assert_eq!(
        (
            std::fs::read_to_string(&path).expect("there").as_str(),
            mode()
        ),
        ("two", 0o600)
    );
    assert_eq!(
        std::fs::read_dir(directory.path()).expect("there").count(),
        1
    );
    let nowhere = directory.path().join("none/secrets");
    assert!(write_secrets(&nowhere, &"one".into(), true).is_err());
}
