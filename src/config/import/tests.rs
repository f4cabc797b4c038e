//! Whole files, from `vsftpd.conf` to a configuration that is taken.

use proptest::prelude::*;
use secrecy::{ExposeSecret as _, SecretString};

use super::*;
use crate::config::tests::HASH;
use crate::config::{Config, Provider, load_from};

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
    convert(text, format, "cosgate", &fake_hash)
}

#[track_caller]
fn good(text: &str) -> Imported {
    convert_as(text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}

/// What cosgate makes of the result, with the secrets in the environment.
fn load(format: Format, imported: &Imported) -> Result<Config, String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("cosgate.yaml");
    let mut env = assignments(imported.secrets.expose_secret());
    let file = match format {
        Format::Yaml => {
            std::fs::write(&path, &imported.values).expect("writes");
            Some(path.as_path())
        }
        Format::Env => {
            env.extend(assignments(&imported.values));
            None
        }
        Format::HelmValues => unreachable!("a manifest is no environment"),
    };
    let loaded = load_from(file, env).map_err(|error| error.to_string())?;
    Ok(loaded.config)
}

/// As a shell reads `NAME='value'`.
fn assignments(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.split_once('=').expect("an assignment");
            let value = value
                .strip_prefix('\'')
                .and_then(|value| value.strip_suffix('\''));
            let value = value.expect("quotes").replace("'\\''", "'");
            (name.to_owned(), value)
        })
        .collect()
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
    // the same as the file, two columns to the right, and the users in the Secret's file
    let (users_file, config) = config.split_once('\n').expect("lines");
    assert_eq!(users_file, "  users_file: /etc/cosgate/secret/users.yaml");
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
    let users: String = secret
        .lines()
        .skip_while(|line| *line != "    users:")
        .map(|line| format!("{}\n", &line[4..]))
        .collect();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("users.yaml");
    std::fs::write(&path, users).expect("writes");
    let config = load_from(Some(&path), []).expect("users").config;
    assert_eq!(config.users.len(), 2);
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
        r#""permissions": ["write", "overwrite"]"#,
    ] {
        assert_eq!(secrets.matches(field).count(), 1, "{field} in {secrets}");
    }
    assert!(
        imported
            .values
            .contains("delete_enable = false: user1 may replace files")
    );
}

#[test]
fn every_mistake_is_told_with_its_line_and_no_secret() {
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

/// Secrets that no other text of a file contains by chance.
const SECRETS: [&str; 4] = [
    "AKIDsecretid0000",
    "secretkey0000",
    "ftppassword0000",
    "ftppassword1111",
];

fn holds_no_secret(text: &str) -> Result<(), TestCaseError> {
    for secret in SECRETS {
        prop_assert!(!text.contains(secret), "{secret} in {text}");
    }
    prop_assert!(!text.contains(HASH), "a hash in {text}");
    Ok(())
}

/// Whatever comes out is taken, and whatever is said holds no secret.
fn is_sound(text: &str) -> Result<(), TestCaseError> {
    for format in [Format::Yaml, Format::Env] {
        match convert_as(text, format) {
            Ok(imported) => {
                holds_no_secret(&imported.values)?;
                holds_no_secret(&imported.warnings.join("\n"))?;
                if let Err(error) = load(format, &imported) {
                    return Err(TestCaseError::fail(format!(
                        "{error}\n{}\n{text}",
                        imported.values
                    )));
                }
            }
            Err(error) => holds_no_secret(&error.to_string())?,
        }
    }
    if let Ok(imported) = convert_as(text, Format::HelmValues) {
        holds_no_secret(&imported.values)?;
        for manifest in [&imported.values, imported.secrets.expose_secret()] {
            let parsed = crate::config::yaml::parse(manifest, "");
            prop_assert!(parsed.is_ok(), "{:?} in\n{manifest}", parsed.err());
        }
    }
    Ok(())
}

/// A value for any key: what fits, what nearly fits, and anything.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{1,20}",
        "[0-9]{1,5},[0-9]{1,5}",
        "(true|false|R|W|RW|http|https|DEBUG|warn|AP-X|ap-guangzhou|10.0.0.1)",
        "(cos|x-1|a\\.b)\\.[a-z-]{1,10}\\.(myqcloud\\.com|example)",
        "[ -~]{0,30}",
        "\\PC{0,20}",
    ]
}

/// Keys whose values can be replaced without naming another bucket or key for one account only.
const FREE: [&str; 12] = [
    "home_dir",
    "authority",
    "masquerade_address",
    "listen_port",
    "passive_port",
    "single_file_max_size",
    "min_part_size",
    "upload_thread_num",
    "max_connection_num",
    "max_list_file",
    "log_level",
    "ftp_login_user_name",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_value_of_any_key_is_refused_or_taken(key in 0..FREE.len(), value in value()) {
        let text: String = SAMPLE.lines().map(|line| {
            match line.split(['=', ' ']).next() {
                Some(name) if name == FREE[key] => format!("{name} = {value}\n"),
                _ => format!("{line}\n"),
            }
        }).collect();
        is_sound(&text)?;
    }

    #[test]
    fn several_changed_numbers_are_refused_or_taken(
        listen in 1..=65535_u16, from in any::<u16>(), width in 0..200_u16,
        max in any::<u64>(), min in any::<u64>(), shift in 0..60_u32,
    ) {
        let text = SAMPLE
            .replace("listen_port = 2121", &format!("listen_port = {listen}"))
            .replace("60000,65535", &format!("{from},{}", from.saturating_add(width)))
            .replace("214748364800", &(max >> shift).to_string())
            .replace("2097152", &(min >> shift).to_string());
        is_sound(&text)?;
    }

    #[test]
    fn a_mutated_file_is_refused_or_taken(
        lines in proptest::collection::vec(0..40_usize, 0..8),
        at in 0..900_usize, noise in "\\PC{0,10}|[\\[\\]=:#;\n\t\r\u{0}-\u{1f}]{0,5}",
    ) {
        // lines missing, and noise anywhere but inside of a secret, which would make it another one
        let mut text: String = SAMPLE.lines().enumerate()
            .filter(|(index, line)| !lines.contains(index) || SECRETS.iter().any(|secret| line.contains(secret)))
            .map(|(_, line)| format!("{line}\n")).collect();
        let at = (at..text.len()).find(|at| text.as_bytes()[*at] == b'\n').unwrap_or(text.len());
        text.insert_str(at, &noise);
        match convert_as(&text, Format::Yaml) {
            Ok(imported) => {
                holds_no_secret(&imported.values)?;
                prop_assert!(crate::config::yaml::parse(&imported.values, "").is_ok(), "{}", imported.values);
            }
            Err(error) => holds_no_secret(&error.to_string())?,
        }
    }

    #[test]
    fn no_text_at_all_panics(text in "\\PC{0,200}|([\\[\\]=:#; \n\ta-zA-Z_0-9]{0,300})") {
        let _ = convert_as(&text, Format::HelmValues);
    }
}
