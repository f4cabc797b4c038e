//! Commands: bad lines, pipelines, noise, and what may not be said before the login. Each scenario was a hazard of libunftp on its own.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Ftp, TestGateway, eventually};

/// Bad lines: the reply, and that the session lives on with nothing changed.
#[tokio::test]
async fn bad_lines_get_their_reply_and_the_session_lives_on() {
    let gateway = TestGateway::start().await;
    gateway.put_object("kept", b"as it is".to_vec()).await;
    let mut ftp = gateway.login().await;
    let long = [b"STOR ".to_vec(), vec![b'x'; 9000]].concat();
    let key_over_the_limit = format!("STOR {}", "x".repeat(1025));
    for (line, code) in [
        (&long[..], 500),
        (b"STOR a\0b", 501),
        (b"STOR a\rb", 501),
        (b"STOR \xff\xfe\xe9", 501),
        (b"DELE \xc3", 501),
        (b"\x01\x02\x80garbage\x1b", 501),
        (b"XYZZY", 500),
        (b"", 500),
        (b"SIZE", 501),
        (b"STOR", 501),
        (b"REST abc", 501),
        (b"MODE Z", 504),
        (b"OPTS NOTHING", 501),
        // above the root is the root
        (b"STOR ../../etc/passwd", 425),
        (b"CWD ..", 250),
        (b"DELE ../missing", 550),
        (b"RNFR /../missing", 550),
        (b"RMD x/../../missing", 550),
        (b"STOR a\x07b", 553),
        (b"STOR /", 425),
        (key_over_the_limit.as_bytes(), 425),
    ] {
        ftp.send_raw(&[line, b"\r\n"].concat()).await;
        let shown = String::from_utf8_lossy(&line[..line.len().min(40)]).into_owned();
        assert_eq!(ftp.reply().await.code, code, "{shown:?}");
        assert_eq!(ftp.command("NOOP").await.code, 200, "after {shown:?}");
    }
    let longest = "x".repeat(1024);
    for line in ["SIZE", "DELE", "MDTM", "RNFR", "CWD"] {
        let reply = ftp.command(&format!("{line} {longest}")).await;
        assert_eq!(reply.code, 550, "{line}: {reply:?}");
    }
    // with a data connection at hand the name itself is what is refused
    assert_eq!(ftp.store(&key_over_the_limit, b"x").await.code, 553);
    assert_eq!(ftp.store("STOR /", b"x").await.code, 553);
    assert_eq!(
        ftp.command(&format!("MKD {}", "x".repeat(1024))).await.code,
        553
    );
    assert_eq!(
        ftp.store(&format!("STOR {}", "x".repeat(1024)), b"x")
            .await
            .code,
        226
    );
    ftp.command(&format!("DELE {}", "x".repeat(1024))).await;
    assert_eq!(gateway.keys().await, ["kept"]);
}

/// Row 9: commands that closed libunftp's control connection.
#[tokio::test]
async fn what_real_clients_send_is_answered() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    for (line, code) in [
        ("OPTS UTF8", 200),
        ("OPTS UTF8 ON", 200),
        ("OPTS MLST type;size;", 200),
        ("PROT p", 503),
        ("STRU f", 200),
        ("NOOP x", 200),
        ("SYST", 215),
        ("FEAT", 211),
        ("HELP", 214),
        ("ALLO 1000", 200),
        ("ACCT x", 202),
        ("CLNT x", 200),
        ("AUTH TLS", 502),
        ("PORT 127,0,0,1,4,1", 502),
        ("EPRT |1|127.0.0.1|1025|", 502),
        ("ABOR", 226),
        ("TYPE A", 200),
        ("XPWD", 257),
        ("SITE CHMOD 644 x", 550),
        ("LANG en", 502),
    ] {
        assert_eq!(ftp.command(line).await.code, code, "{line}");
    }
    let features = ftp.command("FEAT").await.text;
    assert!(
        features.contains("\r\n MLST type*;size*;modify;\r\n"),
        "{features}"
    );
}

/// Row 1: pipelined commands leaked sessions for ever.
#[tokio::test]
async fn pipelined_commands_are_answered_in_order_and_leak_no_session() {
    // 20 wrong passwords would lock the address out
    let gateway = TestGateway::with(&[
        "AUTH__LOCKOUT__PER_USER=0",
        "AUTH__LOCKOUT__DELAY=10ms",
        "AUTH__LOCKOUT__MAX_DELAY=10ms",
    ])
    .await;
    gateway.put_object("f", b"x".to_vec()).await;
    for _ in 0..20 {
        let mut ftp = gateway.connect().await;
        ftp.send_raw(b"USER demo\r\nPASS bad\r\nQUIT\r\nQUIT\r\nQUIT\r\n")
            .await;
        let codes = [
            ftp.reply().await.code,
            ftp.reply().await.code,
            ftp.reply().await.code,
        ];
        assert_eq!(codes, [331, 530, 221]);
        assert!(ftp.is_closed().await);
    }
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut ftp = gateway.login().await;
        ftp.send_raw("SIZE f\r\nCWD /\r\n".repeat(40).as_bytes())
            .await;
        for _ in 0..40 {
            assert_eq!(ftp.reply().await.code, 213);
            assert_eq!(ftp.reply().await.code, 250);
        }
        clients.push(ftp);
    }
    // gone in the middle of a pipeline
    for ftp in &mut clients {
        ftp.send_raw("SIZE f\r\nCWD /\r\n".repeat(40).as_bytes())
            .await;
    }
    drop(clients);
    eventually("no session is left", || async {
        gateway.gateway.sessions() == 0
    })
    .await;
}

/// Row 3: NOOP, STAT and ABOR waited for the end of the transfer.
#[tokio::test]
async fn noop_stat_and_abor_are_answered_during_a_transfer() {
    let gateway = TestGateway::with(&["UPLOAD__ON_INTERRUPT=discard"]).await;
    gateway.put_object("f", b"old".to_vec()).await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    data.write_all(b"new but not").await.expect("writes");
    assert_eq!(ftp.command("NOOP").await.code, 200);
    let status = ftp.command("STAT").await;
    assert_eq!(status.code, 213);
    let asked = std::time::Instant::now();
    // urgent or not, with telnet's codes or not
    ftp.send_raw(b"\xff\xf4\xff\xf2ABOR\r\n").await;
    assert_eq!(ftp.reply().await.code, 426);
    assert_eq!(ftp.reply().await.code, 226);
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    assert!(
        data.read_u8().await.is_err(),
        "the data connection is reset"
    );
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(ftp.command("PWD").await.code, 257);
}

/// Row 13: PASV on a dual-stack socket closed the control connection. Here each family has a socket of its own.
#[tokio::test]
async fn both_families_listen_on_the_same_port() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("bound")
        .port();
    let gateway = TestGateway::with(&[&format!("LISTEN=0.0.0.0:{free},[::]:{free}")]).await;
    let mut four = Ftp::connect(([127, 0, 0, 1], free).into()).await;
    four.login("demo", &gateway.password).await;
    assert_eq!(four.command("PASV").await.code, 227);
    let mut six = Ftp::connect((std::net::Ipv6Addr::LOCALHOST, free).into()).await;
    six.login("demo", &gateway.password).await;
    assert_eq!(six.command("EPSV").await.code, 229);
}

#[tokio::test]
async fn nothing_but_a_login_is_possible_before_a_login() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.connect().await;
    for line in [
        "PWD", "CWD /", "PASV", "EPSV", "LIST", "STOR f", "RETR f", "DELE f", "REST 1", "STAT",
        "MLST f", "STOU",
    ] {
        assert_eq!(ftp.command(line).await.code, 530, "{line}");
    }
    assert_eq!(ftp.command("PASS x").await.code, 503);
    assert_eq!(ftp.command("USER").await.code, 501);
    assert_eq!(ftp.command("FEAT").await.code, 211);
}

#[tokio::test]
async fn random_noise_neither_ends_the_gateway_nor_changes_the_store() {
    let gateway = TestGateway::start().await;
    gateway.put_object("kept", b"x".to_vec()).await;
    for round in 0..20 {
        let noise: Vec<u8> = crate::support::pattern(20_000 + round * 1000);
        let mut socket = gateway.login().await.into_socket();
        let _ = socket.write_all(&noise[round * 1000..]).await;
    }
    assert_eq!(gateway.login().await.command("PWD").await.code, 257);
    assert_eq!(gateway.keys().await, ["kept"]);
    eventually("no session is left", || async {
        gateway.gateway.sessions() == 0
    })
    .await;
}
