//! The latest failures, in plain words, for the status page.
//!
//! Bounded twice: a ring holds the last [`MAX_FAILURES`] failures, and each text in it is cut. The same failure again is counted,
//! not listed again, so that a device that fails every second doesn't push out what else happened.

use std::collections::VecDeque;
use std::net::IpAddr;

use std::time::SystemTime;

use parking_lot::Mutex;

/// Failures that a ring holds.
pub const MAX_FAILURES: usize = 50;

/// Bytes of each text; a path may be as long as a line.
const TEXT_BYTES: usize = 512;

/// The last failures, the newest last. Only failures touch it.
#[derive(Debug, Default)]
pub struct Failures(Mutex<VecDeque<Failure>>);

/// A transfer, another command or a login that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When, the last time.
    pub at: SystemTime,
    /// The number of times, since it was the last of its kind.
    pub times: u64,
    /// Whose; empty before the login.
    pub user: String,
    /// From where.
    pub client: IpAddr,
    /// The command, such as `STOR`, or `login`.
    pub verb: &'static str,
    /// The name that it was about; empty for a login.
    pub path: String,
    /// The code of the reply.
    pub code: u16,
    /// Why, in plain words.
    pub cause: String,
}

impl Failure {
    /// A failure now. `what` is the command and its path.
    pub fn new(
        user: &str,
        client: IpAddr,
        what: (&'static str, &str),
        code: u16,
        cause: String,
    ) -> Self {
        Failure {
            at: SystemTime::now(),
            times: 1,
            user: cut(user),
            client: client.to_canonical(),
            verb: what.0,
            path: cut(what.1),
            code,
            cause: cut(&cause),
        }
    }

    fn is_like(&self, other: &Failure) -> bool {
        (self.client, self.verb, self.code) == (other.client, other.verb, other.code)
            && self.user == other.user
            && self.path == other.path
            && self.cause == other.cause
    }
}

impl Failures {
    /// Keeps a failure.
    pub fn note(&self, mut failure: Failure) {
        let mut kept = self.0.lock();
        if let Some(at) = kept.iter().position(|other| other.is_like(&failure)) {
            failure.times += kept.remove(at).map_or(0, |before| before.times);
        } else if kept.len() == MAX_FAILURES {
            kept.pop_front();
        }
        kept.push_back(failure);
    }

    /// All that are kept, the newest last.
    pub fn list(&self) -> Vec<Failure> {
        let kept = self.0.lock();
        kept.iter().cloned().collect()
    }
}

fn cut(text: &str) -> String {
    if text.len() <= TEXT_BYTES {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(TEXT_BYTES)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(path: &str) -> Failure {
        let client = IpAddr::from([192, 0, 2, 1]);
        Failure::new("camera", client, ("STOR", path), 426, "stalled".to_owned())
    }

    #[test]
    fn only_the_last_ones_are_kept_and_no_text_is_long() {
        let failures = Failures::default();
        for number in 0..MAX_FAILURES + 10 {
            failures.note(failure(&format!("/{number}{}", "ä".repeat(10_000))));
        }
        let kept = failures.list();
        assert_eq!(kept.len(), MAX_FAILURES);
        assert!(kept[0].path.starts_with("/10ä"));
        assert!(kept.iter().all(|failure| failure.path.len() < 600));
    }

    #[test]
    fn the_same_failure_again_is_counted_and_is_the_newest() {
        let failures = Failures::default();
        for path in ["/a", "/b", "/a", "/a"] {
            failures.note(failure(path));
        }
        let kept: Vec<(String, u64)> = failures
            .list()
            .into_iter()
            .map(|failure| (failure.path, failure.times))
            .collect();
        assert_eq!(kept, [("/b".to_owned(), 1), ("/a".to_owned(), 3)]);
    }
}
