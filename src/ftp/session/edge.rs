//! The state of one control connection, and how a step of it ends.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::time::Instant;
use tracing::{debug, error};

use crate::auth::{SessionPermit, Tree};
use crate::chain::Chain;
use crate::ftp::bandwidth::SessionBandwidth;
use crate::ftp::codec::{Control, Line};
use crate::ftp::connections::Permit;
use crate::ftp::encoding::NameEncoding;
use crate::ftp::engine::{Engine, EngineError};
use crate::ftp::frontend::Frontend;
use crate::ftp::listformat::Facts;
use crate::ftp::reply::Reply;
use crate::ftp::session::state::Session;
use crate::ftp::tls::Secured;
use crate::passive::{PassivePool, Reservation};
use crate::store::{Interruption, VirtualPath};

/// The reason in a 421 of a gateway that ends.
pub(super) const STOPPING: &str = "The server is stopping, try again later";

/// The reply to QUIT.
pub(super) const GOODBYE: &str = "Goodbye";

/// The control connection ends.
#[derive(Debug)]
pub(super) enum Close {
    /// Without another word: the client is gone, or there is nothing safe to say.
    Silently,
    /// With a last reply.
    With(Reply),
    /// With a last reply that the client may not expect; a QUIT that crosses it is answered.
    Farewell(Reply),
    /// Not at all: it goes on under TLS, after the handshake that the client has had its reply to begin.
    StartTls,
}

/// The result of a step of the session.
pub(super) type Step<T = ()> = Result<T, Close>;

impl From<io::Error> for Close {
    fn from(_: io::Error) -> Self {
        Close::Silently
    }
}

impl Close {
    pub(super) fn with(code: u16, text: &'static str) -> Self {
        Close::With(Reply::new(code, text))
    }

    pub(super) fn farewell(code: u16, text: &'static str) -> Self {
        Close::Farewell(Reply::new(code, text))
    }

    /// The engine can't be trusted any more.
    pub(super) fn engine(session: &Session, failure: &EngineError) -> Self {
        error!(session = session.id, error = %Chain(failure), "the engine failed, the session is closed");
        Close::with(421, "Internal error, closing the connection")
    }
}

/// The events that end a session from outside, also in the middle of a transfer.
pub(super) struct SessionEnd {
    pub(super) frontend: Arc<Frontend>,
    pub(super) client: IpAddr,
}

impl SessionEnd {
    /// Resolves when running transfers are to end, with the reason. Cancel safe.
    pub(super) async fn reached(&self) -> Interruption {
        tokio::select! {
            () = self.frontend.stop.cancelled() => Interruption::Stopping,
            () = self.frontend.access.refused(self.client) => Interruption::AddressRefused,
        }
    }
}

/// The state of one control connection.
pub(super) struct Edge {
    pub(super) frontend: Arc<Frontend>,
    pub(super) session: Arc<Session>,
    pub(super) end: SessionEnd,
    pub(super) control: Control,
    /// Lines that arrived during a transfer, to be answered after it.
    pub(super) queue: VecDeque<Line>,
    pub(super) engine: Option<Engine>,
    /// The origin of the next transfer's data connection.
    pub(super) data: Option<DataChannel>,
    /// TLS on the control connection.
    pub(super) secured: Option<Secured>,
    /// True if data connections are protected (`PROT P`).
    pub(super) private: bool,
    /// The offset of the last `REST`, for the transfer that follows.
    pub(super) restart: u64,
    /// The size that the last `ALLO` announced for it.
    pub(super) announced: Option<u64>,
    pub(super) working_directory: VirtualPath,
    pub(super) pool: Arc<PassivePool>,
    /// `PBSZ` was said, as RFC 2228 wants it before `PROT`.
    pub(super) buffer_size_set: bool,
    pub(super) greeted: bool,
    pub(super) log_in_by: Instant,
    pub(super) user_name: Option<String>,
    pub(super) failed_logins: u32,
    pub(super) epsv_only: bool,
    /// The client has said `TYPE A`. Without a TYPE files are bytes, whatever the RFC's default; see [`crate::ftp::ascii`].
    pub(super) ascii: bool,
    /// Which encoding the client's names are in.
    pub(super) encoding: NameEncoding,
    /// Where the user's files are, once logged in.
    pub(super) tree: Option<Tree>,
    /// The facts that `OPTS MLST` has chosen.
    pub(super) facts: Facts,
    /// The limits of bandwidth, once logged in.
    pub(super) bandwidth: Option<Arc<SessionBandwidth>>,
    /// Counts the session among those of its user.
    pub(super) user_permit: Option<SessionPermit>,
    /// The path of the last command, if it was an `RNFR` that the engine accepted.
    pub(super) renaming: Option<VirtualPath>,
    /// True if that is a directory.
    pub(super) renames_directory: bool,
    /// The last answer to SIZE, if it was what is held of an upload: the file, and the bytes.
    pub(super) held: Option<(VirtualPath, u64)>,
    /// Counts the connection among those that are open.
    pub(super) permit: Permit,
}

/// The origin of a data connection.
pub(super) enum DataChannel {
    /// The client connects to a port of ours.
    Passive(Reservation),
    /// We connect to a port of the client's.
    Active(SocketAddr),
}

impl Edge {
    pub(super) async fn say(&mut self, code: u16, text: &'static str) -> Step {
        self.send(Reply::new(code, text)).await
    }

    pub(super) async fn send(&mut self, reply: Reply) -> Step {
        debug!(session = self.session.id, code = reply.code, "reply");
        Ok(self.control.send(&reply).await?)
    }

    /// Forgets what was sent before AUTH (RFC 4217, section 4.1).
    pub(super) fn forget_user(&mut self) {
        self.user_name = None;
    }

    pub(super) fn user_name(&self) -> &str {
        self.session.user().map_or("", |user| user.name.as_str())
    }
}
