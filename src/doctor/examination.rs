//! Runs checks one after the other, each within its time, and all within theirs.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::report::{Check, Report, Verdict};

/// Time limits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// All checks together; what was left behind is removed afterwards, within one step.
    pub all: Duration,
    /// One check.
    pub step: Duration,
    /// Ends the checks before their time; what was left behind is removed all the same.
    pub stop: CancellationToken,
}

impl Limits {
    /// So much in all, and for one check a third of it, or [`Limits::STEP`] if that is less.
    pub fn within(all: Duration) -> Self {
        let step = (all / 3).min(Self::STEP);
        Limits {
            all,
            step,
            stop: CancellationToken::new(),
        }
    }

    /// Longer than any of the gateway's answers takes that still is one.
    pub const STEP: Duration = Duration::from_secs(10);
}

/// A report in the making.
pub(super) struct Examination {
    report: Report,
    limits: Limits,
    ends: Instant,
}

/// The result of a check: something for the next ones, if it went well enough, and what is to be said.
pub(super) type CheckResult<T> = (Option<T>, Verdict);

impl Examination {
    pub fn new(subject: String, limits: Limits) -> Self {
        Examination {
            report: Report {
                subject,
                checks: Vec::new(),
            },
            ends: Instant::now() + limits.all,
            limits,
        }
    }

    /// Time for the next check, for those that have several tries and want to report all of them.
    pub fn time_left(&self) -> Duration {
        let left = self.ends.saturating_duration_since(Instant::now());
        left.min(self.limits.step)
    }

    /// Does one check and returns what it yields.
    pub async fn step<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = CheckResult<T>>,
    ) -> Option<T> {
        let within = self.time_left();
        if within.is_zero() {
            let verdict = Verdict::failed("the time was up", "--timeout gives more");
            self.add(name, Duration::ZERO, verdict);
            return None;
        }
        let stop = self.limits.stop.clone();
        // the store's requests are large, and moved several times
        let work = Box::pin(work);
        let work = async {
            tokio::select! {
                biased;
                () = stop.cancelled() => (None, Verdict::failed("ended by a signal", "start it again")),
                found = work => found,
            }
        };
        self.within(name, within, work).await
    }

    /// Time for [`Examination::tidy_up`].
    pub fn tidying(&self) -> Duration {
        self.limits.step
    }

    /// Removes what was left behind; done even after the time for the checks is over.
    pub async fn tidy_up(&mut self, name: &str, work: impl Future<Output = Verdict>) {
        let work = Box::pin(work);
        let work = async { (Some(()), work.await) };
        self.within(name, self.limits.step, work).await;
    }

    async fn within<T>(
        &mut self,
        name: &str,
        within: Duration,
        work: impl Future<Output = CheckResult<T>>,
    ) -> Option<T> {
        let begun = Instant::now();
        let (found, verdict) = tokio::time::timeout(within, work)
            .await
            .unwrap_or_else(|_| (None, too_late(within)));
        self.add(name, begun.elapsed(), verdict);
        found
    }

    /// A check that needs no waiting.
    pub fn note(&mut self, name: &str, verdict: Verdict) {
        self.add(name, Duration::ZERO, verdict);
    }

    /// Those of `names` that have not been done get to be skipped.
    pub fn skip_rest(&mut self, names: &[&str], reason: &str) {
        for name in names {
            if !self.report.checks.iter().any(|check| check.name == *name) {
                self.note(name, Verdict::skipped(reason));
            }
        }
    }

    pub fn finish(self) -> Report {
        self.report
    }

    fn add(&mut self, name: &str, took: Duration, verdict: Verdict) {
        self.report.checks.push(Check {
            name: name.to_owned(),
            outcome: verdict.outcome,
            finding: verdict.finding,
            fix: verdict.fix,
            took,
        });
    }
}

fn too_late(within: Duration) -> Verdict {
    Verdict::failed(
        format!("no answer within {:.1} s", within.as_secs_f64()),
        "look for a firewall that drops packets on the way, or an overloaded machine; --timeout gives more time",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Outcome;

    #[tokio::test(start_paused = true)]
    async fn every_check_and_all_of_them_end_in_time() {
        let limits = Limits::within(Duration::from_secs(12));
        assert_eq!(limits.step, Duration::from_secs(4));
        let mut examination = Examination::new("x".to_owned(), limits);
        let begun = Instant::now();
        for name in ["a", "b", "c", "d"] {
            let never = std::future::pending::<CheckResult<()>>();
            assert!(examination.step(name, never).await.is_none());
        }
        examination
            .tidy_up("e", async { Verdict::ok("gone") })
            .await;
        assert_eq!(begun.elapsed(), Duration::from_secs(12));
        examination.skip_rest(&["a", "f"], "of a");
        let checks = examination.finish().checks;
        let outcomes: Vec<_> = checks.iter().map(|check| check.outcome).collect();
        use Outcome::{Failed, Ok, Skipped};
        assert_eq!(outcomes, [Failed, Failed, Failed, Failed, Ok, Skipped]);
        assert!(checks[0].finding.contains("within 4.0 s"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_ends_the_checks_and_not_the_tidying() {
        let limits = Limits::within(Duration::from_secs(12));
        let stop = limits.stop.clone();
        let mut examination = Examination::new("x".to_owned(), limits);
        let begun = Instant::now();
        let stopped = async {
            stop.cancel();
            std::future::pending::<CheckResult<()>>().await
        };
        assert!(examination.step("a", stopped).await.is_none());
        let next = async { (Some(()), Verdict::ok("done")) };
        assert!(examination.step("b", next).await.is_none());
        let gone = async { Verdict::ok("gone") };
        examination.tidy_up("c", gone).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let checks = examination.finish().checks;
        let outcomes: Vec<_> = checks.iter().map(|check| check.outcome).collect();
        assert_eq!(outcomes, [Outcome::Failed, Outcome::Failed, Outcome::Ok]);
        assert_eq!(checks[0].finding, "ended by a signal");
    }
}
