//! TLS: handshakes that never end, garbage, renegotiation, and commands in front of it.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Attacked, ends, trickle};
use crate::support::tls::{Authority, Wire};
use crate::support::{Ftp, pattern};

/// The beginning of a record with a ClientHello of 512 bytes.
const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

async fn start(authority: &Authority, more: &[(&str, &str)]) -> Attacked {
    let (chain, key) = (authority.file("tls.crt"), authority.file("tls.key"));
    let own = [
        ("TLS__CERT", chain.to_str().expect("UTF-8")),
        ("TLS__KEY", key.to_str().expect("UTF-8")),
    ];
    Attacked::start(&[&own[..], more].concat()).await
}

/// A client that is `u`, whose data are protected.
async fn protected(attacked: &Attacked, authority: &Authority) -> Ftp {
    let client = authority.client();
    let ftp = Ftp::connect(attacked.address()).await;
    let mut ftp = ftp.secure(&client).await.expect("a handshake");
    ftp.login("u", "secret").await;
    ftp.protect(&client).await;
    ftp
}

/// Sends a ClientHello byte by byte until the gateway closes.
async fn trickle_hello(socket: &mut TcpStream) {
    let hello = HELLO.iter().chain([0].iter().cycle());
    let (pause, within) = (Duration::from_millis(100), Duration::from_secs(20));
    assert!(
        trickle(socket, hello, pause, within).await,
        "it goes on and on"
    );
}

#[tokio::test]
async fn handshakes_that_come_byte_by_byte_end_at_their_time_limit() {
    let authority = Authority::new();
    let attacked = start(&authority, &[("TLS__HANDSHAKE_TIMEOUT", "1s")]).await;
    let control = (0..40).map(|_| async {
        let mut ftp = Ftp::connect(attacked.address()).await;
        assert_eq!(ftp.command("AUTH TLS").await.code, 234);
        trickle_hello(&mut ftp.into_socket()).await;
    });
    join_all(control).await;
    let mut ftp = protected(&attacked, &authority).await;
    for line in ["STOR f", "RETR warm", "MLSD"] {
        let mut data = ftp.data().await;
        assert_eq!(ftp.command(line).await.code, 150, "{line}");
        trickle_hello(&mut data).await;
        assert_eq!(ftp.reply().await.code, 425, "{line}");
    }
    drop(ftp);
    attacked.recovers().await;
}

#[tokio::test]
async fn garbage_in_the_place_of_a_handshake_and_behind_it_ends_the_connection() {
    let authority = Authority::new();
    let attacked = start(&authority, &[("TLS__IMPLICIT_LISTEN", "127.0.0.1:0")]).await;
    let noise = pattern(60_000);
    for round in 0..60 {
        let noise = &noise[round * 1000..];
        let mut ftp = Ftp::connect(attacked.address()).await;
        assert_eq!(ftp.command("AUTH TLS").await.code, 234);
        let mut socket = ftp.into_socket();
        let garbage = match round % 4 {
            0 => noise,
            1 => b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            // a record of the largest length, and one of a length that none has
            2 => &[HELLO, &noise[..500]].concat(),
            _ => b"\x16\x03\x03\xff\xff\x01",
        };
        let _ = socket.write_all(garbage).await;
        let _ = socket.shutdown().await;
        assert!(ends(socket, Duration::from_secs(30)).await, "round {round}");
        // behind a handshake, past TLS
        let ftp = Ftp::connect(attacked.address()).await;
        let ftp = ftp.secure(&authority.client()).await.expect("a handshake");
        let mut socket = ftp.into_wire().into_tcp();
        let record = [&b"\x17\x03\x03\x01\x00"[..], &noise[..256]].concat();
        let _ = socket.write_all(&record).await;
        assert!(ends(socket, Duration::from_secs(30)).await, "round {round}");
    }
    attacked.recovers().await;
}

/// Each KeyUpdate of TLS 1.3 makes the gateway derive keys, without a byte for the codec.
#[tokio::test]
async fn a_flood_of_key_updates_takes_no_memory_and_disturbs_nobody() {
    let authority = Authority::new();
    let attacked = start(&authority, &[("SESSIONS__IDLE_TIMEOUT", "5s")]).await;
    let mut ftp = protected(&attacked, &authority).await;
    assert_eq!(ftp.command("NOOP").await.code, 200);
    let Wire::Tls(mut stream) = ftp.into_wire() else {
        panic!("the connection is protected")
    };
    let begun = Instant::now();
    let mut updates = 0;
    while stream.get_mut().1.refresh_traffic_keys().is_ok() && stream.flush().await.is_ok() {
        updates += 1;
        if updates % 2000 == 0 {
            attacked.serves_others().await;
        }
        // they are no commands: the session is idle
        assert!(
            begun.elapsed() < Duration::from_secs(40),
            "it goes on and on"
        );
    }
    println!("{updates} key updates in {:?}", begun.elapsed());
    drop(stream);
    attacked.recovers().await;
}

/// TLS 1.2 lets a client ask for a new handshake in an old one, which costs the server far more than the client.
#[tokio::test]
async fn renegotiation_is_refused() {
    let authority = Authority::new();
    // the refusal goes out with the next reply, which is the one at the end of this time
    let attacked = start(&authority, &[("SESSIONS__LOGIN_TIMEOUT", "5s")]).await;
    let address = attacked.address().to_string();
    let output = tokio::task::spawn_blocking(move || {
        let mut client = Command::new("openssl")
            .args([
                "s_client",
                "-tls1_2",
                "-starttls",
                "ftp",
                "-connect",
                &address,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is installed");
        let mut input = client.stdin.take().expect("piped");
        let mut output = client.stdout.take().expect("piped");
        input.write_all(b"NOOP\n").expect("it runs");
        // the reply shows that the handshake is over
        let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&seen).contains("200 OK") {
            let read = output.read(&mut chunk).expect("it runs");
            assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&chunk[..read]);
        }
        // alone in its line it asks for a new handshake
        input.write_all(b"R\n").expect("it runs");
        let mut errors = String::new();
        let mut stderr = client.stderr.take().expect("piped");
        stderr.read_to_string(&mut errors).expect("UTF-8");
        let _ = client.wait();
        errors
    });
    let output = timeout(Duration::from_secs(60), output).await;
    let output = output.expect("it ends").expect("no panic");
    assert!(output.contains("RENEGOTIATING"), "{output}");
    assert!(output.contains("no renegotiation"), "{output}");
    attacked.recovers().await;
}

/// CVE-2011-0411 and its relatives: what was sent in clear is never read as if it had come under TLS, whole or in part.
#[tokio::test]
async fn nothing_that_came_in_clear_counts_under_tls() {
    let authority = Authority::new();
    let attacked = start(&authority, &[]).await;
    for injected in [
        &b"USER u\r\nPASS secret\r\nDELE warm\r\n"[..],
        // to be completed by the client's own first line
        b"USER mallory",
        b"\r\n",
        b"\xff",
        &[b'x'; 9000],
    ] {
        let mut ftp = Ftp::connect(attacked.address()).await;
        ftp.send_raw(&[b"AUTH TLS\r\n", injected].concat()).await;
        let reply = ftp.reply().await;
        assert_eq!(reply.code, 421, "{injected:?}: {reply:?}");
        assert!(ftp.is_closed().await);
        // behind the reply it is the beginning of a handshake, which fails
        let mut ftp = Ftp::connect(attacked.address()).await;
        assert_eq!(ftp.command("AUTH TLS").await.code, 234);
        ftp.send_raw(injected).await;
        assert!(
            ftp.secure_now(&authority.client()).await.is_err(),
            "{injected:?}"
        );
    }
    let mut ftp = attacked.login().await;
    assert_eq!(ftp.command("SIZE warm").await.code, 213);
    drop(ftp);
    // a file in clear where it has to be protected is none
    let mut ftp = protected(&attacked, &authority).await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR injected").await.code, 150);
    data.write_all(b"in clear").await.expect("writes");
    drop(data);
    assert_eq!(ftp.reply().await.code, 425);
    assert_eq!(ftp.command("SIZE injected").await.code, 550);
    drop(ftp);
    attacked.recovers().await;
}
