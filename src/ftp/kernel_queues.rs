//! The bytes of a transfer that the kernel holds: received and not yet read, or written and not yet sent.
//!
//! They are memory of the container (`sock` in its memory.stat), and no budget of this program knows of them. For a connection that was
//! fast once, Linux lets them grow to `net.ipv4.tcp_rmem` and `net.ipv4.tcp_wmem`, some MiB. With 1,000 uploads that waited for
//! part buffers that came to 1.2 GiB, and beyond the machine's own limit (`net.ipv4.tcp_mem`) the kernel throws away what
//! clients send; they ask after ever longer pauses, of up to two minutes, whether they may send again. 200 downloads that
//! nobody took held 400 MiB.
//!
//! A fast and distant client needs a long queue: one of 4 MiB carries 300 Mbit/s over a round trip of 100 ms. Many clients at
//! once need none. So the transfers of a direction share a quarter of what its memory budget has:
//!
//! | share of each | queue |
//! |---|---|
//! | [`LONG`] or more | as long as the kernel wants |
//! | less | the share, [`LEAST`] at least |
//!
//! - **Received** (`SO_RCVBUF`): a limit is set before the first read, and is only ever raised. The kernel throws away what
//!   comes beyond a limit that was lowered, though the client was told that it may send it. Those that still have none of the time when
//!   there were few are few: the last of them got a long share beside all others.
//! - **Sent** (`TCP_NOTSENT_LOWAT`): it leaves what is under way to the client out, which the client has room for, and may
//!   go up and down.
//!
//! Linux alone has both; elsewhere the kernel's own limits hold.

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
    /// The transfers there were when the limit was looked at last.
    among: usize,
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
            among: 0,
            limit: None,
        }
    }

    fn limit(&self, direction: Direction, among: usize) -> Option<u64> {
        let (upload, download) = self.store.memory_limits();
        let budget = match direction {
            Direction::Received => upload,
            Direction::Sent => download,
        };
        limit(budget, among)
    }
}

/// The limit of each of `among` transfers whose budget has so many bytes.
fn limit(budget: u64, among: usize) -> Option<u64> {
    let share = budget / PART / (among as u64).max(1);
    (share < LONG).then_some(share.max(LEAST))
}

impl QueueShare {
    /// Sets the limit of its socket anew if there are more or fewer transfers than the last time. To be called before the first byte, and
    /// now and then.
    pub fn apply(&mut self, socket: &TcpStream) {
        let among = self.queues.transfers.held(&self.direction);
        if among == self.among {
            return;
        }
        let is_first = self.among == 0;
        self.among = among;
        let new = self.queues.limit(self.direction, among);
        match (self.direction, self.limit) {
            (Direction::Received, None) if !is_first => return,
            (Direction::Received, Some(old)) if new.is_some_and(|new| new < 2 * old) => return,
            (_, old) if old == new => return,
            (Direction::Received, _) => net::limit_receive_queue(socket, new),
            (Direction::Sent, _) => net::limit_unsent(socket, new),
        }
        self.limit = new;
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_with;

    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::store::testing;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn few_transfers_have_no_limit_and_many_share_a_quarter_of_the_budget() {
        assert_eq!(limit(256 * MIB, 1), None);
        assert_eq!(limit(256 * MIB, 16), None, "4 MiB each");
        assert_eq!(limit(256 * MIB, 32), Some(2 * MIB));
        assert_eq!(limit(256 * MIB, 500), Some(134_217));
        assert_eq!(limit(256 * MIB, 1000), Some(LEAST));
        assert_eq!(limit(8 * MIB, 1), Some(2 * MIB), "there is little at all");
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("bound"));
        let client = client.await.expect("connects");
        (client, listener.accept().await.expect("accepts").0)
    }

    fn received(socket: &TcpStream) -> u64 {
        let size = SockRef::from(socket).recv_buffer_size();
        size.expect("Linux tells") as u64
    }

    fn unsent(socket: &TcpStream) -> u64 {
        let limit = SockRef::from(socket).tcp_notsent_lowat();
        limit.expect("Linux tells").into()
    }

    /// Sends and takes 32 MiB.
    async fn use_well(client: &mut TcpStream, server: &mut TcpStream) {
        let sent = async {
            let piece = vec![0; MIB as usize];
            for _ in 0..32 {
                client.write_all(&piece).await.expect("sends");
            }
        };
        let taken = async {
            let mut piece = vec![0; MIB as usize];
            for _ in 0..32 {
                server.read_exact(&mut piece).await.expect("comes");
            }
        };
        tokio::join!(sent, taken);
    }

    #[tokio::test]
    async fn an_upload_among_many_is_limited_until_the_others_have_ended() {
        let data = tempfile::tempdir().expect("a directory");
        let (embedded, store) = testing::store(&data).await;
        let few = store.set_memory_limits(16 << 30, 0).0 / PART / LONG;
        let queues = KernelQueues::new(store);
        let uploads = |count| repeat_with(|| queues.share(Direction::Received)).take(count);

        let (mut client, mut early) = pair().await;
        let mut first = queues.share(Direction::Received);
        first.apply(&early);
        let others: Vec<_> = uploads(16 * few as usize - 2).collect();
        let (mut late_client, mut late) = pair().await;
        let mut last = queues.share(Direction::Received);
        last.apply(&late);
        first.apply(&early);
        use_well(&mut client, &mut early).await;
        use_well(&mut late_client, &mut late).await;
        assert!(received(&early) > MIB, "{}", received(&early));
        // the kernel takes even numbers
        assert_eq!(received(&late), (LONG / 16) & !1);

        drop(others);
        last.apply(&late);
        use_well(&mut late_client, &mut late).await;
        assert!(received(&late) > MIB, "{}", received(&late));
        embedded.stop().await;
    }

    #[tokio::test]
    async fn a_limit_of_what_is_received_is_raised_and_never_lowered() {
        let (_client, server) = pair().await;
        let at_first = received(&server);
        net::limit_receive_queue(&server, Some(at_first / 2));
        assert_eq!(received(&server), at_first);
        net::limit_receive_queue(&server, Some(at_first + 65_536));
        assert_eq!(received(&server), at_first + 65_536);
    }

    #[tokio::test]
    async fn what_a_download_may_leave_unsent_goes_down_and_up_with_the_number_of_downloads() {
        let data = tempfile::tempdir().expect("a directory");
        let (embedded, store) = testing::store(&data).await;
        let few = store.set_memory_limits(0, 256 * MIB).1 / PART / LONG;
        let queues = KernelQueues::new(store);
        let (_client, server) = pair().await;
        let mut first = queues.share(Direction::Sent);
        first.apply(&server);
        assert_eq!(unsent(&server), 0);
        let others: Vec<_> = repeat_with(|| queues.share(Direction::Sent))
            .take(4 * few as usize - 1)
            .collect();
        first.apply(&server);
        assert_eq!(unsent(&server), LONG / 4);
        drop(others);
        first.apply(&server);
        assert_eq!(unsent(&server), 0);
        embedded.stop().await;
    }
}
