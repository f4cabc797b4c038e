//! Control connections: many, slow ones, and those that end without a word.

use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{Attacked, ends, trickle};
use crate::support::{Ftp, eventually};

#[tokio::test]
async fn a_flood_before_the_login_takes_no_place_of_a_user_and_leaves_nothing() {
    let attacked =
        Attacked::start(&[("SESSIONS__MAX", "300"), ("SESSIONS__MAX_PER_IP", "300")]).await;
    let mut strangers = Vec::new();
    for last in 1..=3 {
        for _ in 0..200 {
            let from = [127, 0, 0, last];
            strangers.push(Ftp::connect_silently_from(from, attacked.address()).await);
        }
    }
    let codes = join_all(strangers.iter_mut().map(|ftp| ftp.reply())).await;
    let greeted = codes.iter().filter(|reply| reply.code == 220).count();
    // a fifth of all for each address
    assert_eq!(greeted, 180);
    assert_eq!(attacked.now().await.sessions, 180.0);
    attacked.serves_others().await;
    drop(strangers);
    attacked.recovers().await;
}

#[tokio::test]
async fn clients_that_reset_half_close_or_hang_up_in_the_middle_of_a_line_leave_nothing() {
    let attacked = Attacked::start(&[]).await;
    for round in 0..600 {
        let mut socket = attacked.socket().await;
        // it may have been refused, if the last ones have not been seen off yet
        let _ = socket.write_all(b"USER u\r\nPASS secr").await;
        match round % 3 {
            0 => socket.set_zero_linger().expect("a socket"),
            1 => drop(socket.shutdown().await),
            _ => {}
        }
    }
    eventually("they are gone", || async {
        attacked.now().await.sessions == 0.0
    })
    .await;
    attacked.recovers().await;
}

#[tokio::test]
async fn a_line_that_comes_byte_by_byte_extends_no_time_limit() {
    let settings = [
        ("SESSIONS__LOGIN_TIMEOUT", "1s"),
        ("SESSIONS__IDLE_TIMEOUT", "1s"),
    ];
    let attacked = Attacked::start(&settings).await;
    let mut sockets = Vec::new();
    for number in 0..60 {
        let ftp = match number % 2 {
            0 => Ftp::connect(attacked.address()).await,
            _ => attacked.login().await,
        };
        sockets.push(ftp.into_socket());
    }
    let slow = sockets.iter_mut().map(|socket| {
        trickle(
            socket,
            b"NOOP ".iter().cycle(),
            Duration::from_millis(50),
            Duration::from_secs(20),
        )
    });
    let closed = join_all(slow)
        .await
        .into_iter()
        .filter(|closed| *closed)
        .count();
    assert_eq!(closed, 60);
    attacked.recovers().await;
}

/// Row 2: a line without end took a gibibyte of memory.
#[tokio::test]
async fn lines_without_end_are_cut_off_and_leave_no_memory() {
    let attacked = Attacked::start(&[]).await;
    let chunk = vec![b'x'; 64 * 1024];
    let endless = (0..40).map(|_| async {
        let mut socket = attacked.socket().await;
        let mut sent = 0;
        while sent < 64 << 20 && socket.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
        }
        sent
    });
    let sent = join_all(endless).await;
    // a mebibyte, and what the sockets' buffers take
    assert!(sent.iter().all(|sent| *sent < 32 << 20), "{sent:?}");
    attacked.recovers().await;
}

#[tokio::test]
async fn ten_thousand_pipelined_commands_are_answered_in_order_within_bounded_memory() {
    let attacked = Attacked::start(&[]).await;
    let mut ftp = attacked.login().await;
    assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
    let mut socket = ftp.into_socket();
    let (mut reading, mut writing) = socket.split();
    let lines = "NOOP\r\nPWD\r\nXYZZY\r\nTYPE I\r\n".repeat(2500) + "SIZE f\r\n";
    let writing = async {
        writing
            .write_all(lines.as_bytes())
            .await
            .expect("all are taken")
    };
    let answers = async {
        let mut answers = Vec::new();
        let mut chunk = [0; 4096];
        while !answers.ends_with(b"213 1\r\n") {
            let read = reading.read(&mut chunk).await.expect("reads");
            assert!(read > 0, "it was closed after {} bytes", answers.len());
            answers.extend_from_slice(&chunk[..read]);
        }
        String::from_utf8(answers).expect("UTF-8")
    };
    let ((), answers) = tokio::join!(writing, answers);
    let codes: Vec<&str> = answers.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes.len(), 10_001);
    for four in codes.chunks_exact(4) {
        assert_eq!(four, ["200", "257", "500", "200"]);
    }
    drop(socket);
    attacked.recovers().await;
}

/// Takes as long as a reply may take, which is half a minute.
#[tokio::test]
async fn who_sends_commands_and_reads_no_replies_is_sent_away() {
    let attacked = Attacked::start(&[]).await;
    let deaf = (0..20).map(|_| async {
        let mut socket = attacked.login().await.into_socket();
        let lines = "FEAT\r\n".repeat(1000);
        // it stops taking them, and ends
        let sending = async {
            let mut sent = 0;
            while socket.write_all(lines.as_bytes()).await.is_ok() {
                sent += lines.len();
            }
            sent
        };
        timeout(Duration::from_secs(180), sending).await
    });
    let sent = join_all(deaf).await;
    for sent in sent {
        let sent = sent.expect("it is closed in time");
        assert!(sent < 32 << 20, "{sent} bytes");
    }
    attacked.recovers().await;
}

#[tokio::test]
async fn long_lines_sent_ahead_of_a_transfers_end_take_little_memory() {
    let attacked = Attacked::start(&[("UPLOAD__ON_INTERRUPT", "discard")]).await;
    let line = format!("STOR {}\r\n", "x".repeat(8000));
    let mut held = Vec::new();
    for last in 1..=40 {
        let mut ftp = attacked.login_from(last, "u").await;
        let data = ftp.data().await;
        assert_eq!(ftp.command(&format!("STOR slow{last}")).await.code, 150);
        let mut socket = ftp.into_socket();
        // as many as it takes; the rest waits in the client's own socket
        let mut sent = 0;
        while let Ok(Ok(())) = timeout(
            Duration::from_millis(200),
            socket.write_all(line.as_bytes()),
        )
        .await
        {
            sent += line.len();
            assert!(sent < 64 << 20, "the gateway swallows everything");
        }
        held.push((socket, data));
    }
    let grown = attacked.grown_kib().await;
    println!("{grown} KiB for {} sessions", held.len());
    assert!(
        grown < 24.0 * 1024.0,
        "{grown} KiB for {} sessions",
        held.len()
    );
    attacked.serves_others().await;
    drop(held);
    attacked.recovers().await;
}

/// RFC 959 wants ABOR to be sent as TCP's urgent data, behind telnet's IP and Synch.
#[tokio::test]
async fn urgent_data_aborts_a_transfer_and_a_flood_of_it_does_no_harm() {
    use std::os::fd::AsFd;
    let attacked = Attacked::start(&[("UPLOAD__ON_INTERRUPT", "discard")]).await;
    let urgent = |socket: &TcpStream, bytes: &[u8]| {
        rustix::net::send(socket.as_fd(), bytes, rustix::net::SendFlags::OOB)
    };
    let mut ftp = attacked.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    data.write_all(b"half").await.expect("writes");
    let socket = ftp.into_socket();
    // the last byte of each is the urgent one
    for bytes in [&b"\xff\xf4\xff"[..], b"\xf2ABOR\r\n"] {
        assert_eq!(urgent(&socket, bytes).expect("sends"), bytes.len());
    }
    let mut ftp = Ftp::of(socket);
    assert_eq!(ftp.reply().await.code, 426);
    assert_eq!(ftp.reply().await.code, 226);
    assert_eq!(ftp.command("SIZE f").await.code, 550);
    // an urgent byte between any two others
    let socket = ftp.into_socket();
    for _ in 0..2000 {
        if urgent(&socket, b"N").is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    }
    let mut ftp = Ftp::of(socket);
    ftp.send_raw(b"\r\n").await;
    assert_eq!(ftp.reply().await.code, 500);
    assert_eq!(ftp.command("PWD").await.code, 257);
    drop((ftp, data));
    attacked.recovers().await;
}

#[tokio::test]
async fn connections_that_say_nothing_are_closed_at_the_login_timeout() {
    let attacked = Attacked::start(&[("SESSIONS__LOGIN_TIMEOUT", "500ms")]).await;
    let silent = (0..80).map(|_| async {
        let mut socket = attacked.socket().await;
        ends(&mut socket, Duration::from_secs(20)).await
    });
    let closed = join_all(silent).await;
    assert!(closed.iter().all(|closed| *closed));
    attacked.recovers().await;
}
