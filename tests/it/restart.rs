//! One gateway takes over from another while files are on their way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::configuration::Program;
use crate::support::tls::Wire;
use crate::support::{Ftp, TestStore, eventually, pattern};

const UPLOADS: usize = 50;
const IDLE: usize = 5;

/// New control connections go to one gateway, as by a Service; those that are open stay where they are.
struct Route {
    address: SocketAddr,
    to: Arc<Mutex<SocketAddr>>,
}

impl Route {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let to = Arc::new(Mutex::new(to));
        let shared = Arc::clone(&to);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let to = *shared.lock().expect("no panic");
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Route { address, to }
    }

    fn switch(&self, to: SocketAddr) {
        *self.to.lock().expect("no panic") = to;
    }

    async fn login(&self) -> Ftp {
        let mut ftp = Ftp::connect(self.address).await;
        ftp.login("demo", "secret").await;
        ftp
    }
}

/// An upload that has begun.
struct Upload {
    ftp: Ftp,
    data: Wire,
    name: String,
    bytes: Vec<u8>,
}

impl Upload {
    async fn begin(route: &Route, number: usize) -> Self {
        let mut ftp = route.login().await;
        let name = format!("f{number}");
        // some of several parts, so that multipart uploads are among those that are under way
        let length = if number.is_multiple_of(10) {
            11 << 20
        } else {
            200_000
        };
        let mut bytes = pattern(length);
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let data = ftp.data().await;
        assert_eq!(ftp.command(&format!("STOR {name}")).await.code, 150);
        let mut data = ftp.wrap(data).await.expect("in clear");
        data.write_all(&bytes[..length / 2]).await.expect("writes");
        Upload {
            ftp,
            data,
            name,
            bytes,
        }
    }

    /// The rest of the file; the object's name and what it should hold.
    async fn finish(mut self) -> (String, Vec<u8>) {
        let rest = &self.bytes[self.bytes.len() / 2..];
        self.data.write_all(rest).await.expect("writes");
        self.data.shutdown().await.expect("ends");
        let reply = self.ftp.reply().await;
        assert_eq!(reply.code, 226, "{}: {reply:?}", self.name);
        assert_eq!(self.ftp.reply().await.code, 421);
        (self.name, self.bytes)
    }
}

/// The program with these settings, `KEY=value` without the prefix.
fn start(settings: &[String]) -> Program {
    let env = settings.iter().map(|setting| {
        let (key, value) = setting.split_once('=').expect("KEY=value");
        (format!("COSGATE_{key}"), value)
    });
    let env: Vec<(String, &str)> = env.collect();
    let env = env.iter().map(|(key, value)| (key.as_str(), *value));
    Program::start(&env.collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_under_fifty_uploads_fails_none_of_them() {
    let (store, _proxy, settings) = TestStore::behind_proxy().await;
    let first = start(&settings);
    let route = Route::start(first.address).await;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(route.login().await);
    }
    let begun = (0..UPLOADS).map(|number| Upload::begin(&route, number));
    let begun = futures::future::join_all(begun).await;

    let second = start(&settings);
    route.switch(second.address);
    let ending = tokio::task::spawn_blocking(move || {
        let mut first = first;
        let code = first.stop();
        (code, first.end_of_log())
    });
    for mut ftp in idle {
        assert_eq!(ftp.reply().await.code, 421);
        assert!(ftp.is_closed().await);
    }
    // the other one serves while the first one still has all its uploads
    let mut new = route.login().await;
    assert_eq!(new.store("STOR new", b"by the second").await.code, 226);
    assert!(!ending.is_finished(), "50 uploads are under way");

    let finished = futures::future::join_all(begun.into_iter().map(Upload::finish)).await;
    let (code, last) = ending.await.expect("no panic");
    assert_eq!(code, Some(0));
    for (name, bytes) in finished {
        let object = store.object(&name).await;
        assert!(object.as_deref() == Some(&bytes[..]), "{name} is whole");
    }
    assert_eq!(store.unfinished().await, 0);
    let summary: Value = serde_json::from_str(&last).expect("a line of the log");
    assert_eq!(summary["event"], "stopped", "{last}");
    assert_eq!(summary["sessions"], UPLOADS + IDLE);
    assert_eq!(summary["transfers_complete"], UPLOADS);
    assert_eq!(summary["transfers_incomplete"], 0);
    assert!(
        summary["seconds"]
            .as_f64()
            .is_some_and(|seconds| seconds > 0.0)
    );
    assert_eq!(new.fetch("RETR new").await.0, b"by the second");
    second.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_drain_has_to_interrupt_stands_in_its_summary() {
    let (store, _proxy, settings) = TestStore::behind_proxy().await;
    let mut program = start(&[&settings[..], &["DRAIN__DEADLINE=300ms".to_owned()]].concat());
    let route = Route::start(program.address).await;
    let slow = Upload::begin(&route, 1).await;
    let ended = tokio::task::spawn_blocking(move || (program.stop(), program.end_of_log())).await;
    let (code, last) = ended.expect("no panic");
    assert_eq!(code, Some(0));
    let summary: Value = serde_json::from_str(&last).expect("a line of the log");
    assert_eq!(summary["sessions"], 1, "{last}");
    assert_eq!(summary["transfers_complete"], 0);
    assert_eq!(summary["transfers_incomplete"], 1);
    eventually("what arrived is kept", || async {
        let kept = store.object("f1").await;
        kept.is_some_and(|kept| slow.bytes.starts_with(&kept))
    })
    .await;
}
