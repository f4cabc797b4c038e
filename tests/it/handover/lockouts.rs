//! Failed logins that gateways share; a replica's messages are written byte by byte, as the guide describes them.

use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::headers::{Header, send};
use super::{Cluster, KEY, is_reset};
use crate::support::{Ftp, eventually, http, users};

const CURRENT: &str = "cosgate_lockout_replicas{state=\"current\"}";
const GONE: &str = "cosgate_lockout_replicas{state=\"gone\"}";
const SILENT: &str = "cosgate_lockout_replicas{state=\"silent\"}";
const RECEIVED: &str = "cosgate_lockout_events_total{outcome=\"received\"}";
const LOCKED_HERE: &str = "cosgate_lockouts_total{scope=\"user\"}";
const LOCKED_BY_OTHERS: &str = "cosgate_lockouts_shared_total{scope=\"user\"}";

/// As many users as a scenario needs, and quick answers.
async fn start(count: u16, settings: &[&str]) -> Cluster {
    let names: Vec<String> = (0..20).map(|user| format!("name: user{user}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let own = [
        format!("USERS={}", users(&names)),
        "AUTH__LOCKOUT__DELAY=1ms".to_owned(),
        "AUTH__LOCKOUT__MAX_DELAY=1ms".to_owned(),
    ];
    let settings: Vec<&str> = own
        .iter()
        .map(String::as_str)
        .chain(settings.iter().copied())
        .collect();
    Cluster::start(count, &settings).await
}

/// What others report about a user at an address counts from 3 s after the last moment on in which an event may have been lost.
async fn they_count() {
    tokio::time::sleep(Duration::from_millis(3200)).await;
}

impl Cluster {
    async fn try_login(&self, ordinal: usize, user: &str, password: &str) -> u16 {
        let mut ftp = Ftp::connect(self.gateway(ordinal).addresses()[0]).await;
        ftp.try_login(user, password).await.code
    }

    async fn is(&self, ordinal: usize, name: &str, value: f64) {
        eventually(&format!("{name} is {value} at {ordinal}"), || async {
            self.metric(ordinal, name).await == value
        })
        .await;
    }

    /// Waits until so many gateways receive each other's messages, and count what those report.
    async fn are_connected(&self, count: usize) {
        for ordinal in 0..count {
            self.is(ordinal, CURRENT, (count - 1) as f64).await;
        }
        they_count().await;
    }

    /// A login at one of the first `among` gateways; what it ends with has arrived at the others afterwards.
    async fn reported_login(&self, among: usize, at: usize, user: &str, password: &str) -> u16 {
        let before = self.received(among).await;
        let code = self.try_login(at, user, password).await;
        if code != 421 {
            for other in (0..among).filter(|other| *other != at) {
                self.is(other, RECEIVED, before[other] + 1.0).await;
            }
        }
        code
    }

    /// Guesses at the first `among` gateways in turn until one is not checked; `user` names the user of a guess. Returns how many were
    /// checked.
    async fn guess(&self, among: usize, user: impl Fn(usize) -> String) -> usize {
        let mut took = Vec::new();
        for guess in 0.. {
            let began = Instant::now();
            let user = user(guess);
            let login = self.reported_login(among, guess % among, &user, "wrong");
            match login.await {
                530 => took.push(began.elapsed()),
                421 => {
                    took.sort_unstable();
                    let median: Duration = took[took.len() / 2];
                    assert!(median < Duration::from_secs(1), "{took:?}");
                    return guess;
                }
                code => panic!("{code}"),
            }
        }
        unreachable!()
    }

    async fn received(&self, among: usize) -> Vec<f64> {
        let mut received = Vec::new();
        for ordinal in 0..among {
            received.push(self.metric(ordinal, RECEIVED).await);
        }
        received
    }
}

#[tokio::test]
async fn guesses_at_three_gateways_meet_the_limits_of_one_and_lock_out_at_all_within_a_second() {
    let settings = ["AUTH__LOCKOUT__PER_USER=4", "AUTH__LOCKOUT__PER_ADDRESS=15"];
    let cluster = start(3, &settings).await;
    cluster.are_connected(3).await;
    let at_three = cluster.guess(3, |_| "user0".to_owned()).await;
    let at_one = cluster.guess(1, |_| "user1".to_owned()).await;
    assert_eq!((at_three, at_one), (4, 4));
    for ordinal in 0..3 {
        // both users' last failures were at the first gateway
        let lockouts = if ordinal == 0 {
            LOCKED_HERE
        } else {
            LOCKED_BY_OTHERS
        };
        cluster.is(ordinal, lockouts, 2.0).await;
    }
    for ordinal in 0..3 {
        assert_eq!(cluster.metric(0, LOCKED_BY_OTHERS).await, 0.0);
        assert_eq!(cluster.try_login(ordinal, "user0", "secret").await, 421);
        assert_eq!(cluster.try_login(ordinal, "user1", "secret").await, 421);
        let other = cluster.reported_login(3, ordinal, "user2", "secret");
        assert_eq!(other.await, 230);
    }
    // the address has 7 left, for other names
    let user = |guess| format!("user{}", 3 + guess);
    assert_eq!(cluster.guess(3, user).await, 7);
    for ordinal in 0..3 {
        assert_eq!(cluster.try_login(ordinal, "user19", "secret").await, 421);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_success_at_one_clears_the_failures_at_all_and_without_sharing_each_counts_for_itself() {
    let cluster = start(3, &["AUTH__LOCKOUT__PER_USER=3"]).await;
    cluster.are_connected(3).await;
    for round in 0..3 {
        for (at, password, code) in [(0, "wrong", 530), (1, "wrong", 530), (2, "secret", 230)] {
            let login = cluster.reported_login(3, at, "user0", password);
            assert_eq!(login.await, code, "{round}");
        }
    }
    cluster.stop().await;

    let alone = start(
        2,
        &["AUTH__LOCKOUT__PER_USER=3", "AUTH__LOCKOUT__SHARED=false"],
    )
    .await;
    for ordinal in [0, 1] {
        for code in [530, 530, 530, 421] {
            assert_eq!(alone.try_login(ordinal, "user0", "wrong").await, code);
        }
        let admin = alone.gateway(ordinal).admin_address().expect("it is on");
        let metrics = http::get(admin, "/metrics", &[]).await.body;
        assert!(!metrics.contains("cosgate_lockout_replicas{"), "{metrics}");
    }
    alone.stop().await;
}

#[tokio::test]
async fn a_gateway_that_has_gone_costs_the_others_nothing_and_one_that_is_silent_shares_no_users() {
    let mut cluster = start(3, &["AUTH__LOCKOUT__PER_USER=3"]).await;
    cluster.are_connected(3).await;
    let gone = cluster.take(2);
    gone.stop().await;
    for ordinal in [0, 1] {
        cluster.is(ordinal, GONE, 1.0).await;
        cluster.is(ordinal, CURRENT, 1.0).await;
    }
    they_count().await;
    assert_eq!(cluster.guess(2, |_| "user2".to_owned()).await, 3);

    // something takes the connections, and sends none
    let silent = TcpListener::bind(cluster.handover(2)).await.expect("free");
    for _ in 0..2 {
        let (mut socket, _) = silent.accept().await.expect("both try again");
        tokio::spawn(async move {
            let mut nothing = tokio::io::sink();
            let _ = tokio::io::copy(&mut socket, &mut nothing).await;
        });
    }
    for ordinal in [0, 1] {
        cluster.is(ordinal, SILENT, 1.0).await;
        let admin = cluster.gateway(ordinal).admin_address().expect("it is on");
        let page = http::get(admin, "/", &[]).await.body;
        assert!(page.contains("silent: 2;"), "{page}");
    }
    // what others' failures had locked out is let in again where it was not by own ones
    let codes = [
        cluster.try_login(0, "user2", "secret").await,
        cluster.try_login(1, "user2", "secret").await,
    ];
    assert_eq!(codes, [230, 230]);
    for ordinal in [0, 1] {
        for code in [530, 530, 530, 421] {
            let got = cluster.try_login(ordinal, "user1", "wrong").await;
            assert_eq!(got, code, "{ordinal}");
        }
    }
    cluster.stop().await;
}

/// A stream to gateway 0, as gateway 1 would open it.
struct Stream {
    socket: TcpStream,
    header: Vec<u8>,
    key: LessSafeKey,
    next: u64,
    began: Instant,
}

fn derived(parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).expect("any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes"))
}

impl Stream {
    async fn open(to: std::net::SocketAddr) -> Self {
        let header = Header::of_stream(1, 0).bytes();
        let mut socket = send(to, &header).await;
        let mut challenge = [0; 16];
        let read = socket.read_exact(&mut challenge).await;
        read.expect("a challenge");
        Stream {
            socket,
            key: cipher(&derived(&[b"cosgate lockout stream", &header, &challenge])),
            header,
            next: 0,
            began: Instant::now(),
        }
    }

    async fn write(&mut self, message: &[u8]) {
        self.socket.write_all(message).await.expect("writes");
    }

    /// The next message, with failures of a user at 127.0.0.1.
    fn message(&mut self, failures: usize, user: &str) -> Vec<u8> {
        let names = derived(&[b"cosgate lockout names"]);
        let mut mac = Hmac::<Sha256>::new_from_slice(&names).expect("any length");
        mac.update(user.as_bytes());
        let name = &mac.finalize().into_bytes()[..8];
        let elapsed = self.began.elapsed().as_millis() as u64;
        let mut sealed = [&[0][..], &elapsed.to_be_bytes()].concat();
        for _ in 0..failures {
            sealed.extend([0, 0, 0, 0, 0]);
            sealed.extend(
                "::ffff:127.0.0.1"
                    .parse::<std::net::Ipv6Addr>()
                    .expect("it is one")
                    .octets(),
            );
            sealed.extend(name);
        }
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealing = self
            .key
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed);
        sealing.expect("seals");
        [&(sealed.len() as u16).to_be_bytes()[..], &sealed].concat()
    }
}

#[tokio::test]
async fn forged_and_replayed_messages_change_nothing() {
    let mut cluster = start(2, &["AUTH__LOCKOUT__PER_USER=3"]).await;
    cluster.are_connected(2).await;
    cluster.take(1).stop().await;
    cluster.is(0, GONE, 1.0).await;
    let to = cluster.handover(0);
    let refused = async |reason: &str| {
        let name = format!("cosgate_handover_refused_total{{reason=\"{reason}\"}}");
        cluster.metric(0, &name).await
    };

    // strangers, and replicas that there are none of
    let stranger = Header {
        key: "another key, which has 32 bytes.",
        ..Header::of_stream(1, 0)
    };
    for (header, reason) in [
        (stranger, "key"),
        (Header::of_stream(0, 0), "port"),
        (Header::of_stream(2, 0), "port"),
        // a good one for another replica
        (Header::of_stream(1, 1), "port"),
    ] {
        let before = refused(reason).await;
        assert!(is_reset(&mut send(to, &header.bytes()).await).await);
        assert_eq!(refused(reason).await, before + 1.0);
    }

    // a good message is counted; again it is not, on its stream or with it
    let mut stream = Stream::open(to).await;
    let good = stream.message(2, "user0");
    stream.write(&good).await;
    cluster.is(0, CURRENT, 1.0).await;
    assert_eq!(cluster.metric(0, RECEIVED).await, 2.0);
    stream.write(&good).await;
    assert!(is_reset(&mut stream.socket).await);
    assert_eq!(refused("message").await, 1.0);
    let mut replayed = send(to, &[&stream.header[..], &good].concat()).await;
    assert!(is_reset(&mut replayed).await);
    assert_eq!(refused("replayed").await, 1.0);
    // one that is changed, or was written for another challenge
    for forged in 0..2 {
        let mut stream = Stream::open(to).await;
        let mut message = stream.message(3, "user0");
        match forged {
            0 => message[20] ^= 1,
            _ => message = Stream::open(to).await.message(3, "user0"),
        }
        stream.write(&message).await;
        assert!(is_reset(&mut stream.socket).await);
    }
    assert_eq!(refused("message").await, 3.0);
    // the header of a stream that was recorded, which nobody has used here: its messages don't open
    let header = Header::of_stream(1, 0).bytes();
    let challenge = [1; 16];
    let mut recorded = Stream {
        key: cipher(&derived(&[b"cosgate lockout stream", &header, &challenge])),
        socket: send(to, &header).await,
        header,
        next: 0,
        began: Instant::now(),
    };
    let message = recorded.message(3, "user0");
    recorded.write(&message).await;
    let mut answer = [0; 16];
    let read = recorded.socket.read_exact(&mut answer).await;
    assert!(read.is_err() || is_reset(&mut recorded.socket).await);
    assert_ne!(answer, challenge);
    assert_eq!(refused("message").await, 4.0);
    assert_eq!(cluster.metric(0, RECEIVED).await, 2.0);
    assert_eq!(cluster.try_login(0, "user0", "secret").await, 230);

    // a stream that goes on is what the guide describes
    let mut stream = Stream::open(to).await;
    for _ in 0..5 {
        let message = stream.message(0, "");
        stream.write(&message).await;
        cluster.is(0, CURRENT, 1.0).await;
        tokio::time::sleep(Duration::from_millis(800)).await;
    }
    // a header alone, and what doesn't open behind one, take nobody's place
    let _header_alone = Stream::open(to).await;
    let mut forged = Stream::open(to).await;
    forged.write(&good).await;
    assert!(is_reset(&mut forged.socket).await);
    assert_eq!(cluster.metric(0, CURRENT).await, 1.0);
    let message = stream.message(3, "user1");
    stream.write(&message).await;
    cluster.is(0, LOCKED_BY_OTHERS, 1.0).await;
    assert_eq!(cluster.try_login(0, "user1", "secret").await, 421);
    // a newer stream takes its place with its first message, and what has come on a stream that was cut locks nobody out
    let mut newer = Stream::open(to).await;
    let message = newer.message(0, "");
    newer.write(&message).await;
    eventually("it is let in again", || async {
        cluster.try_login(0, "user1", "secret").await == 230
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn messages_that_somebody_holds_up_count_no_more() {
    let mut cluster = start(2, &["AUTH__LOCKOUT__PER_USER=3"]).await;
    cluster.are_connected(2).await;
    cluster.take(1).stop().await;
    cluster.is(0, GONE, 1.0).await;
    let before = cluster.metric(0, RECEIVED).await;
    let mut stream = Stream::open(cluster.handover(0)).await;
    // all written at once, and shown later and later
    let messages: Vec<_> = (0..3).map(|_| stream.message(1, "user0")).collect();
    for (message, wait) in messages.iter().zip([0, 2000, 1500]) {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        stream.write(message).await;
    }
    cluster.is(0, SILENT, 1.0).await;
    assert_eq!(cluster.metric(0, RECEIVED).await, before + 2.0);
    assert_eq!(cluster.try_login(0, "user0", "secret").await, 230);
    cluster.stop().await;
}
