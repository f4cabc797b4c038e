//! The commands for protection and data connections: AUTH, PBSZ, PROT (RFC 4217), PORT and EPRT.
//!
//! Invariant: where `tls.required`, or a user's `require_tls`, asks for protection, nothing goes without it, whatever the
//! order of commands: USER needs a protected control connection, and PASV, EPSV, PORT, EPRT and every transfer need
//! `PROT P`.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tracing::{debug, warn};

use crate::chain::Chain;
use crate::config::TlsRequired;
use crate::ftp::frontend::Frontend;
use crate::ftp::reply::Reply;
use crate::ftp::session::edge::{Close, DataChannel, Edge, Step};
use crate::ftp::tls::{DataRefused, Secured};
use crate::net::Stream;
use crate::store::Interruption;

/// The TLS handshake on a control connection. `None`: it failed, and there is nobody to reply to.
pub(super) async fn handshake(
    frontend: &Frontend,
    stream: Stream,
    session: u64,
) -> Option<(Stream, Secured)> {
    let (Some(tls), Stream::Plain(socket)) = (&frontend.tls, stream) else {
        return None;
    };
    let result = tokio::select! {
        result = tls.accept_control(socket) => result,
        () = frontend.stop.cancelled() => return None,
    };
    result
        // strangers knock on public ports all day: no more than debug
        .map_err(|error| debug!(session, %error, "TLS handshake on the control connection failed"))
        .ok()
}

impl Edge {
    pub(super) fn tls_required(&self) -> TlsRequired {
        self.frontend
            .tls
            .as_ref()
            .map_or(TlsRequired::None, |tls| tls.required())
    }

    pub(super) async fn auth(&mut self, mechanism: &str) -> Step {
        if self.frontend.tls.is_none() {
            return self.say(502, "TLS is not available").await;
        }
        if self.secured.is_some() {
            return self.say(503, "The connection is protected already").await;
        }
        if self.session.user().is_some() {
            return self.say(503, "AUTH must come before USER").await;
        }
        // Clients from before RFC 4217 say SSL or TLS-P, and expect data connections to be protected without PBSZ and PROT
        // (draft-murray-auth-ftp-ssl); vsftpd and proftpd do the same.
        let is_private = match mechanism {
            "TLS" | "TLS-C" => false,
            "SSL" | "TLS-P" => true,
            _ => return self.say(504, "Only AUTH TLS is supported").await,
        };
        // commands that came in clear behind AUTH could be an attacker's
        if !self.queue.is_empty() || !self.control.is_quiet() {
            return Err(Close::With(Reply::new(
                421,
                "Nothing may be sent between AUTH and the handshake",
            )));
        }
        self.forget_user();
        self.private = is_private;
        self.say(234, "Begin the TLS handshake").await?;
        Err(Close::StartTls)
    }

    pub(super) async fn pbsz(&mut self) -> Step {
        if self.secured.is_none() {
            return self.say(503, "AUTH TLS must come first").await;
        }
        self.buffer_size_set = true;
        // TLS has records of its own; 0 is the only size there is (RFC 4217, section 8)
        self.say(200, "PBSZ=0").await
    }

    pub(super) async fn prot(&mut self, level: &str) -> Step {
        if self.secured.is_none() {
            return self.say(503, "AUTH TLS must come first").await;
        }
        if !self.buffer_size_set {
            return self.say(503, "PBSZ 0 must come first").await;
        }
        match level {
            "P" => {
                self.private = true;
                self.say(200, "Data connections are protected").await
            }
            "C" if self.data_must_be_private() => {
                self.say(534, "Data connections must be protected").await
            }
            "C" => {
                self.private = false;
                self.say(200, "Data connections are in clear").await
            }
            "S" | "E" => self.say(536, "TLS knows the levels C and P").await,
            _ => self.say(504, "PROT takes C or P").await,
        }
    }

    fn data_must_be_private(&self) -> bool {
        let user = self.session.user();
        self.tls_required() == TlsRequired::All || user.is_some_and(|user| user.require_tls)
    }

    /// The refusal of a data connection that would go in clear against the rules (RFC 4217, section 7).
    pub(super) fn unprotected_data(&self) -> Option<Reply> {
        (self.data_must_be_private() && !self.private)
            .then(|| Reply::new(521, "Data connections must be protected, use PROT P"))
    }

    /// `PORT`, `EPRT`. The address must be the client's own: a server that connects anywhere is a port scanner for
    /// strangers (RFC 2577, section 3), ports below 1024 belong to services, and what the gateway itself listens on is not for a client
    /// on its machine; see [`OwnPorts`](crate::ftp::own::OwnPorts).
    pub(super) async fn port(&mut self, address: SocketAddr) -> Step {
        if !self.frontend.active.enabled {
            let text = "Active mode is not available, use PASV or EPSV";
            return self.say(502, text).await;
        }
        if self.epsv_only {
            return self.say(501, "EPSV ALL is in force").await;
        }
        if let Some(refusal) = self.unprotected_data() {
            return self.send(refusal).await;
        }
        let (id, client) = (self.session.id, self.session.peer);
        if address.ip() != client.ip().to_canonical() {
            warn!(session = id, %client, %address, "a client asked for a data connection to another address");
            return self
                .say(504, "Only your own address is allowed, use PASV or EPSV")
                .await;
        }
        if address.port() < 1024 {
            return self.say(504, "Ports below 1024 are not allowed").await;
        }
        if self.frontend.own_ports.include(address) {
            warn!(session = id, %client, %address, "a client asked for a data connection to a port of the gateway itself");
            return self
                .say(504, "That port is the server's own, use PASV or EPSV")
                .await;
        }
        self.data = Some(DataChannel::Active(address));
        self.say(200, "The data connection will go there").await
    }
}

/// Protects a data connection if the session asks for that; else it stays as it is.
pub(super) async fn protect(
    socket: TcpStream,
    secured: Option<&Secured>,
    upload: bool,
    frontend: &Frontend,
    session: u64,
) -> Result<Stream, Interruption> {
    let (Some(secured), Some(tls)) = (secured, &frontend.tls) else {
        return Ok(Stream::Plain(socket));
    };
    tls.accept_data(secured, socket, upload)
        .await
        .map_err(|refused| {
            warn!(session, error = %Chain(&refused), "the data connection was refused");
            match refused {
                DataRefused::NotResumed => Interruption::TlsNotResumed,
                DataRefused::Handshake(_) | DataRefused::OtherClient | DataRefused::OtherUser => {
                    Interruption::TlsHandshake
                }
            }
        })
}
