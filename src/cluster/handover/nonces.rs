//! The headers that were used, so that none is used twice.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::header::{Nonce, Refused, WINDOW};

/// The nonces of the last while.
#[derive(Debug, Default)]
pub(super) struct Nonces(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    nonces: HashSet<Nonce>,
    by_age: VecDeque<(Instant, Nonce)>,
}

/// A header from the future is good until its time has passed by the window: twice that.
const REMEMBERED: Duration = WINDOW.saturating_mul(2);

/// More than 4,000 connections a second, in about 20 MiB. Only who has the key gets a nonce in here.
const MOST: usize = 1 << 18;

impl Nonces {
    /// Remembers the nonce of a header that was verified, if it was not used before.
    pub(super) fn remember(&self, nonce: Nonce, now: Instant) -> Result<(), Refused> {
        let mut seen = self.0.lock();
        while let Some((at, old)) = seen.by_age.front().copied()
            && now.saturating_duration_since(at) > REMEMBERED
        {
            seen.by_age.pop_front();
            seen.nonces.remove(&old);
        }
        if seen.nonces.contains(&nonce) {
            return Err(Refused::Replayed);
        }
        // to forget one of them would let its header in again
        if seen.nonces.len() >= MOST {
            return Err(Refused::Busy);
        }
        seen.nonces.insert(nonce);
        seen.by_age.push_back((now, nonce));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(number: usize) -> Nonce {
        (number as u128).to_be_bytes()
    }

    #[test]
    fn a_nonce_is_remembered_for_as_long_as_its_header_may_be_good() {
        let (nonces, began) = (Nonces::default(), Instant::now());
        assert_eq!(nonces.remember(nonce(1), began), Ok(()));
        assert_eq!(
            nonces.remember(nonce(1), began + REMEMBERED),
            Err(Refused::Replayed)
        );
        let later = began + REMEMBERED + Duration::from_millis(1);
        assert_eq!(nonces.remember(nonce(2), later), Ok(()));
        assert_eq!(nonces.0.lock().nonces.len(), 1);
    }

    #[test]
    fn a_full_memory_refuses_and_forgets_none() {
        let (nonces, began) = (Nonces::default(), Instant::now());
        for number in 0..MOST {
            assert_eq!(nonces.remember(nonce(number), began), Ok(()));
        }
        assert_eq!(nonces.remember(nonce(MOST), began), Err(Refused::Busy));
        assert_eq!(nonces.remember(nonce(0), began), Err(Refused::Replayed));
    }
}
