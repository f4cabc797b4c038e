//! One control connection from its greeting to its end.
//!
//! The `Edge` owns everything a stranger can touch: the line codec, the command table, the order of commands, timers, limits
//! and the final reply. The engine behind it is asked one thing at a time, for a user who has logged in.
//!
//! | file | part of the edge |
//! |---|---|
//! | this one, `edge.rs` | the loop and the end of a connection; its state |
//! | `dispatch.rs` | from a line to the method of its command |
//! | `login.rs`, `protection.rs`, `passive_commands.rs`, `options.rs` | USER and PASS; AUTH, PBSZ, PROT and PORT; PASV and EPSV; TYPE, FEAT and OPTS |
//! | `file_commands.rs`, `hash.rs`, `listings.rs` | commands on names; MFMT and HASH; STAT and the lists |
//! | `transfers.rs`, `arrival.rs`, `during_transfer.rs` | one data transfer; the wait for its data connection; commands during it |
//! | `outcome.rs`, `diagnosis.rs`, `commits.rs`, `trace.rs` | what came of a request: as a reply, as a cause, as an event, as a span |
//! | [`state`] | what the edge shares with the storage behind the engine |

mod arrival;
mod commits;
mod diagnosis;
mod dispatch;
mod during_transfer;
mod edge;
mod exchange;
mod file_commands;
mod hash;
mod listings;
mod login;
mod options;
mod outcome;
mod passive_commands;
mod protection;
pub mod state;
mod trace;
mod transfers;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::auth::random_password;
use crate::ftp::codec::{Control, Line};
use crate::ftp::connections::{ADDRESS_REFUSED, Permit};
use crate::ftp::encoding::NameEncoding;
use crate::ftp::frontend::Frontend;
use crate::ftp::listformat::Facts;
use crate::ftp::reply::Reply;
use crate::ftp::session::during_transfer::is_quit;
use crate::ftp::session::edge::{Close, Edge, GOODBYE, STOPPING, SessionEnd, Step};
use crate::ftp::session::protection::handshake;
use crate::ftp::session::state::{Client, Session};
use crate::net::Stream;
use crate::passive::PassivePool;
use crate::store::VirtualPath;

/// The engine of a client that sends nothing for so long ends. To start it takes 0.15 ms of CPU time.
const ENGINE_KEPT: Duration = Duration::from_secs(10);

/// The longest time that a QUIT may take to cross a last reply.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves one client until it leaves. On an `implicit` listener TLS begins with the first byte.
pub async fn run(
    frontend: Arc<Frontend>,
    socket: TcpStream,
    client: Client,
    id: u64,
    pool: Arc<PassivePool>,
    implicit: bool,
    permit: Permit,
) {
    // clients send the last byte of an ABOR as urgent data; in line it is read like the rest
    let _ = SockRef::from(&socket).set_out_of_band_inline(true);
    let (Ok(local), Ok(engine_password)) = (socket.local_addr(), random_password()) else {
        return;
    };
    let peer = client.address;
    debug!(session = id, client = %peer, "connected");
    let (mut stream, mut secured) = (Stream::Plain(socket), None);
    if implicit {
        (stream, secured) = match handshake(&frontend, stream, id).await {
            Some((stream, secured)) => (stream, Some(secured)),
            None => return,
        };
    }
    let session = Arc::new(Session::new(id, client, local, engine_password));
    if secured.is_some() {
        session.secure();
    }
    let _registration = frontend.registry.enter(&session);
    let encoding = NameEncoding::new(frontend.charset);
    let log_in_by = Instant::now() + frontend.sessions.login_timeout;
    let end = SessionEnd {
        frontend: Arc::clone(&frontend),
        client: peer.ip(),
    };
    let mut edge = Edge {
        frontend,
        end,
        session,
        control: Control::new(stream),
        queue: VecDeque::new(),
        engine: None,
        data: None,
        // a client that knows nothing but implicit TLS expects it on data connections, too
        private: secured.is_some(),
        secured,
        restart: 0,
        announced: None,
        working_directory: VirtualPath::root(),
        pool,
        buffer_size_set: false,
        greeted: false,
        log_in_by,
        user_name: None,
        failed_logins: 0,
        bandwidth: None,
        user_permit: None,
        epsv_only: false,
        ascii: false,
        encoding,
        tree: None,
        facts: Facts::ALL,
        renaming: None,
        renames_directory: false,
        held: None,
        permit,
    };
    let end = loop {
        edge.control.encode_in(edge.encoding.outgoing());
        match edge.serve().await {
            Close::StartTls => {}
            end => break end,
        }
        let Some(socket) = edge.control.into_plain() else {
            warn!(session = id, client = %peer, "commands were sent in clear behind AUTH, as an attacker on the way would do");
            return;
        };
        let Some((stream, secured)) = handshake(&edge.frontend, Stream::Plain(socket), id).await
        else {
            return;
        };
        edge.control = Control::new(stream);
        edge.secured = Some(secured);
        edge.session.secure();
    };
    match end {
        Close::With(reply) => {
            let _ = edge.control.send(&reply).await;
        }
        Close::Farewell(reply) => {
            let _ = edge.bid_farewell(&reply).await;
        }
        Close::Silently | Close::StartTls => {}
    }
    edge.control.close().await;
    debug!(session = id, "disconnected");
}

impl Edge {
    /// Greets, unless it was done before AUTH, and answers lines until there is a reason to stop.
    async fn serve(&mut self) -> Close {
        if !std::mem::replace(&mut self.greeted, true) {
            let greeting = Reply::new(220, self.frontend.greeting.clone());
            if let Err(error) = self.control.send(&greeting).await {
                return error.into();
            }
        }
        loop {
            let line = match self.queue.pop_front() {
                Some(line) => line,
                None => match self.next_line().await {
                    Ok(line) => line,
                    Err(close) => return close,
                },
            };
            // boxed, so that an idle session doesn't hold the room that a transfer needs
            let step = Box::pin(self.answer(line)).await;
            self.session.rest();
            if let Err(close) = step {
                return close;
            }
        }
    }

    async fn next_line(&mut self) -> Step<Line> {
        if self.engine.is_some() {
            let soon = tokio::time::timeout(ENGINE_KEPT, self.awaited_line()).await;
            if let Ok(line) = soon {
                return line;
            }
            self.rest_engine();
        }
        self.awaited_line().await
    }

    /// Cancel safe, and does not wait for longer if it is called again.
    async fn awaited_line(&mut self) -> Step<Line> {
        let logged_in = self.session.user().is_some();
        let (frontend, since) = (&self.frontend, self.session.doing().since);
        let until = if logged_in {
            Instant::from_std(since) + frontend.sessions.idle_timeout
        } else {
            self.log_in_by
        };
        let quiet_in_drain = async {
            frontend.drain.cancelled().await;
            tokio::time::sleep_until(Instant::from_std(since) + frontend.drain_idle).await;
        };
        tokio::select! {
            // what the client has said counts, until the time of all sessions is over
            biased;
            () = frontend.last_call.cancelled() => Err(Close::farewell(421, STOPPING)),
            () = frontend.access.refused(self.session.peer.ip()) => Err(Close::farewell(421, ADDRESS_REFUSED)),
            line = self.control.next() => Ok(line?),
            () = tokio::time::sleep_until(until) => Err(Close::farewell(421, "Timeout, closing the connection")),
            () = quiet_in_drain => Err(Close::farewell(421, STOPPING)),
        }
    }

    /// Sends the last reply, and then 221 if the client has said QUIT or says it now: it may have been sent before `reply`
    /// arrived, and a client counts a QUIT without its answer as an error.
    async fn bid_farewell(&mut self, reply: &Reply) -> io::Result<()> {
        self.control.send(reply).await?;
        let (control, queue) = (&mut self.control, &self.queue);
        let quits = async {
            if queue.iter().any(is_quit) {
                return true;
            }
            loop {
                match control.next().await {
                    Ok(Line::End | Line::Flood) | Err(_) => return false,
                    Ok(line) if is_quit(&line) => return true,
                    Ok(_) => {}
                }
            }
        };
        if let Ok(true) = tokio::time::timeout(QUIT_TIMEOUT, quits).await {
            self.control.send(&Reply::new(221, GOODBYE)).await?;
        }
        Ok(())
    }
}
