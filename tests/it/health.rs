//! `cosgate health`: what an image without shell and curl asks itself.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cosgate::auth::hash_password;
use secrecy::{ExposeSecret, SecretString};

use crate::support::TestGateway;
use crate::support::gateway::start;

/// Exit code and everything that it prints.
async fn health(listen: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cosgate"));
    command
        .arg("health")
        .args(arguments)
        .env_clear()
        .env("COSGATE_ADMIN__LISTEN", listen)
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().expect("it starts"))
        .await
        .expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8(text).expect("UTF-8"),
    )
}

fn admin(gateway: &TestGateway) -> SocketAddr {
    gateway.gateway.admin_address().expect("an admin port")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_is_alive_and_ready() {
    let gateway = TestGateway::with(&["ADMIN__LISTEN=127.0.0.1:0"]).await;
    let listen = admin(&gateway).to_string();
    assert_eq!(health(&listen, &[]).await, (Some(0), "ok\n".to_owned()));
    let ready = health(&listen, &["--ready"]).await;
    assert_eq!(ready, (Some(0), "ready\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_on_every_address_is_asked_over_loopback() {
    let gateway = TestGateway::with(&["ADMIN__LISTEN=0.0.0.0:0"]).await;
    let listen = format!("0.0.0.0:{}", admin(&gateway).port());
    assert_eq!(health(&listen, &[]).await, (Some(0), "ok\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_store_is_gone_is_alive_and_not_ready_and_says_why() {
    let closed = free_port();
    let hash = hash_password(&SecretString::from("secret")).expect("hashes");
    let gateway = start(&[
        &format!(
            "USERS=[{{name: demo, password_hash: '{}'}}]",
            hash.expose_secret()
        ),
        "ADMIN__LISTEN=127.0.0.1:0",
        "STORAGE__PROVIDER=s3",
        "STORAGE__BUCKET=files",
        "STORAGE__ACCESS_KEY_ID=key",
        "STORAGE__SECRET_ACCESS_KEY=secret",
        "STORAGE__RETRY__MAX_ATTEMPTS=1",
        &format!("STORAGE__ENDPOINT=http://{closed}"),
    ])
    .await;
    let listen = gateway.admin_address().expect("an admin port").to_string();
    assert_eq!(health(&listen, &[]).await.0, Some(0));
    let (code, said) = health(&listen, &["--ready"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("/readyz answers 503: not ready; "), "{said}");
}

#[tokio::test]
async fn where_nobody_listens_it_fails_and_names_the_address() {
    let closed = free_port().to_string();
    let (code, said) = health(&closed, &[]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("http://{closed}/livez")), "{said}");
    assert!(said.contains("refused"), "{said}");
}

#[tokio::test]
async fn a_port_that_accepts_and_says_nothing_is_given_up_after_three_seconds() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = silent.local_addr().expect("bound").to_string();
    let began = Instant::now();
    let (code, said) = health(&listen, &[]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("within 3 s"), "{said}");
    // far more than it takes, on a machine that is busy
    assert!(began.elapsed() < Duration::from_secs(30), "{said}");
}

#[tokio::test]
async fn without_an_admin_port_the_error_names_the_key() {
    let (code, said) = health("off", &[]).await;
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("admin.listen is off"), "{said}");
}

#[tokio::test]
async fn a_bad_configuration_is_exit_code_64() {
    let (code, said) = health("nowhere", &[]).await;
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("admin.listen = nowhere"), "{said}");
}

fn free_port() -> SocketAddr {
    // closed again at once: nobody listens there
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound")
}
