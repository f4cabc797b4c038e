//! The resources of this machine: ports, memory, file descriptors; and whether the gateway runs here.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

use bytesize::ByteSize;

use super::examination::{CheckResult, Examination};
use super::report::Verdict;
use crate::chain::Chain;
use crate::config::{self, Config};
use crate::descriptors::{self, Descriptors};
use crate::ftp_client::printable;
use crate::health::{self, HealthError, Question};

/// Asks the gateway on this host how it is; yields whether one runs.
pub(super) async fn gateway(config: &Config) -> CheckResult<bool> {
    let alive = health::ask(config.admin.listen, Question::Alive).await;
    if let Err(error) = alive {
        let running = !matches!(error, HealthError::Off | HealthError::NoAnswer { .. });
        let verdict = match running {
            false => Verdict::skipped(printable(&error.to_string())),
            true => Verdict::failed(printable(&error.to_string()), "look at the gateway's log"),
        };
        return (Some(running), verdict);
    }
    let verdict = match health::ask(config.admin.listen, Question::Ready).await {
        Ok(words) => Verdict::ok(format!("runs on this host: {}", printable(&words))),
        Err(error) => Verdict::failed(
            format!(
                "runs on this host: {}",
                printable(&Chain(&error).to_string())
            ),
            "the reasons stand there; the checks below go into them",
        ),
    };
    (Some(true), verdict)
}

/// Ports, memory, file descriptors. `running`: a gateway has the ports.
pub(super) fn examine(examination: &mut Examination, config: &Config, running: bool) {
    let addresses = addresses(config);
    let held = Held::by(running, config.admin.listen.is_some());
    examination.note("control ports", control_ports(&listeners(config), held));
    let in_use = in_use(&addresses, &config.bound_ports());
    let ephemeral = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let ephemeral = ephemeral.ok().and_then(|text| range(&text));
    let behind_balancer = config.kubernetes.in_cluster || config.kubernetes.service.is_some();
    let ports = ports(
        config.bound_ports(),
        &in_use,
        held,
        ephemeral,
        behind_balancer,
    );
    examination.note("passive ports", ports);
    let budgets = (config.upload.memory_budget, config.download.memory_budget);
    examination.note("memory", memory(budgets, config::memory_limit()));
    let limit = Descriptors::of(config, descriptors::hard_limit());
    examination.note("file descriptors", descriptors_verdict(&limit, config));
}

/// Known facts about who has this configuration's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// The gateway that runs here.
    ByGateway,
    /// No gateway that answers.
    NotByGateway,
    /// There may be a gateway, which can't be asked.
    Unknown,
}

impl Held {
    fn by(running: bool, can_ask: bool) -> Self {
        match (running, can_ask) {
            (true, _) => Held::ByGateway,
            (false, true) => Held::NotByGateway,
            (false, false) => Held::Unknown,
        }
    }
}

/// Where clients connect.
fn listeners(config: &Config) -> BTreeSet<SocketAddr> {
    let implicit = config.tls.iter().flat_map(|tls| &tls.implicit_listen);
    config.listen.iter().chain(implicit).copied().collect()
}

/// The addresses on which passive ports are bound.
fn addresses(config: &Config) -> BTreeSet<IpAddr> {
    listeners(config).iter().map(SocketAddr::ip).collect()
}

/// Why nothing can be bound there, if it can't.
fn unbound(address: SocketAddr) -> Option<io::ErrorKind> {
    TcpListener::bind(address).err().map(|error| error.kind())
}

/// Ports that can't be had on one of the addresses.
fn in_use(addresses: &BTreeSet<IpAddr>, ports: &RangeInclusive<u16>) -> Vec<(u16, io::ErrorKind)> {
    let reason = |port| {
        let mut each = addresses.iter();
        each.find_map(|address| unbound((*address, port).into()))
    };
    let each = ports.clone();
    each.filter_map(|port| Some((port, reason(port)?)))
        .collect()
}

/// The verdict on the ports to which clients connect.
fn control_ports(listeners: &BTreeSet<SocketAddr>, held: Held) -> Verdict {
    let all: Vec<String> = listeners.iter().map(SocketAddr::to_string).collect();
    let all = all.join(", ");
    if held == Held::ByGateway {
        return Verdict::ok(format!("{all}, the gateway that runs here has them"));
    }
    let bad = listeners.iter();
    let bad = bad.filter_map(|address| Some((address.to_string(), unbound(*address)?)));
    match bad.collect::<Vec<_>>().as_slice() {
        [] => Verdict::ok(format!("{all}, free")),
        bad @ [(_, first), ..] => {
            let named: Vec<String> = bad
                .iter()
                .map(|(address, kind)| format!("{address} ({kind})"))
                .collect();
            let finding = format!("can't be bound: {}", named.join(", "));
            unbindable(finding, *first, held, "listen")
        }
    }
}

/// Of ports that can't be bound for this reason.
fn unbindable(finding: String, kind: io::ErrorKind, held: Held, key: &str) -> Verdict {
    let fix = match kind {
        io::ErrorKind::AddrInUse if held == Held::Unknown => {
            return Verdict::warning(
                finding,
                format!(
                    "if this gateway has them, all is well: set admin.listen so that it can be asked; if not, choose \
                     another {key}, or end the program that has them (ss -ltnp)"
                ),
            );
        }
        io::ErrorKind::AddrInUse => format!(
            "choose another {key}, or end the program that has them (ss -ltnp); if it is this gateway, correct \
             admin.listen so that it can be asked"
        ),
        io::ErrorKind::AddrNotAvailable => {
            "listen names an address that this machine does not have; 0.0.0.0 and [::] stand for all of them".to_owned()
        }
        io::ErrorKind::PermissionDenied => format!(
            "choose another {key} from 1024 on, or allow this user the lower ports (CAP_NET_BIND_SERVICE, \
             net.ipv4.ip_unprivileged_port_start)"
        ),
        _ => format!("choose another {key}"),
    };
    Verdict::failed(finding, fix)
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

/// The verdict on the passive ports.
fn ports(
    ports: RangeInclusive<u16>,
    in_use: &[(u16, io::ErrorKind)],
    held: Held,
    ephemeral: Option<RangeInclusive<u16>>,
    behind_balancer: bool,
) -> Verdict {
    let (first, last, count) = (*ports.start(), *ports.end(), ports.len());
    let about = format!("{first}-{last}, {count} ports");
    let state = match (held, in_use) {
        (Held::ByGateway, _) => "the gateway that runs here has them",
        (_, []) => "all of them are free",
        (_, [(_, kind), ..]) => {
            let some = in_use.iter().take(8);
            let some: Vec<String> = some.map(|(port, _)| port.to_string()).collect();
            let finding = format!(
                "{about}, {} of which can't be bound ({kind}): {}",
                in_use.len(),
                some.join(", ")
            );
            return unbindable(finding, *kind, held, "passive.ports");
        }
    };
    let overlaps = ephemeral
        .as_ref()
        .filter(|range| *range.start() <= last && first <= *range.end());
    if let Some(range) = overlaps {
        return Verdict::warning(
            format!(
                "{about}, {state}; they overlap with the kernel's ephemeral ports, {}-{}, so that another program may have \
                 one of them at the next start",
                range.start(),
                range.end()
            ),
            "choose passive.ports outside net.ipv4.ip_local_port_range, or reserve them by \
             net.ipv4.ip_local_reserved_ports",
        );
    }
    if count + 1 > USUAL_LISTENERS && behind_balancer {
        return Verdict::warning(
            format!(
                "{about}, {state}; with the control port they are more than the {USUAL_LISTENERS} listeners that most load balancers have"
            ),
            format!(
                "make passive.ports smaller than {USUAL_LISTENERS}, or raise the balancer's quota"
            ),
        );
    }
    Verdict::ok(format!("{about}, {state}"))
}

/// The verdict on the memory budgets for uploads and downloads.
fn memory((upload, download): (u64, u64), limit: Option<u64>) -> Verdict {
    let sum = upload + download;
    let about = format!(
        "upload.memory_budget {} and download.memory_budget {}",
        ByteSize(upload),
        ByteSize(download)
    );
    let Some(limit) = limit else {
        return Verdict::ok(format!("{about}; this container has no limit"));
    };
    let about = format!(
        "{about}, of {} that this container may have",
        ByteSize(limit)
    );
    let fix = "lower the budgets, or raise the container's limit: connections, TLS and the allocator need a quarter of it";
    if sum > limit {
        Verdict::failed(format!("{about}: the kernel would kill the gateway"), fix)
    } else if sum > limit / 4 * 3 {
        Verdict::warning(about, fix)
    } else {
        Verdict::ok(about)
    }
}

/// The verdict on the limit of file descriptors, to which the gateway raises its own.
fn descriptors_verdict(limit: &Descriptors, config: &Config) -> Verdict {
    let about = format!(
        "{} are allowed here, sessions.max = {} may need {}",
        limit.limit, config.sessions.max, limit.needed
    );
    match limit.shortage() {
        None => Verdict::ok(about),
        Some(_) => Verdict::warning(
            format!("{about}; only {} sessions are accepted", limit.sessions),
            limit.remedy(),
        ),
    }
}

/// Tencent's CLB and Amazon's NLB have so many by default.
const USUAL_LISTENERS: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn passive_ports_are_held_against_everything_around_them() {
        let ephemeral = || Some(32_768..=60_999);
        let outcome = |range, in_use: &[u16], running, behind| {
            let in_use = in_use.iter().map(|port| (*port, io::ErrorKind::AddrInUse));
            let in_use: Vec<_> = in_use.collect();
            let held = Held::by(running, true);
            ports(range, &in_use, held, ephemeral(), behind).outcome
        };
        assert_eq!(outcome(30_000..=30_015, &[], false, true), Outcome::Ok);
        assert_eq!(
            outcome(30_000..=30_015, &[30_001], false, false),
            Outcome::Failed
        );
        assert_eq!(
            outcome(30_000..=30_015, &[30_001], true, false),
            Outcome::Ok
        );
        assert_eq!(
            outcome(32_760..=32_770, &[], false, false),
            Outcome::Warning
        );
        assert_eq!(outcome(30_000..=30_099, &[], false, true), Outcome::Warning);
        assert_eq!(outcome(30_000..=30_099, &[], false, false), Outcome::Ok);
        assert_eq!(range("32768\t60999\n"), ephemeral());
        assert_eq!(range("x"), None);
    }

    #[test]
    fn the_reason_why_a_port_cannot_be_had_makes_the_advice() {
        let said = |kind, held| unbindable("x".to_owned(), kind, held, "listen");
        let in_use = io::ErrorKind::AddrInUse;
        assert_eq!(said(in_use, Held::Unknown).outcome, Outcome::Warning);
        for (kind, words) in [
            (in_use, "ss -ltnp"),
            (io::ErrorKind::AddrNotAvailable, "does not have"),
            (io::ErrorKind::PermissionDenied, "CAP_NET_BIND_SERVICE"),
        ] {
            let verdict = said(kind, Held::NotByGateway);
            assert_eq!(verdict.outcome, Outcome::Failed, "{kind}");
            assert!(verdict.fix.expect("a fix").contains(words), "{kind}");
        }
    }

    #[test]
    fn budgets_have_to_leave_room() {
        const GIB: u64 = 1 << 30;
        assert_eq!(memory((GIB, GIB), None).outcome, Outcome::Ok);
        assert_eq!(memory((GIB, GIB), Some(4 * GIB)).outcome, Outcome::Ok);
        assert_eq!(
            memory((2 * GIB, 3 * GIB / 2), Some(4 * GIB)).outcome,
            Outcome::Warning
        );
        assert_eq!(
            memory((2 * GIB, 3 * GIB), Some(4 * GIB)).outcome,
            Outcome::Failed
        );
    }

    #[test]
    fn descriptors_have_to_last_for_all_sessions() {
        let config = config::load_from(None, std::iter::empty());
        let config = config.expect("the defaults are valid").config;
        let verdict = |limit| descriptors_verdict(&Descriptors::of(&config, limit), &config);
        assert_eq!(verdict(1_048_576).outcome, Outcome::Ok);
        let few = verdict(1024);
        assert_eq!(few.outcome, Outcome::Warning);
        assert!(few.finding.contains("only 88 sessions"), "{}", few.finding);
        assert!(few.fix.expect("a fix").contains("sessions.max to 88"));
    }
}
