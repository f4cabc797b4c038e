//! The client's connections: what the edge reads from and writes to, and small facts about sockets.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::server::TlsStream;

/// A socket below TLS. rustls reads one record of 16 KiB at a time; where much comes, more than one is read from the socket at once.
pub type ReadAhead = BufReader<TcpStream>;

/// A control or data connection of a client: the one place that knows how bytes are protected on the way.
#[derive(Debug)]
pub enum Stream {
    /// In clear.
    Plain(TcpStream),
    /// Under TLS, after the handshake.
    Tls(Box<TlsStream<ReadAhead>>),
}

impl Stream {
    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.get_ref().0.get_ref(),
        }
    }

    /// True under TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }
}

/// The unit of limits per address: an IPv6 customer has a whole /64 to choose from.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// Pause after a failed accept.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that the kernel holds while the accept loop is busy.
pub(crate) const BACKLOG: i32 = 1024;

/// Binds a listening socket. IPv6 sockets take IPv6 only, so that `0.0.0.0` and `[::]` can stand side by side and no
/// client's IPv4 address appears in IPv6 clothes.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// A listener for connections that somebody waits for only so long: data connections, and those that other gateways hand over.
///
/// Without free descriptors they wait in the kernel, for longer than whoever waited for them, and the next one who waits for the same
/// would get them. So after such a failure all that wait are reset.
#[derive(Debug)]
pub(crate) struct PunctualListener {
    listener: TcpListener,
    is_late: bool,
}

impl PunctualListener {
    pub(crate) fn new(listener: TcpListener) -> Self {
        PunctualListener {
            listener,
            is_late: false,
        }
    }

    /// The next connection; the caller makes a pause after an error. Cancel safe.
    pub(crate) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        while self.is_late {
            // of the kernel itself: that nothing is known to wait is not enough
            match SockRef::from(&self.listener).accept() {
                Ok((socket, _)) => {
                    let _ = socket.set_linger(Some(Duration::ZERO));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_late = false,
                Err(error) if is_shortage(&error) => return Err(error),
                // one that has gone
                Err(_) => {}
            }
            tokio::task::yield_now().await;
        }
        let accepted = self.listener.accept().await;
        // all others are those of one connection, which has gone
        self.is_late = matches!(&accepted, Err(error) if is_shortage(error));
        accepted
    }
}

/// True if the kernel or this process has nothing left for another connection (accept(2)).
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| shortages.contains(&errno))
}

/// A data connection to where the client listens, from the address to which it connected: firewalls on the way expect
/// nothing else.
pub(crate) async fn connect(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.bind(SocketAddr::new(from.ip(), 0))?;
    let socket = socket.connect(to).await?;
    tune(&socket);
    Ok(socket)
}

/// Hands a call on to whichever connection it is.
macro_rules! either {
    ($stream:expr, $io:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Plain(socket) => {
                let $io = Pin::new(socket);
                $call
            }
            Stream::Tls(stream) => {
                let $io = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_shutdown(cx))
    }
}

/// Idle control connections die in load balancers during long transfers (AWS NLB after 350 s), so both kinds of
/// connection are kept alive well below that.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The longest time that a sent reply may stay unacknowledged before the kernel gives the control connection up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// Prepares an accepted socket. A socket that refuses an option still works, only less well.
pub fn tune(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    // replies are single small writes: Nagle against delayed ACK would cost 40 ms each
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE / 4),
    );
}

/// Prepares an accepted control connection. Data connections don't get the time limit: the kernel would also apply it to
/// a client that pauses its download, and how long that may last is `download.stall_timeout`.
pub fn tune_control(socket: &TcpStream) {
    tune(socket);
    limit_unacknowledged(socket, UNACKNOWLEDGED);
}

/// Has the kernel give the connection up when what was sent stays unacknowledged for this time, where it can.
pub fn limit_unacknowledged(socket: &TcpStream, time: Duration) {
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(socket).set_tcp_user_timeout(Some(time));
}

/// Has the kernel hold no more than so many bytes that were received and not read, or as many as it wants.
///
/// It never becomes less than what it is: what the client was told it may send would be lost. `SO_RCVBUF` alone does none of three
/// things: go beyond `net.core.rmem_max` (208 KiB by default), raise the window with the buffer, and let the kernel choose again
/// later, since that measures growth by what came through the short window. `SO_RCVLOWAT` raises both at once, up to half of
/// `net.ipv4.tcp_rmem`, and is set back. Nothing is limited before Linux 5.15, which has no `SO_BUF_LOCK`.
pub fn limit_receive_queue(socket: &TcpStream, limit: Option<u64>) {
    #[cfg(target_os = "linux")]
    {
        const CHOSEN_BY_KERNEL: libc::c_int = 0;
        const RECEIVE_BUFFER_IS_SET: libc::c_int = 2;
        /// The window of a connection whose limit is taken off; the kernel makes it longer by itself.
        const LONG_WINDOW: u64 = 2 * 1024 * 1024;

        if !set_option(socket, libc::SO_BUF_LOCK, CHOSEN_BY_KERNEL) {
            return;
        }
        // a window needs about twice its length of memory (tcp(7))
        let window = limit.map_or(LONG_WINDOW, |limit| limit / 2);
        let window = libc::c_int::try_from(window).unwrap_or(libc::c_int::MAX);
        set_option(socket, libc::SO_RCVLOWAT, window);
        set_option(socket, libc::SO_RCVLOWAT, 1);
        if limit.is_some() {
            set_option(socket, libc::SO_BUF_LOCK, RECEIVE_BUFFER_IS_SET);
        }
    }
}

/// Sets an option of the socket's own level; false if the kernel refuses.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "options of sockets that no crate wraps")]
fn set_option(socket: &TcpStream, option: libc::c_int, value: libc::c_int) -> bool {
    use std::os::fd::AsRawFd;

    // SAFETY: the descriptor is open as long as `socket` is borrowed, and the value is an `int` whose length the call is given
    // (setsockopt(2)).
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    done == 0
}

/// Has the kernel hold no more than so many bytes that were not sent yet, or as many as it wants.
pub fn limit_unsent(socket: &TcpStream, limit: Option<u64>) {
    #[cfg(target_os = "linux")]
    {
        // none of its own is that of net.ipv4.tcp_notsent_lowat
        let limit = limit.map_or(0, |limit| u32::try_from(limit).unwrap_or(u32::MAX));
        let _ = SockRef::from(socket).set_tcp_notsent_lowat(limit);
    }
}

/// Makes the next close of the socket a reset: the peer can't mistake it for a clean end of data.
pub fn reset_on_close(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Watches the other end of a connection without owning it.
#[derive(Debug)]
pub struct PeerWatch(OwnedFd);

impl PeerWatch {
    /// Costs one duplicated file descriptor for as long as it lives.
    pub fn new(socket: &TcpStream) -> io::Result<Self> {
        Ok(PeerWatch(socket.as_fd().try_clone_to_owned()?))
    }

    /// True if the peer has closed or reset the connection, as far as the kernel has heard, be there unread bytes or not.
    pub fn is_gone(&self) -> bool {
        is_peer_gone(&self.0)
    }
}

/// True if the peer has closed or reset the connection, as far as the kernel has heard, be there unread bytes or not.
pub fn is_peer_gone(socket: &impl AsFd) -> bool {
    #[cfg(target_os = "linux")]
    let half_closed = PollFlags::RDHUP;
    #[cfg(not(target_os = "linux"))]
    let half_closed = PollFlags::empty();
    let mut watched = [PollFd::new(socket, half_closed)];
    let gone = half_closed | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut watched, Some(&at_once)), Ok(1..)) && watched[0].revents().intersects(gone)
}

/// Sockets for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Two ends of one connection: a client's, and the gateway's.
    pub(crate) async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("bound"));
        let client = client.await.expect("connects");
        (client, listener.accept().await.expect("accepts").0)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::testing::pair;
    use super::*;

    #[tokio::test]
    async fn a_closed_peer_is_seen_behind_unread_bytes() {
        let (mut client, server) = pair().await;
        let watch = PeerWatch::new(&server).expect("a free descriptor");
        client.write_all(b"unread").await.expect("writes");
        assert!(!watch.is_gone());
        drop(client);
        // loopback delivers the FIN at once, yet not before close() returns on every kernel
        for _ in 0..100 {
            if watch.is_gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the close was never seen");
    }

    #[tokio::test]
    async fn connections_that_waited_through_a_shortage_are_reset_and_the_next_one_is_taken() {
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("binds");
        let address = listener.local_addr().expect("bound");
        let mut late = Vec::new();
        for _ in 0..3 {
            late.push(TcpStream::connect(address).await.expect("connects"));
        }
        let mut listener = PunctualListener {
            listener,
            is_late: true,
        };
        let taking = tokio::spawn(async move { listener.accept().await });
        for mut socket in late {
            let error = socket.read_u8().await.expect_err("no bytes");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        // one more look finds nobody
        tokio::time::sleep(Duration::from_millis(100)).await;
        let client = TcpStream::connect(address).await.expect("connects");
        let (_socket, peer) = taking.await.expect("no panic").expect("a connection");
        assert_eq!(peer, client.local_addr().expect("connected"));
    }

    #[test]
    fn a_connection_that_has_gone_is_no_shortage() {
        use rustix::io::Errno;
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert!(is_shortage(&errno.into()), "{errno}");
        }
        assert!(!is_shortage(&Errno::CONNABORTED.into()));
    }
}
