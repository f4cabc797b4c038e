//! The program: flags, passwords, exit codes, JSON.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::TestGateway;

/// Exit code, standard output and standard error.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn doctor(arguments: &[&str], env: &[(&str, &str)], input: &str) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cosgate"));
    command
        .arg("doctor")
        .args(arguments)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("piped");
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    });
    let output = output.await.expect("no panic");
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_comes_from_the_environment_a_file_or_standard_input() {
    let gateway = TestGateway::start().await;
    let address = gateway.address().to_string();
    let visit = ["--connect", &address, "--user", "demo"];
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    std::fs::write(&file, format!("{}\n", gateway.password)).expect("written");
    let file = file.to_str().expect("UTF-8");

    let env = [("COSGATE_DOCTOR_PASSWORD", gateway.password.as_str())];
    let by_env = doctor(&visit, &env, "").await;
    let with_file = [&visit[..], &["--password-file", file]].concat();
    let by_file = doctor(&with_file, &[], "").await;
    let by_input = doctor(&visit, &[], &format!("{}\r\n", gateway.password)).await;
    for ended in [&by_env, &by_file, &by_input] {
        assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
        assert!(ended.out.contains("  ok       upload"), "{}", ended.out);
        assert!(!ended.out.contains(&gateway.password));
        assert_eq!(ended.err, "");
    }
    assert!(gateway.keys().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_whether_something_failed() {
    let gateway = TestGateway::start().await;
    let address = gateway.address().to_string();
    let without_user = doctor(&["--connect", &address], &[], "").await;
    assert_eq!(without_user.code, Some(0), "{}", without_user.out);

    let json = ["--connect", &address, "--user", "demo", "--format", "json"];
    let wrong = doctor(&json, &[("COSGATE_DOCTOR_PASSWORD", "wrong-one")], "").await;
    assert_eq!(wrong.code, Some(1), "{}", wrong.err);
    let report: Value = serde_json::from_str(&wrong.out).expect("one object");
    assert_eq!(report["outcome"], "failed");
    let checks = report["checks"].as_array().expect("a list");
    let login = checks.iter().find(|check| check["name"] == "login");
    assert_eq!(login.expect("it is there")["outcome"], "failed");
    assert!(!wrong.out.contains("wrong-one"));

    let trial = doctor(
        &["--timeout", "60"],
        &[("COSGATE_ADMIN__LISTEN", "off")],
        "",
    )
    .await;
    assert!(
        matches!(trial.code, Some(0 | 1)),
        "{}{}",
        trial.out,
        trial.err
    );
    assert!(trial.out.contains("configuration"), "{}", trial.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_usage_and_bad_configuration_are_64() {
    let secret = [("COSGATE_DOCTOR_PASSWORD", "")];
    for (arguments, env, words) in [
        (&["--user", "demo"][..], &[][..], "--connect"),
        (&["--tls", "off"], &[], "--connect"),
        (&["--connect", "a:b"], &[], "HOST[:PORT]"),
        (
            &["--connect", "a", "--user", "a\nb"],
            &[],
            "control characters",
        ),
        (&["--connect", "a", "--timeout", "0"], &[], "1s to 1h"),
        (
            &["--connect", "127.0.0.1:1", "--user", "a"],
            &secret,
            "there is no password",
        ),
        (
            &["--connect", "127.0.0.1:1", "--ca", "/does/not/exist"],
            &[],
            "--ca /does/not/exist",
        ),
        (&["--config", "/does/not/exist"], &[], "/does/not/exist"),
        (&[], &[("COSGATE_LISTEN", "nonsense")], "listen = nonsense"),
    ] {
        let ended = doctor(arguments, env, "").await;
        assert_eq!(
            ended.code,
            Some(64),
            "{arguments:?}: {}{}",
            ended.out,
            ended.err
        );
        assert!(ended.err.contains(words), "{words} in {}", ended.err);
    }
}
