//! `cosgate import`, as somebody who moves from COS FTP Server runs it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::configuration::run;

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

/// What `check-config` says in a shell that has read `files`.
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
