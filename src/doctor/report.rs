//! The findings, for people and for programs.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::{Serialize, Serializer};

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// It works, or works for some clients; somebody should look at it.
    Warning,
    /// It does not work.
    Failed,
    /// It was not looked at; the finding says why.
    Skipped,
}

/// The verdict on one thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The verdict.
    pub outcome: Outcome,
    /// The observation; no secret, no control character.
    pub finding: String,
    /// The remedy.
    pub fix: Option<String>,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The subject; stable, for programs.
    pub name: String,
    /// The verdict.
    pub outcome: Outcome,
    /// The observation.
    pub finding: String,
    /// The remedy.
    pub fix: Option<String>,
    /// The time it took.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub took: Duration,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The subject of the examination.
    pub subject: String,
    /// In the order in which it was done.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// As it should be.
    pub fn ok(finding: impl Into<String>) -> Self {
        Verdict {
            outcome: Outcome::Ok,
            finding: finding.into(),
            fix: None,
        }
    }

    /// It works, but.
    pub fn warning(finding: impl Into<String>, fix: impl Into<String>) -> Self {
        Verdict {
            outcome: Outcome::Warning,
            fix: Some(fix.into()),
            finding: finding.into(),
        }
    }

    /// It does not work.
    pub fn failed(finding: impl Into<String>, fix: impl Into<String>) -> Self {
        Verdict {
            outcome: Outcome::Failed,
            fix: Some(fix.into()),
            finding: finding.into(),
        }
    }

    /// It was not looked at.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Verdict {
            outcome: Outcome::Skipped,
            finding: reason.into(),
            fix: None,
        }
    }
}

impl Check {
    /// True if both were skipped for one reason, so that it need not be reported twice.
    fn is_skipped_like(&self, other: &Check) -> bool {
        self.outcome == Outcome::Skipped
            && other.outcome == Outcome::Skipped
            && self.finding == other.finding
    }
}

impl Report {
    /// The worst of the checks; what was skipped is no trouble by itself.
    pub fn outcome(&self) -> Outcome {
        let any = |wanted| self.checks.iter().any(|check| check.outcome == wanted);
        if any(Outcome::Failed) {
            Outcome::Failed
        } else if any(Outcome::Warning) {
            Outcome::Warning
        } else {
            Outcome::Ok
        }
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        let all = serde_json::json!({
            "subject": self.subject,
            "outcome": self.outcome(),
            "checks": self.checks,
        });
        all.to_string()
    }

    fn count(&self, wanted: Outcome) -> usize {
        let checks = self.checks.iter();
        checks.filter(|check| check.outcome == wanted).count()
    }
}

/// A table for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.subject)?;
        let names = self.checks.iter().map(|check| check.name.chars().count());
        let width = names.max().unwrap_or(0);
        let margin = " ".repeat(OUTCOME_WIDTH + width + 4);
        let runs = self.checks.chunk_by(Check::is_skipped_like);
        for (check, same) in runs.filter_map(<[Check]>::split_first) {
            let mut text = check.finding.clone();
            if check.took >= WORTH_TELLING {
                let _ = write!(text, " ({}ms)", check.took.as_millis());
            }
            let (word, name) = (check.outcome.word(), &check.name);
            if !same.is_empty() {
                let names: Vec<&str> = same.iter().map(|check| check.name.as_str()).collect();
                let _ = write!(text, "; so are: {}", names.join(", "));
            }
            let lines = wrapped(&text);
            let first = lines.first().map_or("", String::as_str);
            writeln!(f, "  {word:OUTCOME_WIDTH$}{name:width$}  {first}")?;
            let fix = check
                .fix
                .iter()
                .flat_map(|fix| wrapped(&format!("-> {fix}")));
            for line in lines.iter().skip(1).cloned().chain(fix) {
                writeln!(f, "{margin}{line}")?;
            }
        }
        writeln!(
            f,
            "{} checks: {} ok, {} with a warning, {} failed, {} skipped",
            self.checks.len(),
            self.count(Outcome::Ok),
            self.count(Outcome::Warning),
            self.count(Outcome::Failed),
            self.count(Outcome::Skipped),
        )
    }
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        }
    }
}

/// Lines of at most [`TEXT_WIDTH`] characters, broken between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= TEXT_WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn seconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((took.as_secs_f64() * 1e3).round() / 1e3)
}

/// The longest word for an outcome, and two spaces.
const OUTCOME_WIDTH: usize = 9;

/// With the columns before it, a terminal of 120 columns is not exceeded.
const TEXT_WIDTH: usize = 88;

/// Shorter times say nothing to people.
const WORTH_TELLING: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: &[Outcome]) -> Report {
        let checks = outcomes.iter().map(|outcome| Check {
            name: "login".to_owned(),
            outcome: *outcome,
            finding: "530 Login incorrect".to_owned(),
            fix: Some("check the password".to_owned()),
            took: Duration::from_micros(12_400),
        });
        Report {
            subject: "gateway ftp.example.com:21".to_owned(),
            checks: checks.collect(),
        }
    }

    #[test]
    fn the_worst_counts_and_what_was_skipped_does_not() {
        use Outcome::{Failed, Ok, Skipped, Warning};
        for (outcomes, worst) in [
            (&[][..], Ok),
            (&[Ok, Skipped], Ok),
            (&[Ok, Warning, Skipped], Warning),
            (&[Failed, Warning], Failed),
        ] {
            assert_eq!(report(outcomes).outcome(), worst, "{outcomes:?}");
        }
    }

    #[test]
    fn people_see_a_table_with_the_fix_below() {
        let text = report(&[Outcome::Failed]).to_string();
        assert_eq!(
            text,
            "gateway ftp.example.com:21\n  FAILED   login  530 Login incorrect (12ms)\n                  \
             -> check the password\n1 checks: 0 ok, 0 with a warning, 1 failed, 0 skipped\n"
        );
    }

    #[test]
    fn one_reason_to_skip_is_reported_once() {
        let mut skipped = report(&[Outcome::Skipped; 3]);
        for (check, name) in skipped.checks.iter_mut().zip(["login", "pasv", "epsv"]) {
            (check.name, check.fix) = (name.to_owned(), None);
            (check.finding, check.took) = ("no --user was given".to_owned(), Duration::ZERO);
        }
        let text = skipped.to_string();
        let line = "  skipped  login  no --user was given; so are: pasv, epsv\n3 checks";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn programs_see_one_object() {
        let json: serde_json::Value =
            serde_json::from_str(&report(&[Outcome::Warning]).json()).expect("JSON");
        assert_eq!(json["outcome"], "warning");
        assert_eq!(json["checks"][0]["name"], "login");
        assert_eq!(json["checks"][0]["seconds"], 0.012);
        assert_eq!(json["checks"][0]["fix"], "check the password");
    }
}
