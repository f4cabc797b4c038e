//! `cosgate import`, as somebody who moves from COS FTP Server runs it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::configuration::{Program, run};
use crate::support::Ftp;

const VSFTPD_CONF: &str = "\
[COS_ACCOUNT_0]
cos_secretid = AKIDimport77\t# SecretId
cos_secretkey = it's-a-key-88
cos_bucket = files-1250000000\t\t# name-appid
cos_region = ap-guangzhou
home_dir = /home/alice
ftp_login_user_name=alice
ftp_login_user_password=$pass'word\"99
authority=RW

[NETWORK]
masquerade_address = 203.0.113.7
listen_port = 2121
passive_port = 60000,65535

[OPTIONAL]
max_list_file = 10000
";

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The output of `check-config` in a shell that has read `files`.
fn check_in_a_shell(files: &[&Path], config: Option<&Path>) -> (bool, String) {
    let mut script = "set -ae\n".to_owned();
    for file in files {
        script += &format!(". '{}'\n", text(file));
    }
    script += &format!("exec '{}' check-config", env!("CARGO_BIN_EXE_cosgate"));
    if let Some(config) = config {
        script += &format!(" --config '{}'", text(config));
    }
    let mut shell = Command::new("/bin/sh");
    let output = shell
        .args(["-c", &script])
        .env_clear()
        .output()
        .expect("a shell");
    let both = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8(both).expect("UTF-8"),
    )
}

#[test]
fn what_import_writes_passes_check_config_and_the_secrets_stand_apart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let old = path("vsftpd.conf");
    std::fs::write(&old, VSFTPD_CONF).expect("writes");
    for format in ["yaml", "env", "helm-values"] {
        let (values, secrets) = (
            path(&format!("values.{format}")),
            path(&format!("secrets.{format}")),
        );
        let arguments = [
            "import",
            text(&old),
            "--format",
            format,
            "--secrets-out",
            text(&secrets),
        ];
        let (code, output, errors) = run(&arguments, &[], "");
        assert_eq!(code, Some(0), "{errors}");
        std::fs::write(&values, &output).expect("writes");
        let mode = std::fs::metadata(&secrets)
            .expect("written")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let kept = std::fs::read_to_string(&secrets).expect("UTF-8");
        assert!(
            kept.contains("AKIDimport77") && kept.contains("$argon2id$"),
            "{kept}"
        );
        assert!(
            !kept.contains("$pass"),
            "a password must not stay in the clear: {kept}"
        );
        for secret in ["AKIDimport77", "a-key-88", "$pass", "$argon2id$"] {
            assert!(
                !output.contains(secret) && !errors.contains(secret),
                "{secret}: {output}{errors}"
            );
        }
        assert!(errors.contains("passive_port was 60000,65535"), "{errors}");

        let (sound, said) = match format {
            "yaml" => check_in_a_shell(&[&secrets], Some(&values)),
            "env" => check_in_a_shell(&[&values, &secrets], None),
            // a chart's work; its parts are compared in the importer's own tests
            _ => (
                kept.contains("kind: Secret"),
                "users[0].name = alice".to_owned(),
            ),
        };
        assert!(
            sound && said.contains("users[0].name = alice"),
            "{format}: {said}"
        );

        let (code, output, errors) = run(&arguments, &[], "");
        assert_eq!(code, Some(69), "{errors}");
        assert!(
            output.is_empty() && errors.contains("--force"),
            "{output}{errors}"
        );
        let forced = [&arguments[..], &["--force"]].concat();
        assert_eq!(run(&forced, &[], "").0, Some(0));
    }
}

#[test]
fn a_file_that_is_wrong_writes_nothing_and_is_64() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (old, secrets) = (
        directory.path().join("vsftpd.conf"),
        directory.path().join("secrets"),
    );
    std::fs::write(&old, VSFTPD_CONF.replace("authority=RW", "authority=X")).expect("writes");
    let arguments = ["import", text(&old), "--secrets-out", text(&secrets)];
    let (code, output, errors) = run(&arguments, &[], "");
    assert_eq!((code, output.as_str()), (Some(64), ""));
    assert!(
        errors.contains("line 9: [COS_ACCOUNT_0] authority = X: write R, W or RW"),
        "{errors}"
    );
    assert!(!secrets.exists());
    std::fs::write(&old, vec![b'#'; (1 << 20) + 1]).expect("writes");
    let (code, _, errors) = run(&arguments, &[], "");
    assert_eq!(code, Some(64));
    assert!(errors.contains("larger than 1 MiB"), "{errors}");
    let bad_name = [&arguments[..], &["--secret-name", "a: b"]].concat();
    assert_eq!(run(&bad_name, &[], "").0, Some(64));
}

/// The result that a shell makes of the file of the secrets.
fn assignments(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').expect("an assignment");
        let value = value.trim_matches('\'').replace("'\\''", "'");
        (name.to_owned(), value)
    };
    lines.map(pair).collect()
}

/// The gateway with the result of an import.
fn started(secrets: &Path, config: &Path, more: &[(&str, &str)]) -> Program {
    let secrets = std::fs::read_to_string(secrets).expect("UTF-8");
    let secrets = assignments(&secrets);
    let mut env: Vec<(&str, &str)> = secrets
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    env.push(("COSGATE_CONFIG", text(config)));
    env.extend(more);
    Program::start(&env)
}

#[tokio::test]
async fn users_of_vsftpd_log_in_with_their_passwords_and_keep_to_their_rights() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let (old, shadow) = (path("vsftpd.conf"), path("shadow"));
    let (secrets, config) = (path("secrets"), path("cosgate.yaml"));
    let (_, hash, _) = run(&["hash-password"], &[], "hunter2");
    let users = format!(
        "root:!:19000:0:99999:7:::\nalice:{}:19000:0:99999:7:::\n",
        hash.trim()
    );
    std::fs::write(&shadow, users).expect("writes");
    for (write, code) in [("YES", 226), ("NO", 550)] {
        let conf = format!(
            "listen=YES\nlocal_enable=YES\nwrite_enable={write}\nchroot_local_user=YES\nidle_session_timeout=77\nsyslog_enable=YES\n"
        );
        std::fs::write(&old, conf).expect("writes");
        let arguments = [
            "import",
            text(&old),
            "--users",
            text(&shadow),
            "--secrets-out",
            text(&secrets),
            "--force",
        ];
        let (exit, output, errors) = run(&arguments, &[], "");
        assert_eq!(exit, Some(0), "{errors}");
        for said in ["left out: root", "syslog_enable (line 6)", "names no store"] {
            assert!(errors.contains(said), "no {said:?} in {errors}");
        }
        std::fs::write(&config, &output).expect("writes");
        assert!(output.contains("idle_timeout: \"77s\""), "{output}");
        let program = started(&secrets, &config, &[]);
        let mut ftp = Ftp::connect(program.address).await;
        ftp.login("alice", "hunter2").await;
        assert_eq!(ftp.store("STOR f", b"hello").await.code, code);
        assert_eq!(program.terminate(), Some(0));
    }
}

#[tokio::test]
async fn users_of_a_file_in_gbk_log_in_with_the_names_and_passwords_that_they_had() {
    let present = VSFTPD_CONF
        .replace(
            "masquerade_address = 203.0.113.7",
            "# \u{5ba2}\u{6237}\u{7aef}",
        )
        .replace("alice\n", "\u{5f20}\u{4e09}\n")
        .replace("$pass'word\"99", "\u{53e3}\u{4ee4}'99");
    let earlier = "\
[COS_ACCOUNT]
cos_secretid = AKIDimport77 # \u{5bc6}\u{94a5}
cos_secretkey = it's-a-key-88
cos_bucket = files-1250000000
cos_region = ap-guangzhou
[FTP_ACCOUNT]
login_users = \u{674e}\u{56db}:x:R;\u{5f20}\u{4e09}:\u{53e3}\u{4ee4}'99:RW
[NETWORK]
listen_port = 2121
";
    for conf in [present.as_str(), earlier] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        let (old, secrets, config) = (path("vsftpd.conf"), path("secrets"), path("cosgate.yaml"));
        let (bytes, _, is_lossy) = encoding_rs::GBK.encode(conf);
        assert!(!is_lossy && std::str::from_utf8(&bytes).is_err());
        std::fs::write(&old, &bytes).expect("writes");
        let arguments = ["import", text(&old), "--secrets-out", text(&secrets)];
        let (code, output, errors) = run(&arguments, &[], "");
        assert_eq!(code, Some(0), "{errors}");
        assert!(errors.contains("it was read as gb18030"), "{errors}");
        std::fs::write(&config, output).expect("writes");

        // everything but the store, which is Tencent's there
        let program = started(
            &secrets,
            &config,
            &[("COSGATE_STORAGE__PROVIDER", "embedded")],
        );
        let mut ftp = Ftp::connect(program.address).await;
        ftp.login("\u{5f20}\u{4e09}", "\u{53e3}\u{4ee4}'99").await;
        assert_eq!(ftp.store("STOR f", b"hello").await.code, 226);
        assert_eq!(ftp.fetch("RETR f").await.0, b"hello");
        assert_eq!(program.terminate(), Some(0));
    }
}
