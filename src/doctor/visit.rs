//! A client's way into a gateway: connection, greeting, TLS, login. Each step says what it saw.
//!
//! Invariant: a password goes out only over TLS with a trusted certificate, over TLS with `--insecure`, or in clear where
//! the server is on this machine and refuses TLS, or `--tls off` asks for it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::net::lookup_host;

use super::connect::{self, Control, Unreachable};
use super::examination::CheckResult;
use super::report::Verdict;
use super::trust::{Handshake, Trust};
use super::{Login, Security, Target};
use crate::chain::Chain;
use crate::ftp::connections::ADDRESS_REFUSED;
use crate::ftp_client::printable;
use crate::ftp_client::{Broken, Reply};

/// Resolves the name and connects to the first address that answers.
pub(super) async fn connect(target: &Target, within: Duration) -> CheckResult<Control> {
    let Target { host, port, .. } = target;
    let addresses: Vec<SocketAddr> = match lookup_host((host.as_str(), *port)).await {
        Ok(addresses) => addresses.take(MAX_ADDRESSES).collect(),
        Err(error) => {
            let finding = format!("the name {host} does not resolve ({error})");
            let fix = "check the spelling, and the record in the DNS";
            return (None, Verdict::failed(finding, fix));
        }
    };
    let each = within / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    let mut failures = Vec::new();
    for address in addresses {
        let error = match connect::connect(address, each).await {
            Ok(socket) => match connect::control(socket) {
                Ok(control) => {
                    let verdict = match failures.as_slice() {
                        [] => Verdict::ok(format!("connected to {address}")),
                        failures => Verdict::warning(
                            format!("connected to {address} only; {}", listed(failures)),
                            "remove the address that does not answer from the DNS, or let the gateway listen there",
                        ),
                    };
                    return (Some(control), verdict);
                }
                Err(error) => Unreachable::of(&error),
            },
            Err(error) => error,
        };
        failures.push((address, error));
    }
    let cause = failures
        .first()
        .map_or("the name has no address", |(_, error)| error.cause());
    let fix = format!(
        "{cause}; check that the gateway runs, that listen (or the Service) has this port, and the firewalls between"
    );
    (None, Verdict::failed(listed(&failures), fix))
}

fn listed(failures: &[(SocketAddr, Unreachable)]) -> String {
    let each = failures.iter();
    let each = each.map(|(address, error)| format!("{address}: {error}"));
    each.collect::<Vec<_>>().join(", ")
}

/// The greeting.
pub(super) async fn greeting(control: &mut Control) -> CheckResult<()> {
    match control.reply().await {
        Ok(reply) if reply.code == 220 => (Some(()), Verdict::ok(reply.to_string())),
        Ok(reply) if reply.code == 421 && reply.to_string().contains(ADDRESS_REFUSED) => (
            None,
            Verdict::failed(
                format!("the gateway refuses this address: {reply}"),
                "take it out of access.deny, or add it to access.allow; behind a proxy or balancer it is the address that the gateway sees",
            ),
        ),
        Ok(reply) if reply.code == 421 => (
            None,
            Verdict::failed(
                format!("the gateway turns clients away: {reply}"),
                "wait, or raise sessions.max and sessions.max_per_ip; behind a balancer that hides the clients' \
                 addresses all of them count as one",
            ),
        ),
        Ok(reply) => (
            None,
            Verdict::failed(
                format!("not the greeting of an FTP server: {reply}"),
                WRONG_SERVER,
            ),
        ),
        Err(error) => (None, Verdict::failed(told(&error), WRONG_SERVER)),
    }
}

/// The features of the server.
pub(super) async fn features(control: &mut Control) -> CheckResult<Reply> {
    match control.command("FEAT").await {
        Ok(reply) if reply.code == 211 => {
            let inner = reply.lines.len().saturating_sub(2);
            let names: Vec<&str> = reply
                .lines
                .iter()
                .skip(1)
                .take(inner)
                .map(|line| line.trim())
                .collect();
            let finding = printable(&names.join(", "));
            (Some(reply), Verdict::ok(finding))
        }
        // RFC 2389 is no duty
        Ok(reply) => {
            let finding = format!("none are told: {reply}");
            (Some(reply), Verdict::ok(finding))
        }
        Err(error) => (None, broken(&error)),
    }
}

/// AUTH TLS and the handshake.
pub(super) async fn secure(mut control: Control, trust: &Trust) -> CheckResult<Control> {
    match control.command("AUTH TLS").await {
        Ok(reply) if reply.code == 234 => handshake(control, trust).await,
        Ok(reply) => (
            None,
            Verdict::failed(
                format!("AUTH TLS is refused: {reply}"),
                "set tls.cert and tls.key, or leave --tls explicit out",
            ),
        ),
        Err(error) => (None, broken(&error)),
    }
}

/// AUTH TLS though FEAT does not list it, which somebody on the way may have seen to. Yields whether there is TLS now.
pub(super) async fn secure_unlisted(
    mut control: Control,
    trust: &Trust,
) -> CheckResult<(Control, bool)> {
    match control.command("AUTH TLS").await {
        Ok(reply) if reply.code == 234 => {
            let (control, mut verdict) = handshake(control, trust).await;
            if control.is_some() {
                verdict = Verdict::warning(
                    format!("{}, which FEAT does not list", verdict.finding),
                    "something on the way may change the gateway's replies: clients that believe them send passwords in \
                     clear; tls.required refuses that",
                );
            }
            (control.map(|control| (control, true)), verdict)
        }
        Ok(reply) => {
            let finding = format!(
                "the gateway offers no TLS: passwords and files travel in clear (AUTH TLS: {reply})"
            );
            let verdict = Verdict::warning(finding, WITHOUT_TLS);
            (Some((control, false)), verdict)
        }
        Err(error) => (None, broken(&error)),
    }
}

/// True if a password may go to `peer`. In clear it stays on this machine, unless that is what was asked for.
pub(super) fn may_send_password(security: Security, peer: IpAddr, private: bool) -> bool {
    private || security == Security::Off || peer.to_canonical().is_loopback()
}

/// The handshake on the control connection.
pub(super) async fn handshake(control: Control, trust: &Trust) -> CheckResult<Control> {
    match control.wrapped(async |wire| trust.wrap(wire).await).await {
        Ok((control, Handshake { spoken, .. })) => (Some(control), Verdict::ok(spoken)),
        Err(error) => {
            let fix = if told(&error).contains("CertificateRequired") {
                "the gateway asks for client certificates (tls.client_cert: required), which the doctor has none of"
            } else {
                "is this the port for the --tls that was chosen? Implicit TLS has a port of its own (tls.implicit_listen)"
            };
            let finding = format!("the handshake fails: {}", told(&error));
            (None, Verdict::failed(finding, fix))
        }
    }
}

/// USER and PASS, and what transfers need next.
pub(super) async fn log_in(control: &mut Control, login: &Login, private: bool) -> CheckResult<()> {
    match try_log_in(control, login).await {
        Ok(reply) if reply.code == 230 => {}
        Ok(reply) => {
            let fix = match reply.code {
                530 => {
                    "name or password is wrong, or the user may not come from this address (allow_from) or not without \
                     TLS (require_tls); the gateway's log has the reason"
                }
                421 => {
                    "locked out after failures (auth.lockout.*), too many sessions of this user (max_sessions), or \
                     auth.http.url or auth.ldap.url does not answer; the gateway's log has the reason"
                }
                503 | 522 | 534 | 550 if !private => {
                    "the gateway wants TLS (tls.required); leave --tls off out"
                }
                _ => "the gateway's log has the reason",
            };
            return (None, Verdict::failed(reply.to_string(), fix));
        }
        Err(error) => return (None, broken(&error)),
    }
    let prepare: &[&str] = if private {
        &["TYPE I", "PBSZ 0", "PROT P"]
    } else {
        &["TYPE I"]
    };
    for line in prepare {
        match control.command(line).await {
            Ok(reply) if reply.code == 200 => {}
            Ok(reply) => {
                let finding = format!("{line} is refused: {reply}");
                let fix = "this gateway is older than this doctor, or no cosgate";
                return (None, Verdict::failed(finding, fix));
            }
            Err(error) => return (None, broken(&error)),
        }
    }
    let how = match private {
        true => "over TLS, data connections are to be protected, too",
        false => "in clear",
    };
    let finding = format!("{} logged in, {how}", printable(&login.user));
    (Some(()), Verdict::ok(finding))
}

async fn try_log_in(control: &mut Control, login: &Login) -> Result<Reply, Broken> {
    let reply = control.command(&format!("USER {}", login.user)).await?;
    if reply.code != 331 {
        return Ok(reply);
    }
    let line = format!("PASS {}", login.password.expose_secret());
    let line = secrecy::zeroize::Zeroizing::new(line);
    control.command(&line).await
}

/// The gateway was reached a moment ago.
const AGAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// All steps once more and without a word, to remove what was left behind when the first connection was lost.
pub(super) async fn again(target: &Target, trust: &Trust, private: bool) -> Option<Control> {
    let login = target.login.as_ref()?;
    let mut control = connect(target, AGAIN_TIMEOUT).await.0?;
    if target.security == Security::Implicit {
        control = handshake(control, trust).await.0?;
    }
    greeting(&mut control).await.0?;
    if private && target.security != Security::Implicit {
        control = secure(control, trust).await.0?;
    }
    let trusted = |seen: super::trust::Seen| seen.is_trusted() || target.insecure;
    if private && !trust.seen().is_some_and(trusted) {
        return None;
    }
    if !may_send_password(target.security, control.peer.ip(), private) {
        return None;
    }
    log_in(&mut control, login, private).await.0?;
    Some(control)
}

/// Of a connection that is of no use any more.
pub(super) fn broken(error: &Broken) -> Verdict {
    Verdict::failed(
        told(error),
        "the gateway's log has the reason; balancers and firewalls on the way may close connections, too",
    )
}

pub(super) fn told(error: &Broken) -> String {
    printable(&Chain(error).to_string())
}

pub(super) const WITHOUT_TLS: &str =
    "set tls.cert and tls.key, and tls.required once all clients can do it";

const WRONG_SERVER: &str = "check the port: 21 or 2121 for FTP and explicit TLS; a server that says nothing may want TLS at once \
                            (--tls implicit), or a PROXY header from this address (proxy_protocol.trusted)";

/// A name may have many addresses; the first few have to do.
const MAX_ADDRESSES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_leaves_this_machine_in_clear_only_when_asked_to() {
        for (security, peer, private, may) in [
            (Security::Auto, "203.0.113.7", false, false),
            (Security::Auto, "10.0.0.7", false, false),
            (Security::Auto, "203.0.113.7", true, true),
            (Security::Auto, "127.0.0.1", false, true),
            (Security::Auto, "::ffff:127.0.0.1", false, true),
            (Security::Explicit, "203.0.113.7", false, false),
            (Security::Off, "203.0.113.7", false, true),
        ] {
            let peer: IpAddr = peer.parse().expect("an address");
            let told = may_send_password(security, peer, private);
            assert_eq!(told, may, "{security:?} {peer} {private}");
        }
    }
}
