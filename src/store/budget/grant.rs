//! The memory of one upload: it grows, shrinks and is given back.

use super::*;

impl Grant {
    /// Bytes that may be held.
    pub fn bytes(&self) -> u64 {
        self.portions.iter().map(|portion| portion.bytes).sum()
    }

    /// Widens the grant if that is possible at once.
    ///
    /// The first time it may come to less than was asked for: a first block, which is there also when nothing else is.
    pub fn try_grow(&mut self, ask: Ask) -> bool {
        let held = self.bytes();
        if ask.bytes <= held {
            return true;
        }
        let budget = Arc::clone(&self.budget);
        let is_lacking = budget.is_lacking();
        let mut state = budget.state();
        let is_first = held == 0;
        let mut taken = None;
        if is_first && !is_lacking && ask.bytes > FIRST_BLOCK {
            taken = state.take_shared(self.holder, ask.bytes);
        }
        if is_first && taken.is_none() {
            taken = state.take_small(ask.bytes);
        }
        let want = self.want(ask);
        if taken.is_none() {
            taken = state.take_shared(self.holder, want.step);
        }
        if taken.is_none() && state.line.is_empty() {
            let users = state.users().max(1);
            if state.may_have_reservation(self.holder, want, users) == May::Have {
                taken = Some(state.take_reservation(self.holder, want));
            }
        }
        drop(state);
        let Some(taken) = taken else {
            return false;
        };
        self.portions.push(budget.portion(self.holder, taken));
        true
    }

    /// Widens the grant as [`Grant::try_grow`] does, and waits for that.
    ///
    /// The wait is what slows the client down by TCP backpressure; [`StoreError::NoMemory`] after the bound given to
    /// [`Budget::new`]. Cancel safe.
    pub async fn grow(&mut self, ask: Ask) -> Result<(), StoreError> {
        if self.try_grow(ask) {
            return Ok(());
        }
        let budget = Arc::clone(&self.budget);
        let (mut waiting, mut granted) = budget.queue_up(self.holder, self.want(ask));
        let portion = match tokio::time::timeout(LACK, &mut granted).await {
            Ok(portion) => portion,
            Err(_) => {
                waiting.is_lack = true;
                budget.lacking.send_modify(|lacking| *lacking += 1);
                let left = budget.wait.saturating_sub(waiting.since.elapsed());
                let portion = tokio::time::timeout(left, granted).await;
                portion.map_err(|_| StoreError::NoMemory)?
            }
        };
        self.portions
            .push(portion.map_err(|_| StoreError::NoMemory)?);
        Ok(())
    }

    /// True if a reservation is a part of it.
    pub fn is_reservation(&self) -> bool {
        let is_reservation = |portion: &Portion| matches!(portion.area, Area::Reserve(_));
        self.portions.iter().any(is_reservation)
    }

    /// Gives back what was granted beyond `bytes`, but for a reservation: whoever has one needs all of it.
    pub fn shrink(&mut self, bytes: u64) {
        if self.is_reservation() {
            return;
        }
        let mut surplus = self.bytes().saturating_sub(bytes);
        while surplus > 0
            && let Some(last) = self.portions.last_mut()
        {
            let less = last.bytes.min(surplus);
            surplus -= less;
            last.give_back(less);
            if last.bytes == 0 {
                self.portions.pop();
            }
        }
    }

    fn want(&self, ask: Ask) -> Want {
        let held = self.bytes();
        Want {
            step: ask.bytes.saturating_sub(held),
            reservation: ask.enough.max(ask.bytes).saturating_sub(held),
            is_slow: ask.within > SLOW_AFTER,
        }
    }
}

impl Portion {
    fn give_back(&mut self, bytes: u64) {
        self.bytes -= bytes;
        let mut state = self.budget.state();
        state.give_back(self.holder, self.area, bytes);
        self.budget.serve(state);
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.give_back(self.bytes);
        }
    }
}
