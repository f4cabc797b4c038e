//! One gateway takes over from another while files are on their way.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::configuration::Program;
use crate::support::tls::Wire;
use crate::support::{Ftp, TestStore, eventually, pattern};

const UPLOADS: usize = 50;
const IDLE: usize = 5;
const PERSISTENT: usize = 12;
const FILES_PER_SESSION: usize = 20;

/// New control connections go to one gateway after the other, as by a Service; those that are open stay where they are.
struct Route {
    address: SocketAddr,
    to: Arc<Mutex<VecDeque<SocketAddr>>>,
}

impl Route {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let to = Arc::new(Mutex::new(VecDeque::from([to])));
        let shared = Arc::clone(&to);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let to = {
                    let mut to = shared.lock().expect("no panic");
                    to.rotate_left(1);
                    to[0]
                };
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
        self.balance(VecDeque::from([to]));
    }

    fn balance(&self, to: VecDeque<SocketAddr>) {
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
        assert_eq!(self.ftp.command("QUIT").await.code, 221);
        (self.name, self.bytes)
    }
}

/// One client's sessions: file after file with little pause, then QUIT, and again until `is_over`. Every reply has to be the
/// good one. The number of its files.
async fn persist(route: Arc<Route>, client: usize, is_over: Arc<AtomicBool>) -> usize {
    let mut files = 0;
    while !is_over.load(Ordering::SeqCst) {
        let mut ftp = route.login().await;
        for _ in 0..FILES_PER_SESSION {
            let name = format!("c{client}-{files}");
            let reply = ftp.store(&format!("STOR {name}"), &pattern(100_000)).await;
            assert_eq!(reply.code, 226, "{name}: {reply:?}");
            files += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let reply = ftp.command("QUIT").await;
        assert_eq!(reply.code, 221, "{reply:?}");
        assert!(ftp.is_closed().await);
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_three_fails_no_file_of_twelve_persistent_clients() {
    let (store, _proxy, settings) = TestStore::behind_proxy().await;
    let mut running: VecDeque<Program> = (0..3).map(|_| Program::with(&settings, &[])).collect();
    let addresses = |running: &VecDeque<Program>| running.iter().map(|one| one.address).collect();
    let route = Arc::new(Route::start(running[0].address).await);
    route.balance(addresses(&running));
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..PERSISTENT)
        .map(|client| tokio::spawn(persist(Arc::clone(&route), client, Arc::clone(&is_over))))
        .collect();

    for _ in 0..3 {
        let mut old = running.pop_front().expect("three");
        running.push_back(Program::with(&settings, &[]));
        route.balance(addresses(&running));
        let ended = tokio::task::spawn_blocking(move || (old.stop(), old.end_of_log()));
        let (code, last) = ended.await.expect("no panic");
        assert_eq!(code, Some(0));
        let summary: Value = serde_json::from_str(&last).expect("a line of the log");
        assert_eq!(summary["transfers_incomplete"], 0, "{last}");
        assert!(summary["sessions"].as_u64() > Some(0), "{last}");
    }
    is_over.store(true, Ordering::SeqCst);
    for (client, ended) in clients.into_iter().enumerate() {
        let files = ended.await.expect("no failure");
        assert!(files >= FILES_PER_SESSION);
        for file in 0..files {
            let object = store.object(&format!("c{client}-{file}")).await;
            assert!(object.as_deref() == Some(&pattern(100_000)[..]), "whole");
        }
    }
    for program in running {
        program.terminate();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_under_fifty_uploads_fails_none_of_them() {
    let (store, _proxy, settings) = TestStore::behind_proxy().await;
    let first = Program::with(&settings, &[]);
    let route = Route::start(first.address).await;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(route.login().await);
    }
    let begun = (0..UPLOADS).map(|number| Upload::begin(&route, number));
    let begun = futures::future::join_all(begun).await;

    let second = Program::with(&settings, &[]);
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
    let mut program = Program::with(&settings, &[("COSGATE_DRAIN__DEADLINE", "300ms")]);
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
