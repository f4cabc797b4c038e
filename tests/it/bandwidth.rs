//! Limits of bandwidth on real sockets: exact within 5 % over 10 s, equal among sessions, and no fault of the client's.

use std::time::{Duration, Instant};

use cosgate::config::load_from;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::http::metric;
use crate::support::tls::Authority;
use crate::support::{Ftp, Mount, TestGateway, login, pattern, users};

const MIB: usize = 1 << 20;
const TEN_SECONDS: Duration = Duration::from_secs(10);

#[track_caller]
fn assert_near(rate: f64, wanted: f64) {
    let off = rate / wanted - 1.0;
    assert!(
        off.abs() < 0.05,
        "{rate:.0} B/s in the place of {wanted:.0}: {:.1} %",
        off * 100.0
    );
}

/// The bytes that a running upload has brought so far.
async fn so_far(ftp: &mut Ftp) -> f64 {
    let reply = ftp.command("STAT").await;
    assert_eq!(reply.code, 213, "{reply:?}");
    // behind the code
    let mut words = reply.text.split_whitespace().skip(1);
    let bytes = words.find_map(|word| word.parse().ok());
    bytes.unwrap_or_else(|| panic!("no bytes in {reply:?}"))
}

/// Sends until the gateway closes.
fn flood(mut data: TcpStream) -> JoinHandle<()> {
    tokio::spawn(async move { while data.write_all(&[7; 16 * 1024]).await.is_ok() {} })
}

#[tokio::test]
async fn uploads_share_the_gateways_rate_in_equal_parts() {
    let list = format!("USERS={}", users(&["name: a", "name: b"]));
    let gateway =
        TestGateway::with(&[&list, "LIMITS__UPLOAD=3MiB", "ADMIN__LISTEN=127.0.0.1:0"]).await;
    let (mut clients, mut floods) = (Vec::new(), Vec::new());
    for (number, user) in ["a", "a", "b"].into_iter().enumerate() {
        let mut ftp = login(&gateway, user).await;
        let data = ftp.data().await;
        assert_eq!(ftp.command(&format!("STOR f{number}")).await.code, 150);
        floods.push(flood(data));
        clients.push(ftp);
    }
    // until all are under way
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut before = Vec::new();
    let began = Instant::now();
    for ftp in &mut clients {
        before.push(so_far(ftp).await);
    }
    tokio::time::sleep(TEN_SECONDS).await;
    let took = began.elapsed().as_secs_f64();
    let mut rates = Vec::new();
    for (ftp, before) in clients.iter_mut().zip(before) {
        rates.push((so_far(ftp).await - before) / took);
    }
    for rate in &rates {
        assert_near(*rate, MIB as f64);
    }
    assert_near(rates.iter().sum(), 3.0 * MIB as f64);
    let admin = gateway.gateway.admin_address().expect("it is on");
    let waited = async |direction: &str| {
        let name = format!("cosgate_bandwidth_waited_seconds_total{{direction=\"{direction}\"}}");
        metric(admin, &name).await
    };
    // three transfers that wait most of the time
    let received = waited("received").await;
    assert!(received > 20.0, "{received}");
    assert_eq!(waited("sent").await, 0.0);
    // or the drain would wait for uploads that never end
    for flood in floods {
        flood.abort();
    }
    drop(clients);
    gateway.stop().await;
}

#[tokio::test]
async fn downloads_have_the_users_rate_and_each_session_its_own_also_under_tls() {
    let authority = Authority::new();
    let entry = "name: u, limits: {download: 3MiB, session: {download: 1MiB}}";
    let list = format!("USERS={}", users(&[entry]));
    let gateway =
        TestGateway::with_tls(&authority, &[&list, "LIMITS__SESSION__DOWNLOAD=100MiB"]).await;
    gateway.put_object("f", pattern(20 * MIB)).await;
    let client = authority.client();
    let mut readers = Vec::new();
    for number in 0..2 {
        let mut ftp = gateway.connect().await;
        if number == 0 {
            ftp = ftp.secure(&client).await.expect("a handshake");
        }
        ftp.login("u", "secret").await;
        if number == 0 {
            ftp.protect(&client).await;
        }
        let data = ftp.data().await;
        assert_eq!(ftp.command("RETR f").await.code, 150);
        let mut data = ftp.wrap(data).await.expect("a handshake");
        readers.push(tokio::spawn(async move {
            let (mut bytes, mut chunk) = (0, vec![0; 64 * 1024]);
            let began = Instant::now();
            while began.elapsed() < TEN_SECONDS {
                let read = data.read(&mut chunk).await.expect("it goes on");
                assert!(read > 0, "the file is longer");
                bytes += read;
            }
            drop(ftp);
            bytes as f64 / began.elapsed().as_secs_f64()
        }));
    }
    for reader in readers {
        assert_near(reader.await.expect("no panic"), MIB as f64);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_pause_is_no_stall_and_an_abort_ends_it() {
    let list = format!("USERS={}", users(&["name: u"]));
    let gateway = TestGateway::with(&[
        &list,
        "LIMITS__SESSION__UPLOAD=1KiB",
        "LIMITS__DOWNLOAD=1KiB",
        // shorter than a pause
        "UPLOAD__STALL_TIMEOUT=300ms",
        "DOWNLOAD__STALL_TIMEOUT=300ms",
    ])
    .await;
    let mut ftp = login(&gateway, "u").await;
    let bytes = pattern(3 * 1024);
    let began = Instant::now();
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    assert!(
        began.elapsed() > Duration::from_millis(2300),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(gateway.object("f").await, Some(bytes));
    gateway.put_object("large", pattern(MIB)).await;
    // sixteen sessions wait eight seconds each for their next half of a KiB
    let mut readers = Vec::new();
    for _ in 0..16 {
        let mut ftp = login(&gateway, "u").await;
        let data = ftp.data().await;
        assert_eq!(ftp.command("RETR large").await.code, 150);
        readers.push((ftp, data));
    }
    let (ftp, _data) = &mut readers[15];
    let began = Instant::now();
    assert_eq!(ftp.command("ABOR").await.code, 426);
    assert_eq!(ftp.reply().await.code, 226);
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    // or the drain would wait for downloads of half an hour; those that wait for their share notice when it comes
    drop(readers);
    gateway.stop().await;
}

#[tokio::test]
async fn a_changed_users_file_holds_for_a_transfer_that_runs() {
    let list = |limits: &str| users(&[&format!("name: u, limits: {limits}")]);
    let mount = Mount::new("users.yaml", &list("{session: {download: 100KiB}}"));
    let file = format!("USERS_FILE={}", mount.file().display());
    let gateway = TestGateway::with(&[&file, "RELOAD__INTERVAL=20ms"]).await;
    gateway.put_object("f", pattern(8 * MIB)).await;
    let mut ftp = login(&gateway, "u").await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("RETR f").await.code, 150);
    let mut bytes = vec![0; 300 * 1024];
    let began = Instant::now();
    data.read_exact(&mut bytes).await.expect("it comes");
    let took = began.elapsed();
    assert!(took > Duration::from_secs(2), "{took:?}");
    mount.swap("v1", &list("{download: 1MiB}"));
    // at the old rate it would take twenty seconds
    bytes.resize(2 * MIB, 0);
    data.read_exact(&mut bytes).await.expect("it comes");
    let took = began.elapsed() - took;
    assert!(took > Duration::from_millis(1500), "{took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    mount.swap("v2", &list("{}"));
    data.read_to_end(&mut bytes).await.expect("it comes");
    assert_eq!(ftp.reply().await.code, 226);
    assert!(began.elapsed() < Duration::from_secs(15));
    gateway.stop().await;
}

#[test]
fn rates_are_sizes_and_faults_name_the_key() {
    let load =
        |key: &str, value: &str| load_from(None, [(format!("COSGATE_{key}"), value.to_owned())]);
    let of_user = |limits: &str| users(&[&format!("name: u, limits: {limits}")]);
    for (key, value, words) in [
        (
            "LIMITS__UPLOAD",
            "100",
            &[
                "limits.upload = 100 (from COSGATE_LIMITS__UPLOAD)",
                "at least 1KiB",
            ][..],
        ),
        (
            "LIMITS__SESSION__DOWNLOAD",
            "fast",
            &["limits.session.download = fast", "8MiB"],
        ),
        (
            "USERS",
            &of_user("{upload: 1023}"),
            &["users[0].limits.upload = 1023", "at least 1KiB"],
        ),
        (
            "USERS",
            &of_user("{session: {downlaod: 1MiB}}"),
            &["users[0].limits.session.downlaod", "did you mean"],
        ),
        ("USERS", &of_user("5MiB"), &["users[0].limits", "section"]),
    ] {
        let error = load(key, value).expect_err(value).to_string();
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    }
    let list = of_user("{upload: 1MiB, session: {download: 5MB}}");
    let shown = load("USERS", &list).expect("valid").describe();
    for line in [
        "users[0].limits.upload = 1 MiB",
        "users[0].limits.session.download = 4.8 MiB",
        "limits.download = (not set)",
    ] {
        assert!(shown.contains(line), "no {line:?} in {shown}");
    }
}
