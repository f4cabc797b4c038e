//! File descriptors at their limit.

use tokio::net::TcpSocket;
use tokio::net::TcpStream;

use super::Attacked;
use crate::support::Ftp;

async fn connect_from(last: u8, address: std::net::SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, last], 0).into())?;
    socket.connect(address).await
}

/// Each descriptor that there is gets taken, by connections of all kinds; nobody is served then, and the log says it a few times.
#[tokio::test]
async fn at_the_limit_of_descriptors_the_log_is_no_flood_and_all_is_well_afterwards() {
    // a limit that is lowered while the program runs: its own reserve is gone, as when another library takes descriptors
    let attacked = Attacked::start(&[("PASSIVE__ACCEPT_TIMEOUT", "2s")]).await;
    let mut ftp = attacked.login().await;
    assert_eq!(ftp.store("STOR f", b"kept").await.code, 226);
    let port = ftp.epsv().await;
    let open = attacked.now().await.descriptors;
    attacked.program.limit_descriptors(open as u64 + 2);

    let mut taken = Vec::new();
    let passive = std::net::SocketAddr::new(attacked.address().ip(), port);
    for number in 0..60 {
        let last = 10 + number % 100;
        for address in [attacked.address(), attacked.admin(), passive] {
            taken.extend(connect_from(last, address).await);
        }
    }
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let lines = attacked.program.output();
    let refused = lines
        .lines()
        .filter(|line| line.contains("could not be accepted"));
    let refused: Vec<&str> = refused.collect();
    assert!(!refused.is_empty(), "the limit was never reached");
    // one each for control, data and admin ports within ten seconds, and one more at the border
    assert!(
        refused.len() <= 6,
        "{} lines: {:#?}",
        refused.len(),
        &refused[..6]
    );

    drop(taken);
    attacked.program.limit_descriptors(4096);
    assert_eq!(ftp.fetch("RETR f").await.0, b"kept");
    drop(ftp);
    attacked.recovers().await;
}

/// Control connections are refused while there is a reserve: transfers and probes of those who are in go on.
#[tokio::test]
async fn a_flood_with_few_descriptors_leaves_transfers_alone() {
    let script = "ulimit -n 300 && exec \"$0\"";
    let attacked = Attacked::start_by(&["/bin/sh", "-c", script], &[]).await;
    let mut ftp = attacked.login().await;
    let mut strangers = Vec::new();
    for number in 0..400 {
        let from = [127, 0, 0, 10 + u8::try_from(number % 100).expect("few")];
        strangers.push(Ftp::connect_silently_from(from, attacked.address()).await);
        if number % 40 == 0 {
            assert_eq!(ftp.store("STOR f", &[7; 300_000]).await.code, 226);
            assert_eq!(ftp.fetch("RETR f").await.0.len(), 300_000);
        }
    }
    assert!(attacked.now().await.descriptors < 300.0);
    drop((strangers, ftp));
    // descriptors come back as sessions end; until then others are refused, as they should be
    attacked.recovers_without_store().await;
    attacked.recovers().await;
}
