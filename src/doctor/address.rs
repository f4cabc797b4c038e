//! The verdict on the address and the ports that a gateway sends its clients: pure functions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::connect::Unreachable;
use super::report::Verdict;
use crate::masquerade::is_private;

/// A passive data connection, tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tried {
    /// The address of the 227 reply.
    pub told: (Ipv4Addr, u16),
    /// Where the control connection goes.
    pub control: IpAddr,
    /// Of the connection to the advertised address.
    pub there: Result<(), Unreachable>,
    /// Of one to the control connection's address, where that is another one and the first failed.
    pub at_control: Option<Result<(), Unreachable>>,
}

/// The result of PASV and the connection after it.
pub(super) fn judge(tried: &Tried) -> Verdict {
    let (address, port) = tried.told;
    let control = tried.control.to_canonical();
    let told = format!("told {address}:{port}");
    let is_same = IpAddr::V4(address) == control;
    let mend = if control.is_ipv4() && !is_private(control) {
        format!("set masquerade_address to what clients connect to, {control}")
    } else {
        "set masquerade_address to the address that your clients connect to".to_owned()
    };
    match (&tried.there, &tried.at_control) {
        (Ok(()), _) if address.is_unspecified() => Verdict::warning(
            format!(
                "{told}, which many clients take to mean the address of the control connection, and others refuse"
            ),
            "let one address stand for the gateway (masquerade.multiple: first, or masquerade_address)",
        ),
        (Ok(()), _) if is_same => Verdict::ok(format!("{told}, and it connects")),
        (Ok(()), _) if is_private(address.into()) && !is_private(control) => Verdict::warning(
            format!(
                "{told}, which connects from here and not from outside of this network: clients there report that the \
                 server sent an unroutable address"
            ),
            mend,
        ),
        (Ok(()), _) => Verdict::ok(format!(
            "{told}, which connects, though the control connection goes to {control}"
        )),
        (Err(error), Some(Ok(()))) if is_private(control) && !is_private(address.into()) => {
            Verdict::warning(
                format!(
                    "{told}, which does not connect from inside ({error}), as balancers often refuse; {control}:{port} works"
                ),
                "examine it from outside, where the clients are; those in here need EPSV, or masquerade.internal_cidrs",
            )
        }
        (Err(error), Some(Ok(()))) => {
            let seen = match error {
                Unreachable::NoRoute => "\"No route to host\" is what clients report",
                _ if address.is_loopback() => "clients would connect to themselves",
                _ if is_private(address.into()) => {
                    "\"server sent unroutable address\" is what clients report, or they wait in vain"
                }
                _ => "clients wait in vain",
            };
            Verdict::failed(
                format!(
                    "{told}, where no connection comes about ({error}); {control}:{port} works, so the address is wrong: \
                     {seen}"
                ),
                mend,
            )
        }
        (Err(error), at_control) => {
            let both = match at_control {
                Some(Err(other)) if other == error => format!(", nor does {control}:{port}"),
                Some(Err(other)) => format!(", nor does {control}:{port} ({other})"),
                _ => String::new(),
            };
            Verdict::failed(
                format!(
                    "{told}, which does not connect ({error}){both}: login works, and every listing and transfer fails"
                ),
                match at_control {
                    // two faults: the address is of no use out here, and the port is closed
                    Some(Err(other)) if is_private(address.into()) && !is_private(control) => {
                        format!("{mend}; besides, {}", blocked(*other))
                    }
                    _ => blocked(*error),
                },
            )
        }
    }
}

/// The result of the passive ports that were tried.
pub(super) fn judge_ports(tried: &BTreeMap<u16, Result<(), Unreachable>>) -> Verdict {
    let bad = tried.iter().filter_map(|(port, result)| {
        let error = result.as_ref().err()?;
        Some((*port, *error))
    });
    let bad: Vec<(u16, Unreachable)> = bad.collect();
    let all: Vec<String> = tried.keys().map(u16::to_string).collect();
    let Some((_, first)) = bad.first() else {
        return Verdict::ok(format!(
            "{} tried, all connect: {}",
            all.len(),
            all.join(", ")
        ));
    };
    let named: Vec<String> = bad
        .iter()
        .map(|(port, error)| format!("{port} ({error})"))
        .collect();
    let finding = if bad.len() == tried.len() {
        format!("none of {} connects: {}", all.len(), named.join(", "))
    } else {
        format!(
            "{} of {} do not connect, so some transfers fail and others do not: {}",
            bad.len(),
            all.len(),
            named.join(", ")
        )
    };
    Verdict::failed(finding, blocked(*first))
}

/// The remedy for ports that can't be reached.
pub(super) fn blocked(error: Unreachable) -> String {
    format!(
        "{}; open all of passive.ports on the way to the gateway: firewall, security group, listeners of the balancer, \
         ports of the Service, and what masquerade.mapping_file says",
        error.cause()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    const CONTROL: [u8; 4] = [203, 0, 113, 7];

    fn tried(
        told: [u8; 4],
        control: [u8; 4],
        there: Result<(), Unreachable>,
        at_control: Option<Result<(), Unreachable>>,
    ) -> Verdict {
        judge(&Tried {
            told: (told.into(), 30_000),
            control: IpAddr::from(control),
            there,
            at_control,
        })
    }

    #[test]
    fn an_address_that_works_is_fine_unless_others_can_not_use_it() {
        let ok = tried(CONTROL, CONTROL, Ok(()), None);
        assert_eq!(ok.outcome, Outcome::Ok);
        let inside = tried([10, 0, 0, 5], CONTROL, Ok(()), None);
        assert_eq!(inside.outcome, Outcome::Warning);
        assert!(inside.finding.contains("unroutable"), "{inside:?}");
        let any = tried([0, 0, 0, 0], CONTROL, Ok(()), None);
        assert_eq!(any.outcome, Outcome::Warning);
        let other = tried([198, 51, 100, 1], CONTROL, Ok(()), None);
        assert_eq!(other.outcome, Outcome::Ok);
        let internal = tried([10, 0, 0, 5], [10, 0, 0, 6], Ok(()), None);
        assert_eq!(internal.outcome, Outcome::Ok);
    }

    #[test]
    fn a_wrong_address_and_a_blocked_port_are_distinguished() {
        let wrong = tried(
            [10, 0, 0, 5],
            CONTROL,
            Err(Unreachable::Silent),
            Some(Ok(())),
        );
        assert_eq!(wrong.outcome, Outcome::Failed);
        assert!(wrong.finding.contains("server sent unroutable address"));
        let fix = wrong.fix.expect("a fix");
        assert!(fix.contains("masquerade_address") && fix.contains("203.0.113.7"));
        let no_route = Err(Unreachable::NoRoute);
        let wrong = tried([10, 0, 0, 5], CONTROL, no_route, Some(Ok(())));
        assert!(wrong.finding.contains("No route to host"), "{wrong:?}");

        let blocked = tried(CONTROL, CONTROL, Err(Unreachable::Silent), None);
        assert_eq!(blocked.outcome, Outcome::Failed);
        let fix = blocked.fix.expect("a fix");
        assert!(
            fix.contains("passive.ports") && fix.contains("drops"),
            "{fix}"
        );
        let nobody = Err(Unreachable::Refused);
        let both = tried(
            [10, 0, 0, 5],
            CONTROL,
            Err(Unreachable::Silent),
            Some(nobody),
        );
        assert!(
            both.finding
                .contains("nor does 203.0.113.7:30000 (connection refused)")
        );
        let fix = both.fix.expect("both of them");
        assert!(
            fix.contains("masquerade_address to what clients connect to, 203.0.113.7")
                && fix.contains("passive.ports"),
            "{fix}"
        );
        let inside = [10, 0, 0, 6];
        let wrong = tried(
            [10, 0, 0, 5],
            inside,
            Err(Unreachable::Silent),
            Some(Ok(())),
        );
        let fix = wrong.fix.expect("a fix");
        assert!(fix.contains("that your clients connect to") && !fix.contains("10.0.0.6"));
    }

    #[test]
    fn a_public_address_that_fails_from_inside_says_little() {
        let inside = tried(
            CONTROL,
            [10, 0, 0, 6],
            Err(Unreachable::Silent),
            Some(Ok(())),
        );
        assert_eq!(inside.outcome, Outcome::Warning);
        assert!(inside.fix.expect("a fix").contains("from outside"));
    }

    #[test]
    fn a_partly_opened_range_is_seen() {
        let refused = Err(Unreachable::Refused);
        let ports = |results: &[Result<(), Unreachable>]| {
            let numbered = (30_000..).zip(results.iter().copied());
            judge_ports(&numbered.collect())
        };
        assert_eq!(ports(&[Ok(()), Ok(())]).outcome, Outcome::Ok);
        let some = ports(&[Ok(()), refused, Ok(())]);
        assert_eq!(some.outcome, Outcome::Failed);
        assert!(
            some.finding.contains("1 of 3") && some.finding.contains("30001 (connection refused)")
        );
        assert!(ports(&[refused]).finding.starts_with("none of 1"));
    }
}
