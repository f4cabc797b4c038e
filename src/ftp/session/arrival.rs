//! The data connection's coming: how long it is waited for, and when the 150 is sent.
//!
//! Most clients connect before they send the transfer's command, or right after. The storage is asked only then: a client that never
//! comes costs it nothing. Others connect only once they have read the 150, as RFC 959, section 5.4 lets them: for a client that has not
//! come after [`EARLY`] the storage is asked without its data connection, the 150 goes out when the storage is ready, and the
//! connection is waited for behind it. The time that the storage takes to open the file doesn't count.
//!
//! Active mode needs none of this: a client listens before it names its port, and the gateway connects.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tracing::warn;

use crate::ftp::connections::ADDRESS_REFUSED;
use crate::ftp::session::diagnosis::{
    nobody_connected, other_address, unreachable, without_header,
};
use crate::ftp::session::edge::{Close, DataChannel, Edge, STOPPING, Step};
use crate::ftp::session::exchange::Exchange;
use crate::ftp::session::trace::{DataConnection, Trace};
use crate::net::connect;
use crate::passive::Stray;
use crate::store::Interruption;

/// The longest time that a client may take to come before it is taken for one that waits for the 150.
const EARLY: Duration = Duration::from_millis(500);

/// A data connection that has not come yet.
pub(super) struct Arrival {
    connection: Pin<Box<dyn Future<Output = Option<TcpStream>> + Send>>,
    /// Its span.
    span: DataConnection,
    /// The passive port of ours, or the client's own one.
    pub port: u16,
    /// When the reply to PASV was sent; none in active mode.
    pub reserved: Option<tokio::time::Instant>,
    /// The longest wait in all.
    pub within: Duration,
    began: Instant,
    left: Duration,
}

/// The result of the first part of the wait.
pub(super) enum First {
    /// The connection is there.
    Came(TcpStream),
    /// The client may wait for the 150.
    Late(Arrival),
    /// Nobody came, or the client could not be reached, within the whole time.
    Nobody(Missed),
}

/// A data connection that never came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missed {
    /// As in [`Arrival`].
    pub port: u16,
    /// As in [`Arrival`].
    pub reserved: Option<tokio::time::Instant>,
    /// As in [`Arrival`].
    pub within: Duration,
    /// Since when it was waited for.
    pub began: Instant,
}

impl Arrival {
    /// Begins to wait for `channel`'s connection for at most `accept` in passive and `reach` in active mode, there from the address
    /// `local`.
    pub(super) fn new(
        channel: DataChannel,
        local: SocketAddr,
        accept: Duration,
        reach: Duration,
        span: DataConnection,
    ) -> Self {
        let (port, reserved, within) = match &channel {
            DataChannel::Passive(reservation) => {
                (reservation.port(), Some(reservation.since()), accept)
            }
            DataChannel::Active(address) => (address.port(), None, reach),
        };
        let connection = Box::pin(async move {
            match channel {
                DataChannel::Passive(mut reservation) => reservation.connection().await,
                DataChannel::Active(address) => connect(local, address).await.ok(),
            }
        });
        Arrival {
            connection,
            span,
            port,
            reserved,
            within,
            began: Instant::now(),
            left: within,
        }
    }

    /// Waits for as long as the client gets nothing.
    pub(super) async fn first(mut self) -> First {
        let early = match self.reserved {
            Some(_) => EARLY.min(self.within),
            None => self.within,
        };
        match tokio::time::timeout(early, &mut self.connection).await {
            Ok(Some(socket)) => First::Came(self.came(socket)),
            Err(_) if early < self.within => {
                self.left -= early;
                First::Late(self)
            }
            Ok(None) | Err(_) => First::Nobody(self.missed()),
        }
    }

    /// Waits for the rest of the time, after the 150.
    pub(super) async fn rest(mut self) -> Result<TcpStream, Missed> {
        match tokio::time::timeout(self.left, &mut self.connection).await {
            Ok(Some(socket)) => Ok(self.came(socket)),
            Ok(None) | Err(_) => Err(self.missed()),
        }
    }

    fn came(self, socket: TcpStream) -> TcpStream {
        let asked = self.reserved.map(tokio::time::Instant::into_std);
        if asked.is_some() {
            self.span.relayed(&socket, self.port);
        }
        self.span.end(true, asked);
        socket
    }

    fn missed(self) -> Missed {
        self.span.end(false, None);
        Missed {
            port: self.port,
            reserved: self.reserved,
            within: self.within,
            began: self.began,
        }
    }
}

impl Edge {
    /// Nobody came to the passive port, or the client's own could not be reached.
    pub(super) async fn nobody_came(
        &mut self,
        exchange: &Exchange,
        missed: &Missed,
        trace: &mut Trace,
    ) -> Step {
        let Missed {
            port,
            reserved,
            within,
            began,
        } = *missed;
        if reserved.is_some() {
            self.frontend.metrics.passive_timeout();
        }
        let outcome = "no_data_connection";
        self.frontend.metrics.transfer(exchange.verb, outcome, None);
        trace.refused(outcome, 425, outcome);
        let peer = self.session.peer;
        let stray = reserved.and_then(|since| self.pool.stray_since(port, since));
        let why = match (reserved, stray) {
            (Some(_), Some(Stray::WithoutHeader(proxy))) => without_header(port, proxy),
            (Some(_), Some(Stray::Client(from))) if from != peer.ip().to_canonical() => {
                other_address(port, from, peer.ip())
            }
            (Some(_), _) => nobody_connected(port, within, &self.advertised_address()),
            (None, _) => unreachable(port, began.elapsed()),
        };
        warn!(session = self.session.id, client = %peer, port, why, "no data connection came about");
        self.note_failure(exchange.verb, &exchange.path, 425, why);
        self.say(425, "Can't open data connection").await
    }

    /// The transfer was interrupted before its data connection came about.
    pub(super) async fn no_data_connection(&mut self, reason: Interruption) -> Step {
        match reason {
            Interruption::Abort => {
                self.say(426, "Transfer aborted").await?;
                self.say(226, "Abort successful").await
            }
            Interruption::Stopping => Err(Close::farewell(421, STOPPING)),
            Interruption::AddressRefused => Err(Close::farewell(421, ADDRESS_REFUSED)),
            _ => Err(Close::Silently),
        }
    }
}
