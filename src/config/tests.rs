//! The whole way, from sources to [`Config`] or [`ConfigError`].

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::HASH_FOR_TESTS as HASH;
use super::*;

mod cluster;
mod credentials;
mod handover;
mod ldap;
mod mounts;
mod properties;
mod secrets;
mod sites;
mod values;

/// Loads with these variables, each `NAME=value` with the prefix left out.
fn with_env(env: &[&str]) -> Result<Loaded, ConfigError> {
    load_from(None, variables(env))
}

fn variables(env: &[&str]) -> Vec<(String, String)> {
    let split = |text: &str| {
        let (name, value) = text.split_once('=').expect("NAME=value");
        (format!("COSGATE_{name}"), value.to_string())
    };
    env.iter().map(|text| split(text)).collect()
}

/// A directory with `cosgate.yaml` in it.
fn yaml(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("cosgate.yaml");
    fs::write(&path, text).expect("write");
    (dir, path)
}

fn with_yaml(text: &str, env: &[&str]) -> Result<Loaded, ConfigError> {
    let (_dir, path) = yaml(text);
    load_from(Some(&path), variables(env))
}

fn users() -> String {
    format!(r#"USERS=[{{"name": "alice", "password_hash": "{HASH}"}}]"#)
}

/// The variables that make Tencent COS work, with `more` added.
fn cos<'a>(users: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut env = vec![
        "STORAGE__PROVIDER=cos",
        "STORAGE__BUCKET=files-1250000000",
        "STORAGE__REGION=ap-guangzhou",
        "STORAGE__ACCESS_KEY_ID=id",
        "STORAGE__SECRET_ACCESS_KEY=key",
        users,
    ];
    // A later variable of the same name replaces the earlier one, as in a shell.
    env.extend(more);
    env
}

#[track_caller]
fn good(loaded: Result<Loaded, ConfigError>) -> Loaded {
    match loaded {
        Ok(loaded) => loaded,
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn refused(loaded: Result<Loaded, ConfigError>, words: &[&str]) -> String {
    let text = loaded.expect_err("this is to be refused").to_string();
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
    text
}

#[test]
fn without_any_source_the_defaults_hold() {
    let loaded = good(with_env(&[]));
    let config = &loaded.config;
    assert_eq!(config.listen, ["0.0.0.0:2121".parse().expect("address")]);
    assert_eq!(config.passive.ports, 30000..=30015);
    assert_eq!(config.sessions.idle_timeout, Duration::from_secs(600));
    assert_eq!(config.storage.provider, Provider::Embedded);
    assert_eq!(
        (
            config.storage.bucket.as_str(),
            config.storage.prefix.as_str()
        ),
        ("cosgate", "")
    );
    assert_eq!(config.storage.addressing, Addressing::Path);
    assert_eq!(config.upload.max_file_size, 200 << 30);
    assert!(config.upload.memory_budget >= 64 << 20);
    assert!(config.users.is_empty() && config.storage.endpoint.is_none());
    assert_eq!(
        config.admin.listen,
        Some("127.0.0.1:8080".parse().expect("address"))
    );
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn every_key_of_the_table_is_read() {
    let loaded = good(with_env(&[]));
    for key in table().iter().filter(|key| !key.path.contains("[]")) {
        assert!(
            loaded.settings.contains_key(key.path),
            "{} has a row and no reader",
            key.path
        );
    }
    // Entries of a list are read by name: without a reader, the wrong value would be taken.
    for key in table() {
        let Some((_, name)) = key.path.rsplit_once("[].") else {
            continue;
        };
        let value = match name {
            "permissions" => "X",
            _ => "a\tb/..",
        };
        let variable = in_entries(key.path, &format!("\"{}\"", value.escape_default()));
        let place = key.path.replace("[]", "[0]");
        // a list of sections isn't repeated
        let shown = match key.kind {
            Kind::Sections => format!("{place} (from"),
            _ => format!("{place} = "),
        };
        refused(with_env(&[&variable]), &[&shown]);
    }
}

/// The variable of a list of sections with the key `path` in its first entry.
fn in_entries(path: &str, value: &str) -> String {
    let (list, entry) = path.split_once("[].").expect("a key of an entry");
    let value = entry.rsplit("[].").fold(value.to_owned(), |value, path| {
        // one level of YAML or JSON for each part of the path
        let section = path
            .rsplit('.')
            .fold(value, |value, name| format!("{{\"{name}\": {value}}}"));
        format!("[{section}]")
    });
    format!("{}={value}", keys::variable(list).replace("COSGATE_", ""))
}

#[test]
fn the_words_that_the_table_offers_are_taken() {
    for key in table() {
        let Kind::Choice(words) = key.kind else {
            continue;
        };
        for word in words {
            let loaded = match key.path.contains("[].") {
                true => with_env(&[&in_entries(key.path, word)]),
                false => {
                    // what `tls` asks for needs a certificate, and an address from PROXY headers a proxy
                    let needed = [
                        ("COSGATE_TLS__SELF_SIGNED", "true"),
                        ("COSGATE_PROXY_PROTOCOL__TRUSTED", "192.0.2.1"),
                    ];
                    let needed = needed.map(|(key, value)| (key.to_string(), value.to_string()));
                    let given = (keys::variable(key.path), word.to_string());
                    load_from(None, needed.into_iter().chain([given]))
                }
            };
            // Other keys may be missed with this word, but this one is right.
            let error = loaded
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert!(!error.contains(&format!("{word} (from")), "{error}");
        }
    }
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_defaults() {
    let text = "greeting: from file\nupload: {concurrency: 2, stall_timeout: 3m}\n";
    let loaded = good(with_yaml(text, &["UPLOAD__CONCURRENCY=3", "GREETING="]));
    assert_eq!(loaded.config.greeting, "from file");
    assert_eq!(loaded.config.upload.concurrency, 3);
    assert_eq!(loaded.config.upload.stall_timeout, Duration::from_secs(180));
    let printed = loaded.describe();
    for line in ["# COSGATE_UPLOAD__CONCURRENCY", "cosgate.yaml", "# default"] {
        assert!(printed.contains(line), "{printed}");
    }
}

#[test]
fn an_empty_value_is_no_value() {
    let text = "greeting: ''\nmasquerade_address: ~\nlog:\nusers: []\nadmin: {listen: }\n";
    let loaded = good(with_yaml(
        text,
        &["LISTEN=", "STORAGE__SECRET_ACCESS_KEY_FILE=", "CONFIG="],
    ));
    assert_eq!(loaded.config.greeting, "cosgate ready");
    assert!(loaded.config.masquerade.address.is_none());
    assert!(loaded.config.admin.listen.is_some());
}

#[test]
fn text_stays_as_it_was_written_in_every_source() {
    for secret in [
        "0123", "true", "{a=1}", "1.50", "0x10", "null", "\"q\"", "a=b", "[x]",
    ] {
        let env = [
            format!("STORAGE__SECRET_ACCESS_KEY={secret}"),
            "STORAGE__ACCESS_KEY_ID=007".into(),
        ];
        let loaded = good(with_env(&[&env[0], &env[1]]));
        let credentials = loaded.config.storage.credentials.expect("both are set");
        assert_eq!(credentials.access_key_id, "007");
        assert_eq!(credentials.secret_access_key.expose_secret(), secret);
    }
    let loaded = good(with_yaml(
        "storage: {access_key_id: 0123, secret_access_key: 1.50}",
        &[],
    ));
    let credentials = loaded.config.storage.credentials.expect("both are set");
    assert_eq!(credentials.access_key_id, "0123");
    assert_eq!(credentials.secret_access_key.expose_secret(), "1.50");
}

#[test]
fn what_kubernetes_injects_is_passed_over_and_nothing_that_looks_similar() {
    good(with_env(&[
        "SERVICE_HOST=10.0.0.1",
        "SERVICE_PORT=2121",
        "SERVICE_PORT_CONTROL=2121",
        "PORT=tcp://10.0.0.1:2121",
        "PORT_2121_TCP=tcp://10.0.0.1:2121",
        "PORT_2121_TCP_PROTO=tcp",
        "PORT_2121_TCP_PORT=2121",
        "PORT_2121_TCP_ADDR=10.0.0.1",
        "DATA_0_SERVICE_HOST=10.0.0.2",
        "DATA_0_PORT_30000_TCP_ADDR=10.0.0.2",
        "TEST_KUBECONFIG=/x",
    ]));
    for mistake in [
        "PORT=2121",
        "SERVICE=x",
        "PORT_TCP=1",
        "PORT_99999_TCP=x",
        "SERVICE_HOST=ftp",
        "PASSIVE__PORT=tcp://x",
    ] {
        refused(with_env(&[mistake]), &["no key has this variable"]);
    }
}

#[test]
fn unknown_names_are_refused_at_any_depth_with_the_name_that_was_meant() {
    for (text, words) in [
        (
            "lissten: x",
            &["lissten", "line 1", "did you mean listen?"][..],
        ),
        ("log: {lvel: x}", &["log.lvel", "did you mean log.level?"]),
        ("bucket: x", &["did you mean storage.bucket?"]),
        ("a:\n  b: 1", &["a (from", "there is no such key"]),
        ("users:\n- {name: a, nick: b}", &["users[0].nick", "line 2"]),
        ("upload.concurrency: 3", &["upload.concurrency", "indented"]),
    ] {
        refused(with_yaml(text, &[]), words);
    }
    refused(
        with_env(&["UPLOAD_CONCURRENCY=3"]),
        &["did you mean COSGATE_UPLOAD__CONCURRENCY?"],
    );
    refused(with_env(&["USERS__0__NAME=x"]), &["COSGATE_USERS__0__NAME"]);
}

#[test]
fn a_value_of_the_wrong_shape_is_refused_where_it_stands() {
    for (text, words) in [
        ("- a", &["the configuration", "section"][..]),
        ("upload: 5", &["upload (from", "section", "max_file_size"]),
        ("greeting: [a]", &["greeting (from", "one value"]),
        ("greeting: {a: b}", &["greeting (from", "one value"]),
        ("users: alice", &["users (from", "write a list"]),
        ("users: [alice]", &["users[0] (from", "section"]),
        ("listen: []", &["listen", "empty"]),
        ("'': {greeting: x}", &["no key is named so"]),
        ("listen: [[a]]", &["listen", "list of texts"]),
    ] {
        refused(with_yaml(text, &[]), words);
    }
}

#[test]
fn every_problem_is_reported_and_has_its_line() {
    let text = "\
                upload:
  concurrency: 65
  min_part_size: 1KiB
greeting: [no]
typo: 1
passive:
  ports: 9-7
";
    let error = refused(
        with_yaml(text, &["LOG__LEVEL=inof", "SESSIONS__IDLE_TIMEOUT=30"]),
        &[
            "upload.concurrency = 65 (from ",
            "cosgate.yaml, line 2): write a whole number from 1 to 64",
            "cosgate.yaml, line 3): the store accepts parts of 5 MiB to 5 GiB; set a value in that range",
            "line 4)",
            "line 5)",
            "line 7)",
            "log.level = inof (from COSGATE_LOG__LEVEL)",
            "sessions.idle_timeout = 30 (from COSGATE_SESSIONS__IDLE_TIMEOUT): the unit is missing; write 30s",
        ],
    );
    assert_eq!(error.lines().count(), 7, "{error}");
}

#[test]
fn an_error_has_the_form_of_the_style_guide() {
    let error = with_env(&["UPLOAD__MIN_PART_SIZE=1KiB"]).expect_err("too small");
    assert_eq!(
        error.to_string(),
        "upload.min_part_size = 1KiB (from COSGATE_UPLOAD__MIN_PART_SIZE): \
         the store accepts parts of 5 MiB to 5 GiB; set a value in that range"
    );
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_named_it() {
    let (dir, path) = yaml("a: [\nb: c");
    let missing = dir.path().join("none.yaml");
    refused(
        load_from(Some(&missing), []),
        &["none.yaml (from --config): cannot be read"],
    );
    let variable = format!("CONFIG={}", missing.display());
    refused(with_env(&[&variable]), &["none.yaml (from COSGATE_CONFIG)"]);
    refused(
        load_from(Some(&missing), variables(&[&variable])),
        &["none.yaml (from COSGATE_CONFIG)"],
    );
    refused(load_from(Some(dir.path()), []), &["cannot be read"]);
    refused(
        load_from(Some(&path), []),
        &["not valid YAML", "line 1, column 4"],
    );
    fs::write(&path, b"greeting: \xff").expect("write");
    refused(load_from(Some(&path), []), &["not UTF-8"]);
}
