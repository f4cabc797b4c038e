//! A limit on how often one kind of log line is written.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Passes one line per interval and counts the others, so that a flood of one fault is no flood of log lines.
#[derive(Debug)]
pub struct LineLimit {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl LineLimit {
    /// A limit of one line per `interval`.
    pub const fn per(interval: Duration) -> Self {
        let state = State {
            last: None,
            left_out: 0,
        };
        LineLimit {
            interval,
            state: Mutex::new(state),
        }
    }

    /// True if the line is to be written now; if so, how many like it were left out since the last.
    pub fn pass(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.last.is_some_and(|at| at.elapsed() < self.interval) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_passes_and_the_next_says_how_many_did_not() {
        let limit = LineLimit::per(Duration::from_millis(50));
        assert_eq!(limit.pass(), Some(0));
        let begun = Instant::now();
        let mut left_out = 0;
        let passed = loop {
            match limit.pass() {
                Some(count) => break count,
                None => left_out += 1,
            }
        };
        assert_eq!(passed, left_out);
        assert!(begun.elapsed() >= Duration::from_millis(40));
        assert!(left_out > 0);
    }
}
