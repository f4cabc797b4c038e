//! FTP on the wire: every byte that goes out and comes in is the scenario's.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cosgate::ftp_client::{self, Broken, Control};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::rustls::ClientConnection;

use super::tls::{TlsClient, Wire};

/// Nothing in a scenario takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// One reply, all of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub text: String,
}

impl From<ftp_client::Reply> for Reply {
    fn from(reply: ftp_client::Reply) -> Self {
        Reply {
            code: reply.code,
            text: String::from_utf8_lossy(&reply.bytes).into_owned(),
        }
    }
}

/// A control connection; a scenario fails where the server breaks off or is silent.
pub struct Ftp {
    control: Control<Wire>,
    /// The TLS settings of data connections, after `PROT P`.
    private: Option<TlsClient>,
    /// The proxy between the client and the gateway.
    relay: Option<Relay>,
}

/// A proxy: where its connections come from, and what it sends ahead of the client's bytes.
#[derive(Debug, Clone)]
pub struct Relay {
    pub from: [u8; 4],
    pub header: Vec<u8>,
}

impl Relay {
    /// 127.0.0.`last`, which sends nothing ahead: a client with that address, also on its data connections.
    pub fn plain(last: u8) -> Self {
        Relay {
            from: [127, 0, 0, last],
            header: Vec::new(),
        }
    }

    /// A connection to `address` on which the header has been sent.
    pub async fn connect(&self, address: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::from((self.from, 0)))
            .expect("a loopback address");
        let mut socket = socket.connect(address).await.expect("the gateway listens");
        socket.set_nodelay(true).expect("a TCP socket");
        socket.write_all(&self.header).await.expect("sends");
        socket
    }
}

impl Ftp {
    /// Connects and reads the greeting.
    pub async fn connect(address: SocketAddr) -> Self {
        let mut ftp = Self::connect_silently(address).await;
        assert_eq!(ftp.reply().await.code, 220);
        ftp
    }

    /// Connects and reads nothing.
    pub async fn connect_silently(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address)
            .await
            .expect("the gateway listens");
        socket.set_nodelay(true).expect("a TCP socket");
        Ftp {
            control: control(Wire::Plain(socket)),
            private: None,
            relay: None,
        }
    }

    /// A control connection on which the greeting has been read.
    pub fn of(socket: TcpStream) -> Self {
        Ftp {
            control: control(Wire::Plain(socket)),
            private: None,
            relay: None,
        }
    }

    /// AUTH TLS and the handshake; the handshake's error if there is one.
    pub async fn secure(self, client: &TlsClient) -> std::io::Result<Self> {
        self.secure_by("TLS", client).await
    }

    /// The same by another mechanism of AUTH.
    pub async fn secure_by(mut self, mechanism: &str, client: &TlsClient) -> std::io::Result<Self> {
        let reply = self.command(&format!("AUTH {mechanism}")).await;
        assert_eq!(reply.code, 234, "{reply:?}");
        self.secure_now(client).await
    }

    /// The handshake without a word before it.
    pub async fn secure_now(self, client: &TlsClient) -> std::io::Result<Self> {
        let relay = self.relay;
        let secured = self.control.wrapped(async |wire| match wire {
            Wire::Plain(socket) => Ok((client.handshake(socket).await?, ())),
            Wire::Tls(_) => panic!("the connection is protected already"),
        });
        match secured.await {
            Ok((control, ())) => Ok(Ftp {
                control,
                private: None,
                relay,
            }),
            Err(Broken::Lost(error)) => Err(error),
            Err(error) => panic!("{error}"),
        }
    }

    /// Implicit FTPS: the handshake, then the greeting.
    pub async fn connect_implicitly(address: SocketAddr, client: &TlsClient) -> Self {
        let socket = TcpStream::connect(address).await.expect("listens");
        let wire = client.handshake(socket).await.expect("a handshake");
        let mut ftp = Ftp {
            control: control(wire),
            private: Some(client.clone()),
            relay: None,
        };
        assert_eq!(ftp.reply().await.code, 220);
        ftp
    }

    /// PBSZ 0 and PROT P; from now on whole transfers protect their data connection with `client`.
    pub async fn protect(&mut self, client: &TlsClient) {
        assert_eq!(self.command("PBSZ 0").await.code, 200);
        assert_eq!(self.command("PROT P").await.code, 200);
        self.private = Some(client.clone());
    }

    /// As [`Ftp::protect`], without a word to the server.
    pub fn protect_silently(&mut self, client: &TlsClient) {
        self.private = Some(client.clone());
    }

    /// TLS on the control connection.
    pub fn tls(&self) -> &ClientConnection {
        match self.control.wire() {
            Some(Wire::Tls(stream)) => stream.get_ref().1,
            _ => panic!("the connection is in clear"),
        }
    }

    /// The handshake on a data connection, if there is to be one.
    pub async fn wrap(&self, data: TcpStream) -> std::io::Result<Wire> {
        match &self.private {
            Some(client) => client.handshake(data).await,
            None => Ok(Wire::Plain(data)),
        }
    }

    /// Connects through `relay`, as data connections then do, and reads the greeting.
    pub async fn connect_through(relay: &Relay, address: SocketAddr) -> Self {
        let mut ftp = Self::connect_silently_through(relay, address).await;
        assert_eq!(ftp.reply().await.code, 220);
        ftp
    }

    /// The same, and reads nothing.
    pub async fn connect_silently_through(relay: &Relay, address: SocketAddr) -> Self {
        let socket = relay.connect(address).await;
        Ftp {
            control: control(Wire::Plain(socket)),
            private: None,
            relay: Some(relay.clone()),
        }
    }

    /// Implicit FTPS through `relay`.
    pub async fn connect_implicitly_through(
        relay: &Relay,
        address: SocketAddr,
        client: &TlsClient,
    ) -> Self {
        let wire = client.handshake(relay.connect(address).await).await;
        let mut ftp = Ftp {
            control: control(wire.expect("a handshake")),
            private: Some(client.clone()),
            relay: Some(relay.clone()),
        };
        assert_eq!(ftp.reply().await.code, 220);
        ftp
    }

    /// Connects from the address `local` and reads the greeting.
    pub async fn connect_from(local: [u8; 4], address: SocketAddr) -> Self {
        let mut ftp = Self::connect_silently_from(local, address).await;
        assert_eq!(ftp.reply().await.code, 220);
        ftp
    }

    /// The same, and reads nothing.
    pub async fn connect_silently_from(local: [u8; 4], address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::from((local, 0)))
            .expect("a loopback address");
        let socket = socket.connect(address).await.expect("the gateway listens");
        Ftp {
            control: control(Wire::Plain(socket)),
            private: None,
            relay: None,
        }
    }

    /// PASV without connecting: the address and port of the reply, or the refusal.
    pub async fn pasv(&mut self) -> Result<(Ipv4Addr, u16), Reply> {
        self.send("PASV").await;
        let reply = self.try_raw_reply().await.expect("a reply");
        if reply.code != 227 {
            return Err(reply.into());
        }
        Ok(reply.passive().expect("an address and a port"))
    }

    pub async fn login(&mut self, user: &str, password: &str) {
        assert_eq!(self.command(&format!("USER {user}")).await.code, 331);
        let reply = self.command(&format!("PASS {password}")).await;
        assert_eq!(reply.code, 230, "{reply:?}");
    }

    /// The reply to a login that may fail.
    pub async fn try_login(&mut self, user: &str, password: &str) -> Reply {
        self.command(&format!("USER {user}")).await;
        self.command(&format!("PASS {password}")).await
    }

    /// Sends a line and reads one reply.
    pub async fn command(&mut self, line: impl AsRef<[u8]>) -> Reply {
        self.send(line).await;
        self.reply().await
    }

    /// Sends a line with its end.
    pub async fn send(&mut self, line: impl AsRef<[u8]>) {
        self.send_raw(&[line.as_ref(), b"\r\n"].concat()).await;
    }

    /// Sends a line with its end, to a server that may have closed.
    pub async fn try_send(&mut self, line: &str) -> std::io::Result<()> {
        match self.control.send(line.as_bytes()).await {
            Ok(()) => Ok(()),
            Err(Broken::Lost(error)) => Err(error),
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let sent = self.control.send_raw(bytes).await;
        sent.expect("the control connection takes bytes");
    }

    /// The next reply; the scenario fails if none comes.
    pub async fn reply(&mut self) -> Reply {
        self.try_reply()
            .await
            .expect("a reply before the end of the control connection")
    }

    /// The next reply, or `None` at the end of the control connection. It has to be in UTF-8.
    pub async fn try_reply(&mut self) -> Option<Reply> {
        let ftp_client::Reply { code, bytes, .. } = self.try_raw_reply().await?;
        let text = String::from_utf8(bytes).expect("a reply in UTF-8");
        Some(Reply { code, text })
    }

    /// Sends a line and reads one reply, whatever it is encoded in.
    pub async fn raw_command(&mut self, line: impl AsRef<[u8]>) -> Vec<u8> {
        self.send(line).await;
        self.try_raw_reply().await.expect("a reply").bytes
    }

    /// The next reply as it was sent, or `None` at the end of the control connection.
    pub async fn try_raw_reply(&mut self) -> Option<ftp_client::Reply> {
        let reading = tokio::time::timeout(PATIENCE, self.control.reply());
        match reading.await.expect("a reply in time") {
            Ok(reply) => {
                let mut lines = reply.bytes.split_inclusive(|byte| *byte == b'\n');
                assert!(
                    lines.all(|line| line.ends_with(b"\r\n")),
                    "a reply line ends in CR LF: {reply:?}"
                );
                Some(reply)
            }
            Err(Broken::Closed | Broken::Lost(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// True if the server has closed, with nothing left to read.
    pub async fn is_closed(&mut self) -> bool {
        self.try_reply().await.is_none()
    }

    /// EPSV, and the data connection that goes with it.
    pub async fn data(&mut self) -> TcpStream {
        let port = self.epsv().await;
        let address = SocketAddr::new(self.control.peer.ip(), port);
        match &self.relay {
            Some(relay) => relay.connect(address).await,
            None => TcpStream::connect(address)
                .await
                .expect("the passive port listens"),
        }
    }

    /// EPSV without connecting.
    pub async fn epsv(&mut self) -> u16 {
        self.send("EPSV").await;
        let reply = self.try_raw_reply().await.expect("a reply");
        assert_eq!(reply.code, 229, "{reply:?}");
        reply.extended().expect("a port")
    }

    /// The first reply to a transfer, which names the file in whatever encoding.
    async fn opening(&mut self, line: impl AsRef<[u8]>) -> Reply {
        self.send(line).await;
        self.try_raw_reply().await.expect("a reply").into()
    }

    /// A whole upload: the reply after it.
    pub async fn store(&mut self, line: impl AsRef<[u8]>, bytes: &[u8]) -> Reply {
        let data = self.data().await;
        let opening = self.opening(line).await;
        if opening.code != 150 {
            return opening;
        }
        // the server may refuse the handshake, or end the transfer in the middle, as it should when a limit is reached
        if let Ok(mut data) = self.wrap(data).await {
            let _ = data.write_all(bytes).await;
            let _ = data.shutdown().await;
        }
        self.reply().await
    }

    /// A whole download or listing: the bytes and the reply after them.
    pub async fn fetch(&mut self, line: impl AsRef<[u8]>) -> (Vec<u8>, Reply) {
        let data = self.data().await;
        let opening = self.opening(line).await;
        if opening.code != 150 {
            return (Vec::new(), opening);
        }
        let mut bytes = Vec::new();
        let Ok(mut data) = self.wrap(data).await else {
            return (bytes, self.reply().await);
        };
        let ended = tokio::time::timeout(PATIENCE, data.read_to_end(&mut bytes))
            .await
            .expect("data in time");
        let reply = self.reply().await;
        assert_eq!(
            ended.is_ok(),
            reply.code == 226,
            "a whole transfer ends cleanly, a broken one in a reset"
        );
        (bytes, reply)
    }

    /// A listing as text.
    pub async fn listing(&mut self, line: &str) -> String {
        let (bytes, reply) = self.fetch(line).await;
        assert_eq!(reply.code, 226, "{reply:?}");
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// The connection, protected or not, for those who misbehave.
    pub fn into_wire(self) -> Wire {
        self.control.into_wire().expect("nothing has broken it")
    }

    /// The raw socket, for those who misbehave.
    pub fn into_socket(self) -> TcpStream {
        match self.control.into_wire() {
            Some(Wire::Plain(socket)) => socket,
            _ => panic!("the connection is protected"),
        }
    }
}

/// The control connection over `wire`. A listing in a reply (`STAT`) may be long.
fn control(wire: Wire) -> Control<Wire> {
    let peer = wire.tcp().peer_addr().expect("connected");
    Control::new(wire, peer).allow_lines(usize::MAX)
}
