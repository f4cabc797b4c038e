//! What stands between a gateway and its store on a network: TLS, and proxies that open tunnels.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, Interest, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::http::read_head;
use super::tls::Authority;

/// TLS before a store, with a certificate for one host name.
pub struct TlsFront {
    address: SocketAddr,
    state: Arc<Counts>,
    /// Changes when all connections are to end.
    end: watch::Sender<()>,
}

#[derive(Default)]
struct Counts {
    full: AtomicU64,
    resumed: AtomicU64,
}

impl TlsFront {
    pub async fn start(authority: &Authority, host: &str, store: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let acceptor = TlsAcceptor::from(Arc::new(authority.server(host)));
        let (end, ends) = watch::channel(());
        let state = Arc::new(Counts::default());
        let counts = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, counts) = (acceptor.clone(), Arc::clone(&counts));
                let mut ends = ends.clone();
                ends.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else {
                        return;
                    };
                    let kind = client.get_ref().1.handshake_kind();
                    match kind {
                        Some(rustls::HandshakeKind::Resumed) => &counts.resumed,
                        _ => &counts.full,
                    }
                    .fetch_add(1, Ordering::SeqCst);
                    let mut store = TcpStream::connect(store).await.expect("it listens");
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut store) => {}
                        _ = ends.changed() => {}
                    }
                });
            }
        });
        TlsFront {
            address,
            state,
            end,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Handshakes since the last call: full ones, and those that resumed a session.
    pub fn take_handshakes(&self) -> (u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::SeqCst);
        (take(&self.state.full), take(&self.state.resumed))
    }

    /// Ends all connections.
    pub fn end_connections(&self) {
        self.end.send_replace(());
    }
}

/// A proxy that opens tunnels, all of them to the same place.
pub struct TunnelProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl TunnelProxy {
    /// Asks for `authorization`, the value of the header, if there is one.
    pub async fn start(to: SocketAddr, authorization: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let mut client = BufReader::new(client);
                    let Some(head) = read_head(&mut client).await else {
                        return;
                    };
                    let wanted =
                        authorization.map(|value| format!("Proxy-Authorization: {value}\r\n"));
                    let is_allowed = wanted.is_none_or(|line| head.contains(&line));
                    seen.lock().expect("no panic").push(head);
                    let answer = match is_allowed {
                        true => "HTTP/1.1 200 Connection established\r\n\r\n",
                        false => "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
                    };
                    let _ = client.write_all(answer.as_bytes()).await;
                    if is_allowed {
                        let mut to = TcpStream::connect(to).await.expect("it listens");
                        let _ = copy_bidirectional(&mut client, &mut to).await;
                    }
                });
            }
        });
        TunnelProxy { address, heads }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The heads of all requests to the proxy itself since the last call.
    pub fn take_heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().expect("no panic"))
    }
}

/// A request at a [`ScriptedStore`].
pub struct Received<'a> {
    /// The number of the connection, from 1 on.
    pub connection: u64,
    /// The first line and the header lines.
    pub head: &'a str,
}

/// The treatment of a request.
pub enum Reaction {
    /// The body is read, and then this is the answer: a status line, and an XML body.
    Answer(&'static str, &'static str),
    /// The same, without reading the body, or anything more on this connection, which stays open.
    AnswerUnread(&'static str, &'static str),
    /// Nothing is read any more and nothing answered.
    Stop,
}

/// A store that does with each request what a script says.
pub struct ScriptedStore {
    address: SocketAddr,
    stopped: Arc<AtomicU64>,
}

impl ScriptedStore {
    pub async fn start(script: impl Fn(&Received<'_>) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (script, stopped) = (Arc::new(script), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&stopped);
        tokio::spawn(async move {
            for connection in 1.. {
                let (client, _) = listener.accept().await.expect("a connection");
                let (script, stopped) = (Arc::clone(&script), Arc::clone(&count));
                tokio::spawn(async move {
                    let mut client = BufReader::new(client);
                    if serve(&mut client, connection, &*script).await {
                        stopped.fetch_add(1, Ordering::SeqCst);
                        until_closed(client.get_ref()).await;
                        stopped.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        ScriptedStore { address, stopped }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of open connections from which nothing is read any more.
    pub fn stopped(&self) -> u64 {
        self.stopped.load(Ordering::SeqCst)
    }
}

/// Returns true when nothing is to be read any more.
async fn serve(
    client: &mut BufReader<TcpStream>,
    connection: u64,
    script: &impl Fn(&Received<'_>) -> Reaction,
) -> bool {
    loop {
        let Some(head) = read_head(client).await else {
            return false;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.parse().ok())?
        });
        let received = Received {
            connection,
            head: &head,
        };
        let (reaction, reads_on) = match script(&received) {
            Reaction::Answer(status, body) => (Some((status, body)), true),
            Reaction::AnswerUnread(status, body) => (Some((status, body)), false),
            Reaction::Stop => (None, false),
        };
        if reads_on {
            let body = &mut (&mut *client).take(length.unwrap_or(0));
            let _ = tokio::io::copy_buf(body, &mut tokio::io::sink()).await;
        }
        if let Some((status, body)) = reaction {
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\netag: \"e\"\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let _ = client.write_all(answer.as_bytes()).await;
        }
        if !reads_on {
            return true;
        }
    }
}

/// The end of a connection shows without reading from it.
async fn until_closed(socket: &TcpStream) {
    while let Ok(ready) = socket.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
