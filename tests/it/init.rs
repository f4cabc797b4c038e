//! `cosgate init`, as somebody who is new runs it: from nothing to a gateway with two users and FTPS.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::configuration::{Program, run};
use crate::support::Ftp;
use crate::support::tls::Authority;

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The passwords that were shown: user and password.
fn passwords(shown: &str) -> Vec<(&str, &str)> {
    let lines = shown.lines().filter_map(|line| {
        let (name, password) = line
            .trim()
            .strip_prefix("user ")?
            .split_once(", password ")?;
        Some((name, password))
    });
    lines.collect()
}

#[test]
fn each_store_gets_a_file_that_check_config_takes() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let keys = [
        ("COSGATE_STORAGE__ACCESS_KEY_ID", "AKID0"),
        ("COSGATE_STORAGE__SECRET_ACCESS_KEY", "hunter2"),
    ];
    for (store, env, examples) in [
        ("cos", &keys[..], true),
        ("s3", &[], true),
        ("embedded", &[], false),
    ] {
        let file = directory.path().join(store);
        let arguments = [
            "init",
            store,
            "--user",
            "camera",
            "--user",
            "office",
            "--out",
            text(&file),
        ];
        let (code, output, errors) = run(&arguments, env, "");
        assert_eq!((code, errors.as_str()), (Some(0), ""));
        let shown = passwords(&output);
        assert_eq!(shown.len(), 2, "{output}");
        assert_eq!((shown[0].0, shown[1].0), ("camera", "office"));
        assert_eq!(
            output.contains("examples: storage.bucket, storage.region"),
            examples
        );
        let written = std::fs::read_to_string(&file).expect("UTF-8");
        for secret in ["hunter2", shown[0].1, shown[1].1] {
            assert!(!written.contains(secret), "{secret}");
        }
        let (code, output, errors) = run(&["check-config", "--config", text(&file)], env, "");
        assert_eq!((code, errors.as_str()), (Some(0), ""));
        for value in [
            "users[0].home = /camera",
            "users[1].name = office",
            "tls.self_signed = true",
        ] {
            assert!(output.contains(value), "no {value} in\n{output}");
        }
        assert!(
            output.contains(&format!("storage.provider = {store}")),
            "{output}"
        );

        let (code, output, errors) = run(&arguments, &[], "");
        assert_eq!((code, output.as_str()), (Some(69), ""));
        assert!(errors.contains("--force"), "{errors}");
        assert_eq!(std::fs::read_to_string(&file).expect("UTF-8"), written);
        let forced = [&arguments[..], &["--force"]].concat();
        assert_eq!(run(&forced, &[], "").0, Some(0));
        assert_ne!(std::fs::read_to_string(&file).expect("UTF-8"), written);
    }
    let (code, _, errors) = run(&["init", "cos", "--bucket", "files", "--out", "-"], &[], "");
    assert_eq!(code, Some(64));
    assert!(
        errors.contains("--bucket: ") && errors.contains("name-APPID"),
        "{errors}"
    );
}

#[tokio::test]
async fn its_users_log_in_over_tls_and_see_their_own_files_only() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("cosgate.yaml");
    // as `docker run ... init --out - > cosgate.yaml` does
    let arguments = ["init", "--user", "camera", "--user", "office", "--out", "-"];
    let (code, output, shown) = run(&arguments, &[], "");
    assert_eq!(code, Some(0), "{shown}");
    // with a certificate of one's own in the place of the trial's, as its comments say
    let authority = Authority::new();
    authority.write_server_pair(directory.path(), "127.0.0.1");
    let output = output
        .replace("  self_signed: true\n", "")
        .replace(
            "  # cert: /etc/cosgate/",
            &format!("  cert: {}/", text(directory.path())),
        )
        .replace(
            "  # key: /etc/cosgate/",
            &format!("  key: {}/", text(directory.path())),
        )
        .replace("required: none", "required: all");
    std::fs::write(&file, output).expect("writes");
    let program = Program::start(&[("COSGATE_CONFIG", text(&file)), ("COSGATE_USERS", "")]);
    let client = authority.client();
    for (name, password) in passwords(&shown) {
        let mut ftp = Ftp::connect(program.address)
            .await
            .secure(&client)
            .await
            .expect("TLS");
        ftp.login(name, password).await;
        ftp.protect(&client).await;
        assert_eq!(ftp.listing("NLST").await, "");
        assert_eq!(ftp.store("STOR f", name.as_bytes()).await.code, 226);
        assert_eq!(ftp.fetch("RETR f").await.0, name.as_bytes());
    }
    assert_eq!(program.terminate(), Some(0));
}

#[test]
fn completions_and_pages_follow_from_the_command_line() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, output, errors) = run(&["completions", shell], &[], "");
        assert_eq!((code, errors.as_str()), (Some(0), ""));
        for word in ["check-config", "secrets-out", "masquerade-address"] {
            assert!(output.contains(word), "no {word} for {shell}");
        }
    }
    // a shell that has read them completes the commands
    let (_, script, _) = run(&["completions", "bash"], &[], "");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("cosgate.bash");
    std::fs::write(&file, script).expect("writes");
    let asked = format!(
        ". '{}'; COMP_WORDS=(cosgate che); COMP_CWORD=1; _cosgate cosgate che cosgate; echo \"${{COMPREPLY[*]}}\"",
        text(&file)
    );
    let output = Command::new("bash")
        .args(["-c", &asked])
        .stdin(Stdio::null())
        .output();
    let output = output.expect("bash");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "check-config\n",
        "{output:?}"
    );

    for (arguments, title, word) in [
        (&["man"][..], ".TH cosgate 1", "check\\-config"),
        (&["man", "import"], ".TH cosgate-import 1", "secrets\\-out"),
    ] {
        let (code, output, errors) = run(arguments, &[], "");
        assert_eq!((code, errors.as_str()), (Some(0), ""));
        assert!(output.contains(title) && output.contains(word), "{output}");
    }
    let (code, _, errors) = run(&["man", "nothing"], &[], "");
    assert_eq!(code, Some(64));
    assert!(errors.contains("there is no command nothing"), "{errors}");
}
