//! Data connections and the files that go over them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::address::{Tried, blocked, judge, judge_ports};
use super::connect::{Control, Unreachable, connect_data};
use super::examination::CheckResult;
use super::failure::{Failure, STORE_TROUBLE, may_not};
use super::report::Verdict;
use super::trust::{Handshake, Seen, Trust};
use super::visit::broken;
use crate::ftp_client::Reply;

/// Somebody who is logged in.
pub(super) struct Visitor<'a> {
    pub control: Control,
    /// Data connections are protected with this.
    pub trust: Option<&'a Trust>,
    /// The modes that have been found to work; EPSV first, as most clients do it.
    pub ways: Vec<ConnectMode>,
    /// Passive ports that were tried, and what came of it.
    pub ports: BTreeMap<u16, Result<(), Unreachable>>,
    /// STOR was sent, and nothing has said how it ended: the gateway may still be storing.
    pub storing: bool,
    /// The certificate of the control connection.
    pub shown: Option<Seen>,
    /// Takes certificates that are not trusted.
    pub insecure: bool,
}

/// The result of an upload.
pub(super) enum Upload {
    /// With the handshake of the data connection, if there was one.
    Stored(Option<Handshake>),
    /// This user has no right to.
    MayNot,
}

/// The origin of a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectMode {
    /// EPSV: the control connection's address.
    Extended,
    /// PASV, and the address that it names.
    Passive,
    /// PASV, and the control connection's address, whatever it names.
    PassiveAtControl,
}

impl Visitor<'_> {
    /// PASV, and a connection to what it names.
    pub async fn pasv(&mut self) -> CheckResult<()> {
        let reply = match self.control.command("PASV").await {
            Ok(reply) => reply,
            Err(error) => return (None, broken(&error)),
        };
        if self.control.peer.ip().to_canonical().is_ipv6() && reply.code != 227 {
            let reason = format!("PASV has no room for IPv6 addresses: {reply}");
            return (Some(()), Verdict::skipped(reason));
        }
        let Some(told) = reply.passive().filter(|_| reply.code == 227) else {
            return (Some(()), no_address(&reply));
        };
        let control = self.control.peer.ip();
        let target = match told.0.is_unspecified() {
            true => control,
            false => IpAddr::V4(told.0),
        };
        let there = connect_data((target, told.1), CONNECT_TIMEOUT)
            .await
            .map(drop);
        let at_control = if there.is_err() && target != control.to_canonical() {
            Some(
                connect_data((control, told.1), CONNECT_TIMEOUT)
                    .await
                    .map(drop),
            )
        } else {
            None
        };
        match (there, at_control) {
            (Ok(()), _) => self.ways.push(ConnectMode::Passive),
            (_, Some(Ok(()))) => self.ways.push(ConnectMode::PassiveAtControl),
            _ => {}
        }
        self.ports.insert(told.1, at_control.unwrap_or(there));
        let verdict = judge(&Tried {
            told,
            control,
            there,
            at_control,
        });
        (Some(()), verdict)
    }

    /// EPSV, and a connection to the port that it names.
    pub async fn epsv(&mut self) -> CheckResult<()> {
        let reply = match self.control.command("EPSV").await {
            Ok(reply) => reply,
            Err(error) => return (None, broken(&error)),
        };
        let Some(port) = reply.extended().filter(|_| reply.code == 229) else {
            let finding = format!("EPSV is refused: {reply}");
            return (Some(()), Verdict::failed(finding, NO_PORT));
        };
        let address = (self.control.peer.ip(), port);
        let connected = connect_data(address, CONNECT_TIMEOUT).await.map(drop);
        self.ports.insert(port, connected);
        let verdict = match connected {
            Ok(()) => {
                self.ways.insert(0, ConnectMode::Extended);
                Verdict::ok(format!("told port {port}, and it connects"))
            }
            Err(error) => Verdict::failed(
                format!("told port {port}, which does not connect ({error})"),
                blocked(error),
            ),
        };
        (Some(()), verdict)
    }

    /// As many passive ports as the gateway gives in a row, for `within` at most.
    pub async fn ports(&mut self, within: Duration) -> CheckResult<()> {
        let ends = Instant::now() + within;
        // those of PASV and EPSV count, too: the gateway does not give a port again whose connection did not come
        let mut tried = std::mem::take(&mut self.ports);
        let mut nothing_new = 0;
        let way = self.ways.first().copied().unwrap_or(ConnectMode::Extended);
        for _ in 0..PORTS_ASKED {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() || nothing_new == NOTHING_NEW {
                break;
            }
            let address = match self.ask(way).await {
                Ok(address) => address,
                Err(Failure::Broken(error)) => return (None, broken(&error)),
                // what is wrong with it has been told by its own check
                Err(_) => break,
            };
            if let Some(known) = tried.get(&address.1) {
                nothing_new += 1;
                if known.is_ok() {
                    // the port is kept from other sessions for a while if its connection doesn't come
                    let _ = connect_data(address, CONNECT_TIMEOUT.min(left)).await;
                }
                continue;
            }
            nothing_new = 0;
            let result = connect_data(address, CONNECT_TIMEOUT.min(left)).await;
            if left < CONNECT_TIMEOUT && matches!(result, Err(Unreachable::Silent)) {
                // with all of its time it might have answered
                break;
            }
            if result.is_ok() && self.ways.is_empty() {
                self.ways.push(way);
            }
            tried.insert(address.1, result.map(drop));
        }
        if tried.is_empty() {
            let reason = "no port was told, or the time was up; --timeout gives more";
            return (Some(()), Verdict::skipped(reason));
        }
        (Some(()), judge_ports(&tried))
    }

    /// Stores `bytes`.
    pub async fn upload(&mut self, path: &str, bytes: &[u8]) -> CheckResult<Upload> {
        match self.store(path, bytes).await {
            Ok(handshake) => {
                let verdict = Verdict::ok(format!("{} bytes stored as {path}", bytes.len()));
                (Some(Upload::Stored(handshake)), verdict)
            }
            Err(Failure::Refused(reply)) if reply.code == 550 && may_not(&reply) => {
                let reason = format!("this user may not write (users[].permissions): {reply}");
                (Some(Upload::MayNot), Verdict::skipped(reason))
            }
            Err(failure) => (None, failure.verdict("upload")),
        }
    }

    /// Fetches a listing, where nothing else can go over a data connection.
    pub async fn list(&mut self) -> CheckResult<Option<Handshake>> {
        match self.listing().await {
            Ok((bytes, handshake)) => {
                let verdict = Verdict::ok(format!("{bytes} bytes came over a data connection"));
                (Some(handshake), verdict)
            }
            Err(Failure::Refused(reply)) if reply.code == 550 && may_not(&reply) => {
                let reason = format!("this user may not list: {reply}");
                (None, Verdict::skipped(reason))
            }
            Err(failure) => (None, failure.verdict("listing")),
        }
    }

    async fn listing(&mut self) -> Result<(u64, Option<Handshake>), Failure> {
        let data = self.data().await?;
        self.begin("LIST").await?;
        let (mut wire, handshake) = self.protect(data).await?;
        let read = tokio::io::copy(&mut wire, &mut tokio::io::sink()).await;
        drop(wire);
        self.end().await?;
        Ok((read.map_err(Failure::Data)?, handshake))
    }

    async fn store(&mut self, path: &str, bytes: &[u8]) -> Result<Option<Handshake>, Failure> {
        let data = self.data().await?;
        self.storing = true;
        let stored = self.send(data, &format!("STOR {path}"), bytes).await;
        // whatever the last reply says, the gateway has done with the file
        self.storing = self.control.owes_reply() || matches!(stored, Err(Failure::Broken(_)));
        stored
    }

    async fn send(
        &mut self,
        data: TcpStream,
        line: &str,
        bytes: &[u8],
    ) -> Result<Option<Handshake>, Failure> {
        self.begin(line).await?;
        let (mut wire, handshake) = self.protect(data).await?;
        let sent = async {
            wire.write_all(bytes).await?;
            wire.shutdown().await
        };
        let sent = sent.await;
        // the reply says more than a broken pipe
        self.end().await?;
        sent.map_err(Failure::Data)?;
        Ok(handshake)
    }

    /// SIZE, held against `bytes`.
    pub async fn size(&mut self, path: &str, bytes: usize) -> CheckResult<()> {
        match self.control.command(&format!("SIZE {path}")).await {
            Ok(reply) if reply.code == 213 => {
                let told = reply.lines.concat();
                let verdict = match told.trim().parse::<usize>() {
                    Ok(size) if size == bytes => Verdict::ok(format!("{bytes} bytes")),
                    _ => Verdict::failed(
                        format!("{bytes} bytes were stored, and SIZE says {reply}"),
                        STORE_TROUBLE,
                    ),
                };
                (Some(()), verdict)
            }
            Ok(reply) => (Some(()), Verdict::failed(reply.to_string(), STORE_TROUBLE)),
            Err(error) => (None, broken(&error)),
        }
    }

    /// Fetches the file and compares it with `bytes`.
    pub async fn download(&mut self, path: &str, bytes: &[u8]) -> CheckResult<()> {
        match self.fetch(path, bytes).await {
            Ok(()) => (
                Some(()),
                Verdict::ok(format!("{} bytes, the same as were stored", bytes.len())),
            ),
            Err(Failure::Refused(reply)) if reply.code == 550 && may_not(&reply) => (
                Some(()),
                Verdict::skipped(format!("this user may not read: {reply}")),
            ),
            Err(failure) => (Some(()), failure.verdict("download")),
        }
    }

    async fn fetch(&mut self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        let data = self.data().await?;
        self.begin(&format!("RETR {path}")).await?;
        let (wire, _) = self.protect(data).await?;
        let mut came = Vec::with_capacity(bytes.len() + 1);
        let mut bounded = wire.take(bytes.len() as u64 + 1);
        let read = bounded.read_to_end(&mut came).await;
        drop(bounded);
        self.end().await?;
        read.map_err(Failure::Data)?;
        (came == bytes).then_some(()).ok_or(Failure::Differs)
    }

    /// Removes the probe file; `None`: the connection is of no use. For `patience` what is not there yet is waited for.
    pub async fn delete(
        &mut self,
        path: &str,
        was_stored: bool,
        patience: Duration,
    ) -> Option<Verdict> {
        let ends = Instant::now() + patience;
        loop {
            let reply = self.control.command(&format!("DELE {path}")).await.ok()?;
            let is_last = Instant::now() >= ends;
            match reply.code {
                250 => return Some(Verdict::ok(format!("{path} is removed"))),
                550 if may_not(&reply) && (was_stored || self.storing) => {
                    return Some(Verdict::warning(
                        format!("{path} stays there, since this user may not delete: {reply}"),
                        "remove the file by other means, or examine with a user who may delete",
                    ));
                }
                550 if !was_stored && !self.storing => {
                    return Some(Verdict::ok("nothing was left behind"));
                }
                // what broke off may be kept (upload.on_interrupt), and the store may take its time
                550 if self.storing && is_last => {
                    return Some(Verdict::warning(
                        format!("{path} is not there, and may still appear: the upload broke off"),
                        "look for the file later, and remove it by other means",
                    ));
                }
                550 if self.storing => {}
                // the server may still be busy with what broke off
                450 | 451 if !is_last => {}
                _ => {
                    return Some(Verdict::failed(
                        format!("{path} may be left behind: {reply}"),
                        "remove the file by other means; the gateway's log has the reason",
                    ));
                }
            }
            tokio::time::sleep(ASKED_AGAIN).await;
        }
    }

    /// Asks for a passive port.
    async fn ask(&mut self, way: ConnectMode) -> Result<(IpAddr, u16), Failure> {
        let control = self.control.peer.ip();
        let line = match way {
            ConnectMode::Extended => "EPSV",
            ConnectMode::Passive | ConnectMode::PassiveAtControl => "PASV",
        };
        let reply = self.control.command(line).await?;
        let address = match way {
            ConnectMode::Extended => reply.extended().map(|port| (control, port)),
            ConnectMode::PassiveAtControl => reply.passive().map(|(_, port)| (control, port)),
            ConnectMode::Passive => reply.passive().map(|(address, port)| {
                let is_any = address.is_unspecified();
                (if is_any { control } else { address.into() }, port)
            }),
        };
        let is_right = matches!(reply.code, 227 | 229);
        address.filter(|_| is_right).ok_or(Failure::Refused(reply))
    }

    /// A data connection, if need be by several tries: the check of the ports has found those that don't work.
    async fn data(&mut self) -> Result<TcpStream, Failure> {
        let way = self.ways.first().copied().unwrap_or(ConnectMode::Extended);
        let mut last = Unreachable::Silent;
        for _ in 0..PORTS_ASKED {
            let address = self.ask(way).await?;
            match connect_data(address, CONNECT_TIMEOUT).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(Failure::NoData(last))
    }

    async fn begin(&mut self, line: &str) -> Result<(), Failure> {
        match self.control.command(line).await? {
            reply if matches!(reply.code, 125 | 150) => Ok(()),
            reply => Err(Failure::Refused(reply)),
        }
    }

    async fn end(&mut self) -> Result<(), Failure> {
        match self.control.reply().await? {
            reply if matches!(reply.code, 226 | 250) => Ok(()),
            reply => Err(Failure::Refused(reply)),
        }
    }

    async fn protect(
        &mut self,
        data: TcpStream,
    ) -> Result<(super::connect::Wire, Option<Handshake>), Failure> {
        match self.trust {
            None => Ok((Box::new(data), None)),
            Some(trust) => {
                let wrapped = trust.wrap(Box::new(data)).await;
                let (wire, handshake) = match wrapped {
                    Ok(wrapped) => wrapped,
                    Err(error) => {
                        // the server says why
                        self.end().await?;
                        return Err(Failure::Handshake(error));
                    }
                };
                if !handshake.resumed && !self.recognizes(trust.seen().as_ref()) {
                    drop(wire);
                    let _ = self.end().await;
                    return Err(Failure::CertificateMismatch);
                }
                Ok((wire, Some(handshake)))
            }
        }
    }

    /// True if a certificate is the one to which the password went.
    fn recognizes(&self, seen: Option<&Seen>) -> bool {
        let is_same = |seen: &&Seen| {
            let mut shown = self.shown.iter();
            shown.any(|shown| shown.is_same(seen))
        };
        seen.filter(is_same)
            .is_some_and(|seen| seen.is_trusted() || self.insecure)
    }
}

/// The verdict on the protection of data connections.
pub(super) fn judge_handshake(handshake: &Handshake) -> Verdict {
    if handshake.resumed {
        Verdict::ok(format!(
            "{}, the control connection's session was resumed",
            handshake.spoken
        ))
    } else {
        Verdict::ok(format!("{}, with a handshake of its own", handshake.spoken))
    }
}

/// PASV is refused.
fn no_address(reply: &Reply) -> Verdict {
    let fix = match reply.code {
        425 if reply.lines.concat().contains("all ports wait") => NO_PORT,
        425 => {
            "the gateway does not know the public address: set masquerade_address, or see /readyz of the gateway why the \
             Service or the mapping file says none"
        }
        421 | 452 => NO_PORT,
        _ => "the gateway's log has the reason",
    };
    Verdict::failed(format!("PASV is refused: {reply}"), fix)
}

const NO_PORT: &str = "no passive port was free: give more passive.ports, or wait; when the ports are mapped (masquerade.mapping_file), the mapping may not be known yet";

/// One connection to a passive port; who takes longer is behind a firewall.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The pause before a file that may still appear is asked for again.
const ASKED_AGAIN: Duration = Duration::from_millis(500);

/// Passive ports that are asked for; gateways give them in rotation.
const PORTS_ASKED: usize = 24;

/// So many ports in a row that were tried before mean that there are no others.
const NOTHING_NEW: usize = 3;
