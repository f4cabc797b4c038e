//! Invariants: connections, secrets, numbers and addresses

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::configuration::run;
use crate::credentials::{LOUDEST, MIB, PASSWORD, Scene, WRONG_PASSWORD, login, text};
use crate::masquerade;
use crate::support::{Ftp, KubeApi, TestGateway, cloud, pattern};

/// Invariant 6: A data connection never serves another session than the one that was given its port.
#[tokio::test]
async fn a_data_connection_never_serves_another_session_than_that_of_its_port() {
    let gateway = TestGateway::start().await;
    for name in ["a", "b", "c"] {
        gateway.put_object(name, name.repeat(1000).into()).await;
    }
    // three sessions of one address: connections that come in any order reach their own
    let mut sessions = Vec::new();
    for name in ["a", "b", "c"] {
        let mut ftp = gateway.login().await;
        let port = ftp.epsv().await;
        sessions.push((ftp, port, name));
    }
    for order in [[2, 0, 1], [1, 2, 0]] {
        let mut connections = Vec::new();
        for at in order {
            let address = (gateway.address().ip(), sessions[at].1);
            let data = tokio::net::TcpStream::connect(address).await;
            connections.push((at, data.expect("the passive port listens")));
        }
        for (at, mut data) in connections {
            let (ftp, port, name) = &mut sessions[at];
            assert_eq!(ftp.command(&format!("RETR {name}")).await.code, 150);
            let mut bytes = Vec::new();
            data.read_to_end(&mut bytes).await.expect("a clean end");
            assert_eq!(bytes, name.repeat(1000).into_bytes());
            assert_eq!(ftp.reply().await.code, 226);
            *port = ftp.epsv().await;
        }
    }
    // another address gets nothing, gives nothing, and the session's own client is served all the same
    let (ftp, port, _) = &mut sessions[0];
    let thief = TcpSocket::new_v4().expect("a socket");
    thief.bind(([127, 0, 0, 9], 0).into()).expect("loopback");
    let address = (Ipv4Addr::LOCALHOST, *port).into();
    let mut thief = thief.connect(address).await.expect("listens");
    let _ = thief.write_all(b"forged").await;
    let mut stolen = Vec::new();
    let _ = thief.read_to_end(&mut stolen).await;
    assert!(stolen.is_empty(), "{stolen:?}");
    let mut own = tokio::net::TcpStream::connect(address)
        .await
        .expect("listens");
    assert_eq!(ftp.command("STOR d").await.code, 150);
    own.write_all(b"its own").await.expect("taken");
    drop(own);
    assert_eq!(ftp.reply().await.code, 226);
    assert_eq!(gateway.object("d").await.as_deref(), Some(&b"its own"[..]));
    gateway.stop().await;
}

/// Invariant 7: Nothing is ever logged that authenticates: passwords, keys, tokens.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_ever_logged_that_authenticates() {
    let identities = [
        "eyJhbGci.eyJwb2Qi.first-web-identity",
        "eyJhbGci.eyJwb2Qi.wrong-web-identity",
    ];
    let mut secrets = vec![
        PASSWORD.to_owned(),
        WRONG_PASSWORD.to_owned(),
        cloud::CONTAINER_TOKEN.to_owned(),
    ];
    secrets.extend(identities.map(str::to_owned));
    let mut output = String::new();
    for kind in ["tke", "cvm", "web", "container", "static"] {
        let mut scene = Scene::new(Duration::from_secs(3600)).await;
        match kind {
            "tke" => scene.with_tke(),
            "cvm" => {
                scene.set("COSGATE_STORAGE__CREDENTIALS", "cvm");
                scene.set("COSGATE_STORAGE__METADATA_ENDPOINT", scene.cloud.url());
            }
            "web" => {
                scene.set("COSGATE_STORAGE__CREDENTIALS", "aws");
                scene.set("AWS_ENDPOINT_URL_STS", scene.cloud.url());
                scene.set("AWS_WEB_IDENTITY_TOKEN_FILE", text(&scene.token_file));
                scene.set("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/cosgate");
                scene.set("AWS_ROLE_SESSION_NAME", "gw-0");
            }
            "container" => {
                scene.set("COSGATE_STORAGE__CREDENTIALS", "aws");
                let url = format!("{}/container", scene.cloud.url());
                scene.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
                scene.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", cloud::CONTAINER_TOKEN);
            }
            _ => {
                for (name, value) in [
                    ("ACCESS_KEY_ID", "AKIDstatic-9b1d"),
                    ("SECRET_ACCESS_KEY", "secret-4c8e"),
                    ("SESSION_TOKEN", "session-27aa"),
                ] {
                    scene.set(&format!("COSGATE_STORAGE__{name}"), value);
                    secrets.push(value.to_owned());
                }
            }
        }
        scene.set("COSGATE_LOG__LEVEL", LOUDEST);
        // the AWS SDK asks again after a refusal only for as long
        scene.set("COSGATE_STORAGE__RETRY__MAX_ATTEMPTS", "2");
        let (_, stdout, stderr) = run(&["check-config"], &scene.env(), "");
        output += &stdout;
        output += &stderr;

        let program = scene.start();
        let mut ftp = Ftp::connect(program.address).await;
        ftp.command("USER u").await;
        assert_eq!(
            ftp.command(&format!("PASS {WRONG_PASSWORD}")).await.code,
            530
        );
        let mut ftp = login(&program).await;
        let code = if kind == "static" { 550 } else { 226 };
        // a whole upload, a download, and what fails
        for bytes in [pattern(10), pattern(3 * MIB)] {
            let reply = ftp.store("STOR f", &bytes).await;
            assert_eq!(reply.code, code, "{kind}: {reply:?}");
        }
        ftp.fetch("RETR f").await;
        ftp.fetch("LIST").await;
        ftp.command("DELE none").await;
        secrets.extend(scene.cloud.issuer.secrets());
        output += &program.end();

        // the same with a token service that refuses, and tells the token in its words
        std::fs::write(&scene.token_file, identities[1]).expect("writes");
        let program = scene.start();
        let mut ftp = login(&program).await;
        ftp.store("STOR f", b"hello").await;
        output += &program.end();
        secrets.extend(scene.cloud.issuer.secrets());
    }
    assert!(output.len() > 100_000, "this is no trace of anything");
    let mut leaks = std::collections::BTreeMap::new();
    for line in output.lines() {
        for secret in secrets
            .iter()
            .filter(|secret| line.contains(secret.as_str()))
        {
            let target = line.split("\"target\":").nth(1).unwrap_or("no target");
            leaks
                .entry(target)
                .or_insert_with(|| format!("{secret} in {line}"));
        }
    }
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// Files of `src` without their tests.
fn sources(directory: &Path, all: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let is_of_tests = path.ends_with("tests") || path.ends_with("tests.rs");
        if path.is_dir() && !is_of_tests {
            sources(&path, all);
        } else if path.extension().is_some_and(|end| end == "rs") && !is_of_tests {
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let end = text.find("#[cfg(test)]").unwrap_or(text.len());
            all.push((path, text[..end].to_owned()));
        }
    }
}

/// Invariant 8: Every number that bounds something is configurable, or a named constant with its reason.
#[test]
fn every_number_that_bounds_something_is_configurable_or_a_constant_with_its_reason() {
    const NUMBERS: [&str; 9] = [
        "Duration", "usize", "isize", "u16", "u32", "u64", "i32", "i64", "f64",
    ];
    // units, which bound nothing
    const UNITS: [&str; 4] = ["KIB", "MIB", "GIB", "TIB"];
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    assert!(files.len() > 100, "{} files", files.len());
    let (mut wrong, mut constants) = (Vec::new(), 0);
    for (path, text) in &files {
        let mut before = "";
        let mut in_constant = false;
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default().trim();
            let declared = code.split_once("const ").and_then(|(_, rest)| {
                let (name, rest) = rest.split_once(": ")?;
                Some((name, rest.split([' ', ';', '=']).next()?))
            });
            let is_constant = declared.is_some() || code.contains("static ");
            if let Some((name, kind)) = declared
                && NUMBERS.iter().any(|number| kind.ends_with(number))
                && !UNITS.contains(&name)
            {
                constants += 1;
                // a group of constants may have one reason
                let has_reason =
                    before.starts_with("//") || line.contains("//") || before.contains("const ");
                if !has_reason {
                    wrong.push(format!("{}:{}: {code}", path.display(), number + 1));
                }
            }
            in_constant |= is_constant;
            let is_time = ["secs", "millis", "micros", "mins", "hours"]
                .iter()
                .any(|unit| {
                    let after = code.split(&format!("Duration::from_{unit}(")).nth(1);
                    after.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                });
            if is_time && !in_constant {
                wrong.push(format!("{}:{}: {code}", path.display(), number + 1));
            }
            if code.ends_with(';') {
                in_constant = false;
            }
            before = line.trim();
        }
    }
    assert!(constants > 200, "{constants} constants");
    assert!(
        wrong.is_empty(),
        "without a name or a reason:\n{}",
        wrong.join("\n")
    );
}

/// Invariant 9: In a cluster no client gets a pod's address, unless it comes from `masquerade.internal_cidrs`.
#[tokio::test]
async fn in_a_cluster_no_client_gets_a_pods_address_unless_it_comes_from_inside() {
    // nothing says what the public address is
    let gateway = TestGateway::with(&["KUBERNETES__IN_CLUSTER=true"]).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.pasv().await.expect_err("nothing is known").code, 425);
    assert_eq!(ftp.store("STOR f", b"by EPSV").await.code, 226);
    gateway.stop().await;

    // the address of a Service
    let api = KubeApi::start().await;
    let (public, ingress) = masquerade::at(7);
    let inside = ["MASQUERADE__INTERNAL_CIDRS=127.0.0.2/32, 10.0.0.0/8"];
    let gateway = masquerade::gateway(&api, &inside).await;
    let mut client = Ftp::connect_from([127, 0, 0, 2], gateway.address()).await;
    client.login("demo", &gateway.password).await;
    // before the public address is known, too
    let told_inside = client.pasv().await.expect("its own is known");
    assert_eq!(told_inside.0, Ipv4Addr::LOCALHOST);
    api.set_ingress(ingress);
    masquerade::told(&mut gateway.login().await, public).await;
    assert_eq!(
        client.pasv().await.map(|told| told.0),
        Ok(Ipv4Addr::LOCALHOST)
    );
}
