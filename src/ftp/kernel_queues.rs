//! The bytes of a transfer that the kernel holds: received and not yet read, or written and not yet sent.
//!
//! They are memory of the container (`sock` in its memory.stat), and no budget of this program knows of them. For a connection that was
//! fast once, Linux lets them grow to `net.ipv4.tcp_rmem` and `net.ipv4.tcp_wmem`, some MiB. With 1,000 uploads that waited for
//! part buffers that came to 1.2 GiB, and beyond the machine's own limit (`net.ipv4.tcp_mem`) the kernel throws away what
//! clients send; they ask after ever longer pauses, of up to two minutes, whether they may send again. 200 downloads that
//! nobody took held 400 MiB.
//!
//! A fast and distant client needs a long queue: one of 4 MiB carries 150 Mbit/s over a round trip of 100 ms. Many clients at
//! once need none. So the transfers of a direction share a quarter of what its memory budget has:
//!
//! | share of each | queue |
//! |---|---|
//! | 4 MiB or more | as long as the kernel wants |
//! | less | the share, 128 KiB at least |
//!
//! - **Received** ([`net::limit_receive_queue`]): a limit is set before the first read, and is only ever raised. The kernel throws away
//!   what comes beyond a limit that was lowered, though the client was told that it may send it. So a transfer's limit is its share when it
//!   began, until others end: n transfers that began one after another hold a quarter of the budget, times ln(n/16) with 256 MiB, beside
//!   those without a limit. These are never more than have long shares.
//! - **Sent** (`TCP_NOTSENT_LOWAT`): it leaves what is under way to the client out, which the client has room for, and may
//!   go up and down.
//!
//! Linux alone has both, from 5.15 on; elsewhere the kernel's own limits hold.

use std::fmt;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::ftp::metrics::Direction;
use crate::net;
use crate::permits::{Permit, Permits};
use crate::store::Store;

/// Whoever may have so many bytes is not limited.
const LONG: u64 = 4 * 1024 * 1024;

/// The smallest limit: what a connection begins with.
const LEAST: u64 = 128 * 1024;

/// A memory budget is this many times what the queues of its transfers share.
const PART: u64 = 4;

/// The transfers of the process, which share what the kernel may hold.
pub struct KernelQueues {
    store: Store,
    transfers: Arc<Permits<Direction>>,
}

/// One transfer's share.
#[derive(Debug)]
pub struct QueueShare {
    queues: Arc<KernelQueues>,
    direction: Direction,
    _transfer: Permit<Direction>,
    /// Bytes; none: the kernel's own.
    limit: Option<u64>,
}

impl fmt::Debug for KernelQueues {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_tuple("KernelQueues");
        shown.field(&self.transfers).finish()
    }
}

impl KernelQueues {
    /// For transfers whose memory is that of `store`.
    pub fn new(store: Store) -> Arc<Self> {
        Arc::new(KernelQueues {
            store,
            transfers: Arc::default(),
        })
    }

    /// The share of a transfer that begins, until it is dropped.
    pub fn share(self: &Arc<Self>, direction: Direction) -> QueueShare {
        QueueShare {
            queues: Arc::clone(self),
            direction,
            _transfer: self.transfers.acquire(direction),
            limit: None,
        }
    }

    /// The limit of each transfer as many as there are now.
    fn limit(&self, direction: Direction) -> Option<u64> {
        let (upload, download) = self.store.memory_limits();
        let budget = match direction {
            Direction::Received => upload,
            Direction::Sent => download,
        };
        limit(budget, self.transfers.held(&direction))
    }
}

/// The limit of each of `among` transfers whose budget has so many bytes.
fn limit(budget: u64, among: usize) -> Option<u64> {
    let share = budget / PART / (among as u64).max(1);
    (share < LONG).then_some(share.max(LEAST))
}

impl QueueShare {
    /// The transfers of its direction that there are.
    pub fn transfers(&self) -> usize {
        self.queues.transfers.held(&self.direction)
    }

    /// Sets the first limit of its socket. To be called before the first byte.
    pub fn begin(&mut self, socket: &TcpStream) {
        self.limit = self.queues.limit(self.direction);
        if self.limit.is_some() {
            self.set(socket);
        }
    }

    /// Sets the limit as the number of transfers and the budget are now. To be called now and then.
    pub fn follow(&mut self, socket: &TcpStream) {
        let new = self.queues.limit(self.direction);
        let is_due = match (self.direction, self.limit) {
            (Direction::Received, None) => false,
            (Direction::Received, Some(old)) => new.is_none_or(|new| new >= 2 * old),
            (Direction::Sent, old) => new != old,
        };
        if is_due {
            self.limit = new;
            self.set(socket);
        }
    }

    fn set(&self, socket: &TcpStream) {
        match self.direction {
            Direction::Received => net::limit_receive_queue(socket, self.limit),
            Direction::Sent => net::limit_unsent(socket, self.limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_with;
    use std::os::fd::AsRawFd;

    use socket2::SockRef;

    use super::*;
    use crate::net::testing::pair;
    use crate::store::testing;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn few_transfers_have_no_limit_and_many_share_a_quarter_of_the_budget() {
        assert_eq!(limit(256 * MIB, 1), None);
        assert_eq!(limit(256 * MIB, 16), None, "4 MiB each");
        assert_eq!(limit(256 * MIB, 32), Some(2 * MIB));
        assert_eq!(limit(256 * MIB, 500), Some(134_217));
        assert_eq!(limit(256 * MIB, 1000), Some(LEAST));
        assert_eq!(limit(8 * MIB, 1), Some(2 * MIB), "there is little");
    }

    fn received(socket: &TcpStream) -> u64 {
        let size = SockRef::from(socket).recv_buffer_size();
        size.expect("Linux tells") as u64
    }

    fn unsent(socket: &TcpStream) -> u64 {
        let limit = SockRef::from(socket).tcp_notsent_lowat();
        limit.expect("Linux tells").into()
    }

    /// An option's value.
    #[expect(unsafe_code, reason = "options of sockets that no crate wraps")]
    fn option(socket: &TcpStream, level: libc::c_int, option: libc::c_int) -> u64 {
        let mut value: libc::c_int = 0;
        let mut size = size_of_val(&value) as libc::socklen_t;
        let descriptor = socket.as_raw_fd();
        // SAFETY: the descriptor is open, and the kernel writes an `int` of the size that it is given.
        let done = unsafe {
            libc::getsockopt(
                descriptor,
                level,
                option,
                (&raw mut value).cast(),
                &raw mut size,
            )
        };
        assert_eq!(done, 0, "Linux tells it, from 5.15 on");
        value.try_into().expect("not negative")
    }

    /// True if what the socket may hold of what it received is set, and no longer chosen by the kernel (`SOCK_RCVBUF_LOCK`).
    fn is_limited(socket: &TcpStream) -> bool {
        option(socket, libc::SOL_SOCKET, libc::SO_BUF_LOCK) & 2 != 0
    }

    /// The longest window that the client can be told.
    fn longest_window(socket: &TcpStream) -> u64 {
        option(socket, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP)
    }

    #[tokio::test]
    async fn an_upload_among_many_is_limited_until_the_others_have_ended() {
        let data = tempfile::tempdir().expect("a directory");
        let (embedded, store) = testing::store(&data).await;
        let few = store.set_memory_limits(16 << 30, 0).0 / PART / LONG;
        let queues = KernelQueues::new(store);
        let uploads = |count| repeat_with(|| queues.share(Direction::Received)).take(count);

        let ((_client, early), (_late_client, late)) = (pair().await, pair().await);
        let mut first = queues.share(Direction::Received);
        first.begin(&early);
        let others: Vec<_> = uploads(16 * few as usize - 2).collect();
        let mut last = queues.share(Direction::Received);
        last.begin(&late);
        first.follow(&early);
        assert!(!is_limited(&early), "the kernel has promised more by now");
        assert!(is_limited(&late));
        let size = received(&late);
        assert!((LONG / 16..LONG / 4).contains(&size), "{size}");

        drop(others);
        last.follow(&late);
        assert!(!is_limited(&late));
        assert!(received(&late) > 2 * MIB && longest_window(&late) >= 2 * MIB);
        embedded.stop().await;
    }

    #[tokio::test]
    async fn a_limit_of_what_is_received_raises_the_window_and_is_never_lowered() {
        let (_client, server) = pair().await;
        let at_first = received(&server);
        net::limit_receive_queue(&server, Some(at_first / 4));
        assert!(is_limited(&server) && received(&server) == at_first);
        net::limit_receive_queue(&server, Some(2 * MIB));
        assert!(is_limited(&server) && received(&server) > MIB);
        assert!(longest_window(&server) >= MIB);
    }

    #[tokio::test]
    async fn what_a_download_may_leave_unsent_goes_down_and_up_with_the_number_of_downloads() {
        let data = tempfile::tempdir().expect("a directory");
        let (embedded, store) = testing::store(&data).await;
        let few = store.set_memory_limits(0, 256 * MIB).1 / PART / LONG;
        let queues = KernelQueues::new(store);
        let (_client, server) = pair().await;
        let mut first = queues.share(Direction::Sent);
        first.begin(&server);
        assert_eq!(unsent(&server), 0);
        let others: Vec<_> = repeat_with(|| queues.share(Direction::Sent))
            .take(4 * few as usize - 1)
            .collect();
        first.follow(&server);
        assert_eq!(unsent(&server), LONG / 4);
        drop(others);
        first.follow(&server);
        assert_eq!(unsent(&server), 0);
        embedded.stop().await;
    }
}
