//! A running gateway, examined from where clients stand.

use std::collections::BTreeMap;
use std::time::Duration;

use super::data::{Upload, Visitor, judge_handshake};
use super::examination::{CheckResult, Examination, Limits};
use super::report::{Report, Verdict};
use super::trust::Trust;
use super::{Security, Target, random_name, visit};
use crate::chain::Chain;
use crate::ftp_client::printable;
use crate::health::{self, Question};

/// All checks, in the order in which most of them are done.
const CHECKS: [&str; 14] = [
    "connect",
    "greeting",
    "features",
    "tls",
    "certificate",
    "login",
    "pasv",
    "epsv",
    "passive ports",
    "upload",
    "data tls",
    "size",
    "download",
    "delete",
];

/// Examines the gateway; an error is one of usage.
pub async fn examine_gateway(target: &Target, limits: Limits) -> Result<Report, String> {
    let trust = Trust::new(&target.host, target.ca.as_deref())?;
    let subject = format!("gateway {}, as a client sees it", target.address());
    let mut examination = Examination::new(subject, limits);
    let reason = match visit_all(&mut examination, target, &trust).await {
        Ok(()) => "not needed",
        Err(reason) => reason,
    };
    examination.skip_rest(&CHECKS, reason);
    Ok(examination.finish())
}

/// Goes as far as it gets; an error is the reason why it ends.
async fn visit_all(
    examination: &mut Examination,
    target: &Target,
    trust: &Trust,
) -> Result<(), &'static str> {
    if let Some((host, port)) = &target.admin {
        let asked = readiness(host, *port);
        examination.step("readiness", asked).await;
    }
    let within = examination.time_left();
    let arrived = visit::connect(target, within.mul_f32(0.9));
    let found = examination.step("connect", arrived).await;
    let mut control = found.ok_or("there is no connection")?;
    let implicit = target.security == Security::Implicit;
    if implicit {
        let found = examination.step("tls", visit::handshake(control, trust));
        control = found.await.ok_or(NO_TLS)?;
    }
    let greeted = examination.step("greeting", visit::greeting(&mut control));
    greeted.await.ok_or("there is no greeting")?;
    let features = examination.step("features", visit::features(&mut control));
    let features = features.await.ok_or(BROKEN)?;
    let offered = features.lists("AUTH TLS") || features.lists("AUTH SSL");
    let explicit = match target.security {
        Security::Implicit | Security::Off => false,
        Security::Explicit => true,
        Security::Auto => offered,
    };
    let mut private = explicit || implicit;
    if explicit {
        let found = examination.step("tls", visit::secure(control, trust));
        control = found.await.ok_or(NO_TLS)?;
    } else if target.security == Security::Auto && target.login.is_some() {
        let found = examination.step("tls", visit::secure_unlisted(control, trust));
        (control, private) = found.await.ok_or(NO_TLS)?;
    } else if !implicit {
        examination.note("tls", without(target.security, offered));
    }
    let mut shown = None;
    if private {
        let seen = trust.seen().ok_or("no certificate was shown")?;
        examination.note("certificate", seen.verdict(&target.host, target.insecure));
        if !seen.is_trusted() && !target.insecure {
            return Err(
                "a password is not sent to a server whose certificate is not trusted; --ca FILE names its authority, \
                 --insecure goes on",
            );
        }
        shown = Some(seen);
    } else {
        examination.note("certificate", Verdict::skipped("the connection has no TLS"));
    }
    let Some(login) = &target.login else {
        let _ = control.command("QUIT").await;
        return Err("no --user was given");
    };
    if !visit::may_send_password(target.security, control.peer.ip(), private) {
        let verdict = Verdict::failed(
            "the gateway offers no TLS, or something on the way hides it: the password is not sent in clear",
            "set tls.cert and tls.key; --tls off sends the password in clear",
        );
        examination.note("login", verdict);
        return Err("there is no login");
    }
    let logged_in = examination.step("login", visit::log_in(&mut control, login, private));
    logged_in.await.ok_or("there is no login")?;
    let mut visitor = Visitor {
        control,
        trust: private.then_some(trust),
        ways: Vec::new(),
        ports: BTreeMap::new(),
        storing: false,
        shown,
        insecure: target.insecure,
    };
    examination
        .step("pasv", visitor.pasv())
        .await
        .ok_or(BROKEN)?;
    examination
        .step("epsv", visitor.epsv())
        .await
        .ok_or(BROKEN)?;
    let within = examination.time_left().mul_f32(0.8);
    let ports = examination.step("passive ports", visitor.ports(within));
    ports.await.ok_or(BROKEN)?;
    if visitor.ways.is_empty() {
        return Err("there is no data connection");
    }
    transfer(examination, target, trust, visitor).await
}

/// Reasons in a row, each fit to be printed.
fn reasons(text: &str) -> String {
    // a gateway has fewer; what comes is a peer's word
    const MOST: usize = 16;
    let each: Vec<String> = text.split("; ").take(MOST).map(printable).collect();
    each.join("; ")
}

/// The gateway's own readiness.
async fn readiness(host: &str, port: u16) -> CheckResult<()> {
    let verdict = match health::ask_at(host, port, Question::Ready).await {
        Ok(words) if words == "ready" => Verdict::ok(words),
        Ok(words) => Verdict::warning(reasons(&words), "the notes say what is amiss"),
        Err(error) => Verdict::failed(
            reasons(&Chain(&error).to_string()),
            "the reasons stand there; without an answer: is the port right, and open for this host?",
        ),
    };
    (Some(()), verdict)
}

/// A file goes there and back, and is removed whatever happens.
async fn transfer(
    examination: &mut Examination,
    target: &Target,
    trust: &Trust,
    mut visitor: Visitor<'_>,
) -> Result<(), &'static str> {
    let directory = target.directory.as_deref().unwrap_or_default();
    let slash = if directory.is_empty() || directory.ends_with('/') {
        ""
    } else {
        "/"
    };
    let path = format!("{directory}{slash}{}", random_name());
    let bytes: Vec<u8> = (0..PROBE_BYTES).map(|at| (at % 251) as u8).collect();
    let stored = examination
        .step("upload", visitor.upload(&path, &bytes))
        .await;
    let was_stored = matches!(stored, Some(Upload::Stored(_)));
    let handshake = match stored {
        Some(Upload::Stored(handshake)) => Some(handshake),
        Some(Upload::MayNot) => examination.step("listing", visitor.list()).await,
        None => None,
    };
    if let Some(handshake) = handshake {
        let verdict = match handshake {
            Some(handshake) => judge_handshake(&handshake),
            None => Verdict::skipped("data connections are in clear"),
        };
        examination.note("data tls", verdict);
    }
    if was_stored {
        examination
            .step("size", visitor.size(&path, bytes.len()))
            .await;
        if visitor.control.owes_reply() {
            examination.note("download", Verdict::skipped(BROKEN));
        } else {
            examination
                .step("download", visitor.download(&path, &bytes))
                .await;
        }
    }
    let private = visitor.trust.is_some();
    let within = examination.tidying();
    let patience = within.mul_f32(0.3);
    let removed = async {
        // what is still owed would be taken for the answer
        if !visitor.control.owes_reply() {
            let first = visitor.delete(&path, was_stored, patience);
            if let Ok(Some(verdict)) = tokio::time::timeout(within.mul_f32(0.4), first).await {
                return Some(verdict);
            }
        }
        // the connection is lost, and the file may be there: once more from the start
        visitor.control.close();
        visitor.control = visit::again(target, trust, private).await?;
        visitor.delete(&path, was_stored, patience).await
    };
    let removed = async {
        let removed = tokio::time::timeout(within.mul_f32(0.9), removed).await;
        removed.ok().flatten().unwrap_or_else(|| {
            Verdict::failed(
                format!("{path} may be left behind: the connection was lost"),
                "remove the file by other means",
            )
        })
    };
    examination.tidy_up("delete", removed).await;
    let _ = tokio::time::timeout(QUIT_TIMEOUT, visitor.control.command("QUIT")).await;
    match was_stored {
        true => Ok(()),
        false => Err("nothing was stored"),
    }
}

/// The verdict where TLS is not spoken.
fn without(security: Security, offered: bool) -> Verdict {
    if offered {
        Verdict::skipped("--tls off; the gateway offers it")
    } else if security == Security::Off {
        Verdict::skipped("--tls off")
    } else {
        Verdict::warning(
            "the gateway offers no TLS: passwords and files travel in clear",
            visit::WITHOUT_TLS,
        )
    }
}

const NO_TLS: &str = "there is no TLS";
const BROKEN: &str = "the connection is of no use any more";

/// More than one packet and one TLS record, and nothing to wait for.
const PROBE_BYTES: usize = 100_000;

/// For the farewell over a connection that may be dead.
const QUIT_TIMEOUT: Duration = Duration::from_secs(3);
