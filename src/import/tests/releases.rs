//! Files as they are really out there: of earlier releases, with what the example came with, in other encodings.

use super::*;

/// As the releases of 2018 come: one account, all users in a line.
const EARLIER: &str = "\
[COS_ACCOUNT]
cos_secretid = AKIDsecretid0000\t# see the console
cos_secretkey = secretkey0000
cos_bucket = files-1250000000
cos_region = ap-guangzhou
cos_user_home_dir = /data/cosftp
[FTP_ACCOUNT]
login_users = alice:word:one:RW;bob:word#2:R ; carol:word3:W;   # name:password:rights

[NETWORK]
passive_address = 203.0.113.7
listen_port = 2121
passive_ports = 40000,40010

[FILE_OPTION]
single_file_max_size = 21474836480

[OPTIONAL]
min_part_size       = default
upload_thread_num   = default
max_connection_num  = 0
max_list_file       = 10000
log_level           = INFO
log_dir             = log
";

/// Takes the password for its hash, so that a test sees what was hashed.
fn passwords(text: &str) -> Vec<String> {
    let seen = std::cell::RefCell::new(Vec::new());
    let hash = |password: &SecretString| {
        seen.borrow_mut().push(password.expose_secret().to_owned());
        fake_hash(password)
    };
    convert(&Text::utf8(text), None, Format::Yaml, "cosgate", &hash).expect("sound");
    seen.into_inner()
}

#[test]
fn the_configuration_of_an_earlier_release_becomes_users_of_one_bucket() {
    let imported = good(EARLIER);
    let config = load(Format::Yaml, &imported).expect("taken");
    assert_eq!(config.storage.bucket, "files-1250000000");
    assert_eq!(config.passive.ports, 40000..=40010);
    assert_eq!(
        config.masquerade.address,
        Some(crate::config::MasqueradeAddress::Ipv4(
            [203, 0, 113, 7].into()
        ))
    );
    assert_eq!(config.upload.max_file_size, 20 << 30);
    assert_eq!(config.upload.min_part_size, 8 << 20, "cosgate's own");
    let users: Vec<_> = config
        .users
        .iter()
        .map(|user| (user.name.as_str(), user.permissions.to_string()))
        .collect();
    assert_eq!(
        users,
        [
            ("alice", "RW".to_owned()),
            ("bob", "R".to_owned()),
            ("carol", "W".to_owned())
        ]
    );
    assert!(config.users.iter().all(|user| user.home.as_str() == "/"));
    assert_eq!(passwords(EARLIER), ["word:one", "word#2", "word3"]);
    assert!(
        imported
            .values
            .contains("cos_user_home_dir = /data/cosftp stood for the bucket's root"),
        "{}",
        imported.values
    );
    for format in [Format::Env, Format::HelmValues] {
        load(format, &convert_as(EARLIER, format).expect("sound")).expect("taken");
    }
}

#[test]
fn the_first_releases_have_the_appid_apart_and_short_regions() {
    let text = EARLIER
        .replace(
            "cos_bucket = files-1250000000",
            "cos_appid = 1250000000\ncos_bucket = files-2",
        )
        .replace("ap-guangzhou", "gz\ncos_download_domain = cdn")
        .replace("passive_address", "pasv_address");
    let imported = good(&text);
    let config = load(Format::Yaml, &imported).expect("taken");
    assert_eq!(config.storage.bucket, "files-2-1250000000");
    assert_eq!(config.storage.region, "ap-guangzhou");
    assert!(
        imported
            .values
            .contains("cos_download_domain = cdn has no counterpart")
    );
    // and those that have both
    let both = EARLIER.replace("cos_region", "cos_appid = 1250000000\ncos_region");
    let config = load(Format::Yaml, &good(&both)).expect("taken");
    assert_eq!(config.storage.bucket, "files-1250000000");
}

#[test]
fn what_an_earlier_release_does_not_know_is_named_with_its_line() {
    let text = EARLIER.replace("[NETWORK]", "cos_secret = hunter2\n[NETWORK]");
    let imported = good(&text);
    let said = "[FTP_ACCOUNT] cos_secret in line 10 is no key";
    assert!(
        imported
            .warnings
            .iter()
            .any(|warning| warning.contains(said)),
        "{:?}",
        imported.warnings
    );
    assert!(!imported.values.contains("hunter2"));
}

#[test]
fn mistakes_of_an_earlier_release_are_named_without_passwords() {
    for (was, is, said) in [
        (
            "word3:W",
            "word3",
            "line 8: [FTP_ACCOUNT] login_users = ***: user 3: write it as",
        ),
        ("word3:W", "word3:X", "user 3: write R, W or RW"),
        ("carol:word3", ":word3", "user 3: neither name nor password"),
        (
            "carol",
            "alice",
            "line 7: [FTP_ACCOUNT] login_users: the user alice stands here twice",
        ),
        (
            "alice:word:one:RW;bob:word#2:R ; carol:word3:W;",
            ";",
            "there is no user",
        ),
        (
            "[FTP_ACCOUNT]",
            "[FTP_ACOUNT]",
            "line 1: [COS_ACCOUNT]: there are no users",
        ),
        (
            "[COS_ACCOUNT]",
            "[COS_ACOUNT]",
            "line 7: [FTP_ACCOUNT]: there is no [COS_ACCOUNT]",
        ),
        (
            "cos_secretkey",
            "cos_secretky",
            "line 1: [COS_ACCOUNT] cos_secretkey: this is required",
        ),
        (
            "[NETWORK]",
            "[FTP_ACCOUNT]\nlogin_users = a:b:R\n[NETWORK]",
            "line 10: [FTP_ACCOUNT]: this section stands here twice",
        ),
    ] {
        let error = convert_as(&EARLIER.replacen(was, is, 1), Format::Yaml);
        let error = error.expect_err("wrong").to_string();
        assert!(error.contains(said), "no {said:?} in\n{error}");
        let passwords = ["word:one", "word#2", "word3"];
        assert!(!passwords.iter().any(|it| error.contains(it)), "{error}");
    }
}

#[test]
fn placeholders_of_the_example_are_named_all_at_once() {
    let text = SAMPLE
        .replace("AKIDsecretid0000", "COS_SECRETID")
        .replace("secretkey0000", "XXXXXX")
        .replace("files-1250000000", "{bucket name}-123")
        .replace("ap-guangzhou", "ap-xxx")
        .replace("203.0.113.7", "XXX.XXX.XXX.XXX   # where NAT is");
    let error = convert_as(&text, Format::Yaml).expect_err("nothing is filled in");
    let error = error.to_string();
    for said in [
        "line 3: [COS_ACCOUNT_0] cos_secretid = ***: this is still the example's placeholder",
        "line 4: [COS_ACCOUNT_0] cos_secretkey = ***: this is still",
        "line 5: [COS_ACCOUNT_0] cos_bucket = {bucket name}-123: this is still",
        "line 6: [COS_ACCOUNT_0] cos_region = ap-xxx: this is still",
        "[COS_ACCOUNT_1] cos_region = ap-xxx: this is still",
        "[NETWORK] masquerade_address = XXX.XXX.XXX.XXX: this is still",
    ] {
        assert!(error.contains(said), "no {said:?} in\n{error}");
    }
    assert_eq!(error.lines().count(), 9, "{error}");
}

#[test]
fn default_is_what_nothing_is() {
    let text = SAMPLE
        .replace("= 2097152", "= default")
        .replace("upload_thread_num = 4", "upload_thread_num = DEFAULT")
        .replace("= 214748364800", "= default")
        .replace("= INFO", "= default");
    let unset: String = text
        .lines()
        .filter(|line| !line.to_lowercase().contains("= default"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(text.lines().count(), unset.lines().count() + 4);
    assert_eq!(good(&text).values, good(&unset).values);
}

#[test]
fn one_passive_port_is_the_first_of_all_that_follow() {
    let imported = good(&SAMPLE.replace("60000,65535", "65500"));
    let config = load(Format::Yaml, &imported).expect("taken");
    assert_eq!(config.passive.ports, 65500..=65535);
}

#[test]
fn an_encoding_that_is_not_utf_8_is_named() {
    let mut text = Text::utf8(SAMPLE);
    text.encoding = "gb18030";
    let imported = convert(&text, None, Format::Yaml, "cosgate", &fake_hash).expect("sound");
    assert!(
        imported
            .warnings
            .iter()
            .any(|warning| warning.contains("it was read as gb18030")),
        "{:?}",
        imported.warnings
    );
}
