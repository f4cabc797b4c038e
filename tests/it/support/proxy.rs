//! A TCP proxy in front of a store, for stores that break.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes bytes on until it is told to break.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    down: AtomicBool,
    /// Bytes that may still come back from the store; `u64::MAX` for all.
    allowance: AtomicU64,
    connections: AtomicU64,
    /// Flip a bit in the next body on its way to the store.
    corrupt: AtomicBool,
    /// The answer to the next request whose first line has both is lost.
    lose: Mutex<Option<(&'static str, &'static str)>>,
    lost: AtomicU64,
}

impl Proxy {
    pub async fn start(store: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            allowance: AtomicU64::new(u64::MAX),
            ..State::default()
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                if shared.down.load(Ordering::SeqCst) {
                    continue;
                }
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Ok(store) = TcpStream::connect(store).await {
                        pass(client, store, &state).await;
                    }
                });
            }
        });
        Proxy { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every connection is closed, at once and from now on; or let through again.
    pub fn set_down(&self, down: bool) {
        self.state.down.store(down, Ordering::SeqCst);
    }

    /// A bit of the next body is flipped on its way.
    pub fn corrupt_next_body(&self) {
        self.state.corrupt.store(true, Ordering::SeqCst);
    }

    /// The store gets the next request of this kind, and its answer never comes back.
    pub fn lose_answer_to(&self, method: &'static str, in_target: &'static str) {
        *self.state.lose.lock().expect("not poisoned") = Some((method, in_target));
    }

    /// How many answers were lost that way.
    pub fn answers_lost(&self) -> u64 {
        self.state.lost.load(Ordering::SeqCst)
    }

    /// After so many more bytes from the store, its connections break, one after another.
    pub fn cut_after(&self, bytes: u64) {
        self.state.allowance.store(bytes, Ordering::SeqCst);
    }
}

impl State {
    /// True for the request whose answer is to be lost.
    fn is_doomed(&self, sent: &[u8]) -> bool {
        let mut lose = self.lose.lock().expect("not poisoned");
        let line = sent
            .split(|byte| *byte == b'\r')
            .next()
            .map(String::from_utf8_lossy);
        let found = lose.zip(line).is_some_and(|((method, in_target), line)| {
            line.starts_with(method) && line.contains(in_target)
        });
        if found {
            *lose = None;
        }
        found
    }
}

async fn pass(client: TcpStream, store: TcpStream, state: &State) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_store, mut to_store) = store.into_split();
    let doomed = AtomicBool::new(false);
    let upstream = async {
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut chunk).await {
            // the head of a request is far smaller than this, and the end of a chunk this long is body
            if read > 8 * 1024 && state.corrupt.swap(false, Ordering::SeqCst) {
                chunk[read - 1] ^= 1;
            }
            if state.is_doomed(&chunk[..read]) {
                doomed.store(true, Ordering::SeqCst);
            }
            if to_store.write_all(&chunk[..read]).await.is_err() {
                return;
            }
        }
    };
    let downstream = async {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_store.read(&mut chunk).await {
            if doomed.load(Ordering::SeqCst) {
                state.lost.fetch_add(1, Ordering::SeqCst);
                return;
            }
            let left = state.allowance.load(Ordering::SeqCst);
            let pass_on = read.min(usize::try_from(left).unwrap_or(usize::MAX));
            if to_client.write_all(&chunk[..pass_on]).await.is_err() {
                return;
            }
            if left != u64::MAX {
                state.allowance.fetch_sub(pass_on as u64, Ordering::SeqCst);
                if pass_on < read {
                    // one break; the next connection works
                    state.allowance.store(u64::MAX, Ordering::SeqCst);
                    return;
                }
            }
        }
    };
    let broken = async {
        while !state.down.load(Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = upstream => {}
        () = downstream => {}
        () = broken => {}
    }
}
