//! Logins that an HTTP endpoint decides, with a real server in its place that behaves well or badly.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use serde_json::{Value, json};

use crate::configuration::Program;
use crate::support::{Ftp, TestGateway, eventually, try_login, users};

/// A directory service: every user's password is `secret`, and how it answers is the user's name.
struct Directory {
    address: SocketAddr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Directory {
    async fn start() -> Self {
        let asked = Arc::default();
        let app = Router::new()
            .route("/login", post(answer))
            .route("/yes", post(yes).get(yes))
            .with_state(Arc::clone(&asked));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        Directory { address, asked }
    }

    async fn gateway(&self, more: &[&str]) -> TestGateway {
        let url = format!("AUTH__HTTP__URL=http://{}/login", self.address);
        let own = [
            url.as_str(),
            "AUTH__HTTP__TOKEN=t0ken",
            "AUTH__LOCKOUT__DELAY=10ms",
        ];
        TestGateway::with(&[&own, more].concat()).await
    }

    fn asked(&self, user: &str) -> usize {
        let asked = self.asked.lock().expect("not poisoned");
        asked.get(user).copied().unwrap_or_default()
    }
}

async fn answer(
    State(asked): State<Arc<Mutex<HashMap<String, usize>>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    assert_eq!(headers["authorization"], "Bearer t0ken");
    assert_eq!(headers["content-type"], "application/json");
    let request: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(request["address"], "127.0.0.1");
    assert_eq!(request["tls"], false);
    assert_eq!(request["client_cert_cn"], Value::Null);
    let user = request["user"].as_str().expect("a text").to_owned();
    *asked
        .lock()
        .expect("not poisoned")
        .entry(user.clone())
        .or_default() += 1;
    let mut record =
        json!({"name": user, "home": format!("/{user}"), "permissions": ["read", "list", "write"]});
    match user.as_str() {
        "slow" => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            StatusCode::OK.into_response()
        }
        "failing" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "moved" => Redirect::temporary("/yes").into_response(),
        "garbage" => "<html>welcome</html>".into_response(),
        "bare" => "{}".into_response(),
        "homeless" => json!({"name": "homeless", "permissions": "RW"})
            .to_string()
            .into_response(),
        "mistaken" => json!({"name": "admin", "home": "/", "permissions": "RW"})
            .to_string()
            .into_response(),
        "climber" => json!({"name": "climber", "home": "/a/../..", "permissions": "RW"})
            .to_string()
            .into_response(),
        "shredder" => json!({"name": "shredder", "home": "/", "permissions": "shred"})
            .to_string()
            .into_response(),
        "endless" => {
            record["home"] = Value::from("x".repeat(1 << 20));
            record.to_string().into_response()
        }
        _ if request["password"] != "secret" => StatusCode::UNAUTHORIZED.into_response(),
        "far" => {
            record["allow_from"] = json!(["203.0.113.0/24"]);
            record.to_string().into_response()
        }
        _ => record.to_string().into_response(),
    }
}

/// The target of a followed redirect.
async fn yes() -> Response {
    json!({"name": "moved", "home": "/", "permissions": "RW"})
        .to_string()
        .into_response()
}

#[tokio::test]
async fn the_endpoint_lets_a_user_in_with_the_home_and_rights_of_its_answer() {
    let directory = Directory::start().await;
    let list = format!("USERS={}", users(&["name: local"]));
    let gateway = directory.gateway(&[&list]).await;
    let mut ftp = gateway.connect().await;
    ftp.login("remote", "secret").await;
    assert_eq!(ftp.store("STOR f", b"hello").await.code, 226);
    assert_eq!(
        gateway.object("remote/f").await.as_deref(),
        Some(&b"hello"[..])
    );
    assert_eq!(
        ftp.store("STOR f", b"again").await.code,
        550,
        "overwriting was not granted"
    );
    assert_eq!(ftp.command("DELE f").await.code, 550);

    let wrong = try_login(&gateway, "remote", "wrong").await;
    assert_eq!(wrong.code, 530);
    assert_eq!(
        try_login(&gateway, "far", "secret").await,
        wrong,
        "the record's conditions hold"
    );
    assert_eq!(try_login(&gateway, "local", "secret").await.code, 230);
    assert_eq!(try_login(&gateway, "local", "wrong").await, wrong);
    assert_eq!(
        directory.asked("local"),
        0,
        "who is configured here is nobody else's business"
    );
}

#[tokio::test]
async fn whatever_is_no_clear_yes_lets_nobody_in() {
    let directory = Directory::start().await;
    let gateway = directory
        .gateway(&["AUTH__HTTP__TIMEOUT=1s", "AUTH__LOCKOUT__PER_USER=2"])
        .await;
    for user in [
        "slow", "failing", "moved", "garbage", "bare", "homeless", "mistaken", "climber",
        "shredder", "endless",
    ] {
        for _ in 0..3 {
            let begun = Instant::now();
            let reply = try_login(&gateway, user, "secret").await;
            assert_eq!(reply.code, 421, "{user}: {reply:?}");
            assert!(
                reply.text.contains("can't be checked"),
                "a fault is no guess: {reply:?}"
            );
            assert!(begun.elapsed() < Duration::from_secs(30), "{user}");
        }
        assert_eq!(
            directory.asked(user),
            3,
            "{user}: not asked again behind our back, and nothing was kept"
        );
    }
    assert!(gateway.keys().await.is_empty());
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_lets_nobody_in_but_those_of_the_configuration() {
    let list = format!("USERS={}", users(&["name: local"]));
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!(
        "AUTH__HTTP__URL=http://{}/login",
        free.local_addr().expect("bound")
    );
    drop(free);
    let gateway = TestGateway::with(&[&list, &url, "AUTH__LOCKOUT__DELAY=10ms"]).await;
    assert_eq!(try_login(&gateway, "remote", "secret").await.code, 421);
    assert_eq!(try_login(&gateway, "local", "secret").await.code, 230);
}

#[tokio::test]
async fn a_success_is_kept_for_its_time_and_a_failure_never() {
    let directory = Directory::start().await;
    let gateway = directory
        .gateway(&["AUTH__HTTP__CACHE=2s", "AUTH__LOCKOUT__PER_USER=0"])
        .await;
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(try_login(&gateway, "remote", "secret").await.code, 230);
    }
    if begun.elapsed() < Duration::from_secs(2) {
        assert_eq!(directory.asked("remote"), 1);
    }
    let before = directory.asked("remote");
    for failure in 1..=3 {
        assert_eq!(try_login(&gateway, "remote", "wrong").await.code, 530);
        assert_eq!(directory.asked("remote"), before + failure);
    }
    let before = directory.asked("remote");
    eventually("the success is over", || async {
        assert_eq!(try_login(&gateway, "remote", "secret").await.code, 230);
        directory.asked("remote") > before
    })
    .await;

    let gateway = directory.gateway(&["AUTH__HTTP__CACHE=off"]).await;
    let before = directory.asked("remote");
    for login in 1..=3 {
        assert_eq!(try_login(&gateway, "remote", "secret").await.code, 230);
        assert_eq!(directory.asked("remote"), before + login);
    }
}

#[tokio::test]
async fn guesses_at_the_endpoint_are_locked_out_before_they_reach_it() {
    let directory = Directory::start().await;
    let gateway = directory.gateway(&["AUTH__LOCKOUT__PER_USER=3"]).await;
    for _ in 0..3 {
        assert_eq!(try_login(&gateway, "remote", "wrong").await.code, 530);
    }
    for _ in 0..10 {
        assert_eq!(try_login(&gateway, "remote", "secret").await.code, 421);
    }
    assert_eq!(directory.asked("remote"), 3);
}

/// The same over TLS: answers every request with a yes, under a certificate of an authority of its own.
async fn tls_directory() -> (SocketAddr, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls_pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut authority = CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let bundle = authority.self_signed(&key).expect("signed").pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let leaf = leaf.signed_by(&key, &issuer).expect("signed");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8"),
        )
        .expect("they fit");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // who doesn't trust us ends the handshake
            let Ok(mut stream) = acceptor.accept(socket).await else {
                continue;
            };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let body = json!({"name": "remote", "home": "/", "permissions": "RW"}).to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, bundle)
}

#[tokio::test]
async fn a_password_is_sent_only_to_who_has_a_certificate_of_the_bundle() {
    let (address, bundle) = tls_directory().await;
    let (_, strange) = tls_directory().await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("written");
        format!("AUTH__HTTP__CA_FILE={}", path.display())
    };
    let (bundle, strange) = (file("bundle.pem", &bundle), file("strange.pem", &strange));
    let url = |host: &str| format!("AUTH__HTTP__URL=https://{host}:{}/", address.port());
    for (host, ca_file, code) in [
        ("localhost", Some(&bundle), 230),
        ("localhost", Some(&strange), 421),
        // not the certificate's name
        ("127.0.0.1", Some(&bundle), 421),
        // the system trusts no authority of a test
        ("localhost", None, 421),
    ] {
        let url = url(host);
        let mut settings = vec![url.as_str(), "AUTH__LOCKOUT__DELAY=10ms"];
        settings.extend(ca_file.map(String::as_str));
        let gateway = TestGateway::with(&settings).await;
        let reply = try_login(&gateway, "remote", "secret").await;
        assert_eq!(reply.code, code, "{host} {ca_file:?}: {reply:?}");
    }
}

#[test]
fn a_bundle_without_certificates_keeps_the_gateway_from_starting() {
    let dir = tempfile::tempdir().expect("a directory");
    let (empty, broken) = (dir.path().join("empty.pem"), dir.path().join("broken.pem"));
    std::fs::write(&empty, "hunter2").expect("written");
    let pem = "-----BEGIN CERTIFICATE-----\nhunter2!\n-----END CERTIFICATE-----\n";
    std::fs::write(&broken, pem).expect("written");
    for (file, reason) in [
        (empty, "no certificate"),
        (broken, "is broken"),
        (dir.path().join("none"), "cannot be read"),
    ] {
        let env = [
            ("COSGATE_AUTH__HTTP__URL", "https://localhost/"),
            ("COSGATE_AUTH__HTTP__CA_FILE", file.to_str().expect("UTF-8")),
        ];
        let env = env.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let error = cosgate::config::load_from(None, env).expect_err("it is refused");
        let text = error.to_string();
        for word in [
            "auth.http.ca_file = ",
            "COSGATE_AUTH__HTTP__CA_FILE",
            reason,
        ] {
            assert!(text.contains(word), "{text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn while_the_endpoint_is_down_a_stranger_cannot_distinguish_local_users_from_others() {
    let list = users(&["name: local"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/login", free.local_addr().expect("bound"));
    drop(free);
    let program = Program::start(&[
        ("COSGATE_USERS", &list),
        ("COSGATE_AUTH__HTTP__URL", &url),
        ("COSGATE_AUTH__LOCKOUT__DELAY", "10ms"),
        ("COSGATE_AUTH__LOCKOUT__PER_USER", "2"),
    ]);
    let attempt = async |user: &str, password: &str| {
        let mut ftp = Ftp::connect(program.address).await;
        ftp.try_login(user, password).await
    };
    let unknown = attempt("remote", "wrong").await;
    assert_eq!(unknown.code, 421);
    // also after so many failures that others would be locked out
    for _ in 0..4 {
        assert_eq!(attempt("local", "wrong").await, unknown);
        assert_eq!(attempt("remote", "wrong").await, unknown);
    }
    let lines = || {
        let log = program.log();
        log.iter()
            .filter(|line| line.contains("login_unavailable"))
            .count()
    };
    eventually("the fault is logged", || async { lines() > 0 }).await;
    assert!(lines() < 5, "a line per login:\n{}", program.output());
    // the real reason stands in the log
    let log = program.log();
    assert!(log.iter().any(|line| line.contains("wrong password")));
    assert!(log.iter().any(|line| line.contains("\"lockout\"")));
}
