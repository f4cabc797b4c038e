//! A TCP proxy in front of a store, for stores that break.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

    /// After so many more bytes from the store, its connections break, one after another.
    pub fn cut_after(&self, bytes: u64) {
        self.state.allowance.store(bytes, Ordering::SeqCst);
    }
}

async fn pass(client: TcpStream, store: TcpStream, state: &State) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_store, mut to_store) = store.into_split();
    let upstream = async { drop(tokio::io::copy(&mut from_client, &mut to_store).await) };
    let downstream = async {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_store.read(&mut chunk).await {
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
