//! PASV and EPSV (RFC 2428): a port of ours for the next transfer, and the reply with its address.

use std::time::Duration;

use tracing::warn;

use crate::ftp::command::Epsv;
use crate::ftp::reply::Reply;
use crate::ftp::session::edge::{DataChannel, Edge, Step};
use crate::masquerade::{Advertised, Ports};
use crate::passive::NoPort;

/// The longest time that PASV waits for a port that is free for this client.
const PORT_TIMEOUT: Duration = Duration::from_secs(5);

impl Edge {
    pub(super) async fn pasv(&mut self) -> Step {
        if self.epsv_only {
            return self.say(501, "EPSV ALL is in force").await;
        }
        if let Some(refusal) = self.unprotected_data() {
            return self.send(refusal).await;
        }
        let advertised = self.advertised();
        let address = match &advertised.address {
            Ok(address) => *address,
            Err(reason) => {
                let text = format!("Can't open a data connection: {reason}");
                return self.send(Reply::new(425, text)).await;
            }
        };
        let port = match self.reserve_port(&advertised).await {
            Ok(port) => port,
            Err(none) => return self.no_port(&advertised, none).await,
        };
        let ([a, b, c, d], [high, low]) = (address.octets(), port.to_be_bytes());
        self.send(Reply::new(
            227,
            format!("Entering Passive Mode ({a},{b},{c},{d},{high},{low})"),
        ))
        .await
    }

    pub(super) async fn epsv(&mut self, argument: Epsv) -> Step {
        let ipv4 = self.session.reached().ip().to_canonical().is_ipv4();
        match argument {
            Epsv::All => {
                self.epsv_only = true;
                return self.say(200, "EPSV ALL").await;
            }
            Epsv::Ipv4 if !ipv4 => {
                return self
                    .say(522, "Network protocol not supported, use (2)")
                    .await;
            }
            Epsv::Ipv6 if ipv4 => {
                return self
                    .say(522, "Network protocol not supported, use (1)")
                    .await;
            }
            Epsv::Same | Epsv::Ipv4 | Epsv::Ipv6 => {}
        }
        if let Some(refusal) = self.unprotected_data() {
            return self.send(refusal).await;
        }
        let advertised = self.advertised();
        let port = match self.reserve_port(&advertised).await {
            Ok(port) => port,
            Err(none) => return self.no_port(&advertised, none).await,
        };
        self.send(Reply::new(
            229,
            format!("Entering Extended Passive Mode (|||{port}|)"),
        ))
        .await
    }

    /// The address and ports for this client at this moment.
    pub(super) fn advertised(&self) -> Advertised {
        let session = &self.session;
        let destination = session.destination.map(|address| address.ip());
        let (local, peer) = (session.local.ip(), session.peer.ip());
        self.frontend
            .masquerade
            .advertised_to(local, peer, destination)
    }

    /// The address for PASV in words.
    pub(super) fn advertised_address(&self) -> String {
        let advertised = self.advertised().address;
        advertised.map_or_else(|none| none.to_string(), |address| address.to_string())
    }

    /// Reserves a passive port and gives the public port that leads to it.
    async fn reserve_port(&mut self, advertised: &Advertised) -> Result<u16, NoPort> {
        // a new PASV takes the place of the old one
        self.data = None;
        let usable = |port| advertised.port(port).is_some();
        let reserved = self
            .pool
            .reserve(
                self.session.peer.ip(),
                self.session.id,
                PORT_TIMEOUT,
                usable,
            )
            .await?;
        let public = advertised.port(reserved.port()).ok_or(NoPort::Unusable)?;
        self.data = Some(DataChannel::Passive(reserved));
        Ok(public)
    }

    async fn no_port(&mut self, advertised: &Advertised, none: NoPort) -> Step {
        if let Ports::Unknown(_) = advertised.ports {
            return self
                .say(
                    425,
                    "Can't open a data connection: the public ports are not known yet",
                )
                .await;
        }
        warn!(
            session = self.session.id, client = %self.session.peer, reason = ?none,
            "no passive port is free for this client: others of its address wait for connections on all of them"
        );
        self.say(
            425,
            "Can't open data connection: all ports wait for other connections from your address, try again later",
        )
        .await
    }
}
