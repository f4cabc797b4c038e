//! Pages that hold nothing and wait for the next part; [`Buffers`](super::Buffers) has the lock and the budget.

use memmap2::MmapMut;

use crate::store::budget::FIRST_BLOCK;
use crate::store::error::StoreError;

/// The most buffers of first blocks that are kept, 4 MiB in memory. Each has the addresses of a whole part.
pub(super) const MOST_FIRST_BLOCKS: usize = 64;

/// The pages of a part.
#[derive(Debug)]
pub(super) struct Pages {
    pub map: MmapMut,
    /// So many bytes from the start were another part's before, and may be in memory.
    pub present: usize,
}

impl Pages {
    /// Pages that take no memory until they are written.
    pub fn fresh(bytes: usize) -> Result<Self, StoreError> {
        let map = MmapMut::map_anon(bytes).map_err(|_| StoreError::NoMemory)?;
        // one byte must not take 2 MiB: a small file is granted 64 KiB. A kernel that knows no huge pages refuses, rightly.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::NoHugePage);
        Ok(Pages { map, present: 0 })
    }
}

/// Buffers that hold nothing, and what leaves room for them.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// With all their pages.
    whole: Spare,
    /// With the pages of a first block.
    first: Spare,
    /// Bytes that living buffers may fill. Not what the budget has granted: that has a grant for each part that was
    /// waiting when an idle buffer was kept for it, and this buffer must not make way for its own grant.
    pub in_use: u64,
    /// True while a task looks after them.
    pub swept: bool,
}

impl Idle {
    pub fn is_empty(&self) -> bool {
        self.whole.pages.is_empty() && self.first.pages.is_empty()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        self.whole.bytes + self.first.bytes
    }

    /// A buffer of `bytes`, of which no more than `granted` are in memory; all of them, if there is such a one.
    pub fn take(&mut self, bytes: usize, granted: usize) -> Option<Pages> {
        let whole = self.take_whole(bytes, granted);
        whole.or_else(|| self.first.take(bytes, granted))
    }

    /// A buffer of `bytes` with all its pages, if all are `granted`.
    pub fn take_whole(&mut self, bytes: usize, granted: usize) -> Option<Pages> {
        self.whole.take(bytes, granted)
    }

    /// Keeps a buffer with all its pages, or with those of a first block. Returns the one that goes to the kernel instead.
    pub fn keep(&mut self, pages: Pages) -> Option<Pages> {
        if pages.present == pages.map.len() {
            self.whole.put(pages);
            None
        } else if pages.present as u64 <= FIRST_BLOCK {
            self.first.put(pages);
            // the oldest one, since it may be of a length that nobody asks for any more
            (self.first.pages.len() > MOST_FIRST_BLOCKS).then(|| self.first.remove(0))
        } else {
            Some(pages)
        }
    }

    /// Takes out what doesn't fit into `room` bytes of memory.
    pub fn make_way(&mut self, room: u64) -> Vec<Pages> {
        let mut surplus = Vec::new();
        while self.bytes() > room {
            // a first block is the cheaper one to make anew
            let spare = match self.first.pages.is_empty() {
                true => &mut self.whole,
                false => &mut self.first,
            };
            surplus.push(spare.remove(0));
        }
        surplus
    }

    /// Counts from now on what is not needed.
    pub fn watch(&mut self) {
        self.whole.fewest = self.whole.pages.len();
        self.first.fewest = self.first.pages.len();
    }

    /// Takes out what was not needed since the last call.
    pub fn surplus(&mut self) -> Vec<Pages> {
        let mut surplus = self.whole.surplus();
        surplus.append(&mut self.first.surplus());
        surplus
    }
}

/// Idle buffers of one kind, those that were used last at the end.
#[derive(Debug, Default)]
struct Spare {
    pages: Vec<Pages>,
    /// Bytes of them in memory.
    bytes: u64,
    /// The fewest there were since the last sweep: so many are not needed.
    fewest: usize,
}

impl Spare {
    fn put(&mut self, pages: Pages) {
        self.bytes += pages.present as u64;
        self.pages.push(pages);
    }

    /// The last one that was used and that fits: its pages are the likeliest to be in a cache.
    fn take(&mut self, bytes: usize, granted: usize) -> Option<Pages> {
        let fits = |pages: &Pages| pages.map.len() == bytes && pages.present <= granted;
        let at = self.pages.iter().rposition(fits)?;
        Some(self.remove(at))
    }

    fn remove(&mut self, at: usize) -> Pages {
        let pages = self.pages.remove(at);
        self.bytes -= pages.present as u64;
        self.fewest = self.fewest.min(self.pages.len());
        pages
    }

    /// Takes out what was not needed since the last call: the oldest ones, since the others were used.
    fn surplus(&mut self) -> Vec<Pages> {
        let kept = self.pages.split_off(self.fewest);
        self.fewest = kept.len();
        let surplus = std::mem::replace(&mut self.pages, kept);
        let bytes = surplus.iter().map(|pages| pages.present as u64);
        self.bytes -= bytes.sum::<u64>();
        surplus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: usize = 1 << 20;

    fn with(bytes: usize, present: usize) -> Pages {
        let fresh = Pages::fresh(bytes).expect("there is memory");
        Pages { present, ..fresh }
    }

    #[test]
    fn the_oldest_of_too_many_first_blocks_goes() {
        let mut idle = Idle::default();
        for _ in 0..MOST_FIRST_BLOCKS {
            assert!(idle.keep(with(PART, 4096)).is_none());
        }
        // of a length that nobody asked for before: the oldest one makes room
        let oldest = idle.keep(with(PART / 2, 4096)).expect("one is too many");
        assert_eq!(oldest.map.len(), PART);
        assert_eq!(idle.bytes(), 4096 * MOST_FIRST_BLOCKS as u64);
        assert!(idle.take(PART / 2, 4096).is_some());
    }

    #[test]
    fn first_blocks_make_way_before_whole_ones() {
        let mut idle = Idle::default();
        for present in [PART, 4096, PART, 4096] {
            assert!(idle.keep(with(PART, present)).is_none());
        }
        let gone = idle.make_way(PART as u64);
        let present: Vec<usize> = gone.iter().map(|pages| pages.present).collect();
        assert_eq!(present, [4096, 4096, PART]);
        assert_eq!(idle.bytes(), PART as u64);
    }

    #[test]
    fn each_kind_is_swept_by_its_own_need() {
        let mut idle = Idle::default();
        let _ = (idle.keep(with(PART, PART)), idle.keep(with(PART, 4096)));
        idle.watch();
        let used = idle.take_whole(PART, PART).expect("it is there");
        let _ = idle.keep(used);
        let gone = idle.surplus();
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].present, 4096, "nobody needed it");
        assert_eq!(idle.surplus().len(), 1);
        assert!(idle.is_empty() && idle.bytes() == 0);
    }
}
