//! The other replicas, to which data connections are handed over, and with which failed logins are shared.

use futures::future::join_all;

use super::examination::CheckResult;
use super::report::Verdict;
use crate::cluster::handover;
use crate::config::Handover;

/// Asks the handover port of every replica that there is a slice for. One that isn't there may be scaled down.
pub(super) async fn replicas(settings: &Handover) -> CheckResult<()> {
    let others = (0..settings.replicas()).filter(|ordinal| *ordinal != settings.ordinal);
    let asked = others.take(MOST).map(async |ordinal| {
        let place = match settings.peers.of(ordinal) {
            Some((name, port)) => format!("replica {ordinal} ({name}:{port})"),
            None => format!("replica {ordinal}"),
        };
        (place, handover::examine(settings, ordinal).await)
    });
    let answers = join_all(asked).await;
    let bad: Vec<String> = answers
        .iter()
        .filter_map(|(place, answer)| Some(format!("{place}: {}", answer.as_ref().err()?)))
        .collect();
    if bad.is_empty() {
        let count = answers.len();
        let verdict = Verdict::ok(format!(
            "{count} other replicas take connections of this one"
        ));
        return (Some(()), verdict);
    }
    let fix = "start the replicas that are missing, or if there are to be fewer let their ports go; handover.peers must lead to \
               their handover.listen, network policies let it through, handover.key be the same everywhere, and clocks run alike";
    let finding = bad.join("; ");
    let verdict = match bad.len() < answers.len() {
        true => Verdict::warning(finding, fix),
        false => Verdict::failed(finding, fix),
    };
    (None, verdict)
}

/// Replicas that are asked, all at once.
const MOST: usize = 100;
