//! Buffers for the parts of uploads: pages of their own, handed on from part to part.
//!
//! Invariant: the pages in use and those kept for the next part never exceed the budget together.
//!
//! Why not a `Vec`: an allocator keeps freed blocks of this size in the arenas of whichever threads freed them, and the
//! process grows to several times the budget; or it returns each to the kernel, and every part pays for its pages anew
//! (0.2 to 0.3 s of CPU time per GiB). Here each buffer is an anonymous map, so its memory is that of the bytes in it and
//! goes when it does. A buffer whose part was acknowledged is kept for whoever fills the next one, and the pages that
//! nobody wanted for a while go back to the kernel. The same with a first block, which is all that a small file fills: to unmap one
//! interrupts all other threads. What lies between is unmapped.

mod idle;

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use crate::store::budget::{Ask, Budget, FIRST_BLOCK, Grant, Holder};
use crate::store::buffer::idle::{Idle, Pages};
use crate::store::error::StoreError;

/// Buffers that were not needed for this long are given back to the kernel: longer than the pause between two files of
/// one client, short beside the life of a process.
const IDLE_LIFETIME: Duration = Duration::from_secs(5);

/// The part buffers of all uploads of one store.
#[derive(Debug)]
pub struct Buffers {
    budget: Arc<Budget>,
    idle: Mutex<Idle>,
}

/// The bytes of one part and the leave to hold them. Dropped, it is there for the next part.
#[derive(Debug)]
pub(super) struct PartBuffer {
    buffers: Arc<Buffers>,
    pages: Option<Pages>,
    filled: usize,
    /// Bytes that may be filled: the buffer may be larger than what is granted so far.
    capacity: usize,
    grant: Grant,
    /// The part of the grant that counts as in use.
    counted: u64,
}

impl Buffers {
    /// Buffers within `budget`.
    pub fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Buffers {
            budget,
            idle: Mutex::default(),
        })
    }

    /// Their bound.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// A buffer without room for a part of `holder`; [`PartBuffer::widen`] gives it some.
    pub(super) fn part(self: &Arc<Self>, holder: Holder) -> PartBuffer {
        PartBuffer {
            buffers: Arc::clone(self),
            pages: None,
            filled: 0,
            capacity: 0,
            grant: self.budget.grant(holder),
            counted: 0,
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock()
    }

    /// Counts a grant that was widened by `more` bytes; returns the idle buffer that `choose` takes. Idle buffers that no longer fit beside
    /// what is in use go back to the kernel.
    fn widened(&self, more: u64, choose: impl FnOnce(&mut Idle) -> Option<Pages>) -> Option<Pages> {
        let mut idle = self.idle();
        idle.in_use += more;
        let taken = choose(&mut idle);
        let room = self.budget.total().saturating_sub(idle.in_use);
        let surplus = idle.make_way(room);
        // unmapping takes a while, so not under the lock
        drop(idle);
        drop(surplus);
        taken
    }

    /// Uncounts a grant of `bytes`, and keeps its pages if all of them were granted, or only a first block. The caller gives the grant back
    /// afterwards, so that whoever gets it finds the buffer here.
    fn ended(self: &Arc<Self>, bytes: u64, pages: Option<Pages>) {
        let runtime = tokio::runtime::Handle::try_current();
        let mut idle = self.idle();
        idle.in_use -= bytes;
        let (Some(mut pages), Ok(runtime)) = (pages, runtime) else {
            return;
        };
        pages.present = bytes.min(pages.map.len() as u64) as usize;
        let surplus = idle.keep(pages);
        if !idle.is_empty() && !std::mem::replace(&mut idle.swept, true) {
            idle.watch();
            runtime.spawn(sweep(Arc::downgrade(self)));
        }
        drop(idle);
        drop(surplus);
    }

    /// Takes out what was not needed since the last call; `None` if nothing is left to look after.
    fn surplus(&self) -> Option<Vec<Pages>> {
        let mut idle = self.idle();
        if idle.is_empty() {
            idle.swept = false;
            return None;
        }
        Some(idle.surplus())
    }
}

/// Ends when there are no idle buffers, or no store any more.
async fn sweep(buffers: Weak<Buffers>) {
    loop {
        tokio::time::sleep(IDLE_LIFETIME).await;
        match buffers.upgrade().and_then(|buffers| buffers.surplus()) {
            Some(surplus) => drop(surplus),
            None => return,
        }
    }
}

impl PartBuffer {
    /// Bytes in it.
    pub fn len(&self) -> u64 {
        self.filled as u64
    }

    /// Bytes that it may hold so far.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Leaves more room, as [`Grant::grow`] does: the bytes that are asked for, or more; less only as the first room of
    /// all. `part_bytes` is the most that this part can ever need, the same in every call. Cancel safe.
    pub async fn widen(&mut self, ask: Ask, part_bytes: u64) -> Result<(), StoreError> {
        self.grant.grow(ask).await?;
        self.granted(part_bytes)
    }

    /// Does the same if it needs no wait, and says whether it did.
    pub fn try_widen(&mut self, ask: Ask, part_bytes: u64) -> Result<bool, StoreError> {
        let grown = self.grant.try_grow(ask);
        self.granted(part_bytes)?;
        Ok(grown)
    }

    fn granted(&mut self, part_bytes: u64) -> Result<(), StoreError> {
        let granted = self.grant.bytes();
        if granted == self.counted {
            return Ok(());
        }
        let more = granted - self.counted;
        self.counted = granted;
        let bytes = usize::try_from(part_bytes).map_err(|_| StoreError::NoMemory)?;
        let granted = usize::try_from(granted).map_err(|_| StoreError::NoMemory)?;
        let is_small = self.filled as u64 <= FIRST_BLOCK;
        // what is in memory has to be granted
        let idle = self.buffers.widened(more, |idle| match &self.pages {
            None => idle.take(bytes, granted),
            // a first block is copied soon
            Some(own) if is_small && own.present < bytes => idle.take_whole(bytes, granted),
            Some(_) => None,
        });
        let own = self.pages.take();
        let pages = match (idle, own) {
            (Some(mut pages), Some(own)) => {
                pages.map[..self.filled].copy_from_slice(&own.map[..self.filled]);
                pages
            }
            (Some(pages), None) | (None, Some(pages)) => pages,
            (None, None) => Pages::fresh(bytes)?,
        };
        self.capacity = granted.min(pages.map.len());
        self.pages = Some(pages);
        Ok(())
    }

    /// Bytes that [`PartBuffer::shrink`] can give back.
    pub fn surplus(&self) -> u64 {
        if self.grant.is_reservation() {
            return 0;
        }
        (self.capacity - self.filled) as u64
    }

    /// Gives back the room that is not filled, but for `spare` bytes; a buffer that is sure to be filled keeps it.
    pub fn shrink(&mut self, spare: u64) -> Result<(), StoreError> {
        self.grant.shrink(self.filled as u64 + spare);
        let granted = self.grant.bytes();
        if granted == self.counted {
            return Ok(());
        }
        if let Some(pages) = &mut self.pages
            && pages.present as u64 > granted
        {
            let mut fresh = Pages::fresh(pages.map.len())?;
            fresh.map[..self.filled].copy_from_slice(&pages.map[..self.filled]);
            *pages = fresh;
        }
        self.buffers.idle().in_use -= self.counted - granted;
        self.counted = granted;
        let granted = usize::try_from(granted).map_err(|_| StoreError::NoMemory)?;
        self.capacity = granted.min(self.capacity);
        Ok(())
    }

    /// Moves the last byte to `other`, which has room for it.
    pub fn hand_last_byte_to(&mut self, other: &mut PartBuffer) {
        if let Some(last) = self.filled.checked_sub(1)
            && let Some(pages) = &self.pages
            && let Some(room) = other.room().first_mut()
        {
            *room = pages.map[last];
            other.fill(1);
            self.filled = last;
        }
    }

    /// Where the next bytes go.
    pub fn room(&mut self) -> &mut [u8] {
        match &mut self.pages {
            Some(pages) => &mut pages.map[self.filled..self.capacity],
            None => &mut [],
        }
    }

    /// Notes that so many bytes of [`PartBuffer::room`] were filled.
    pub fn fill(&mut self, bytes: usize) {
        self.filled = self.capacity.min(self.filled + bytes);
    }

    /// The bytes, to be sent. The last clone that is dropped drops the buffer.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for PartBuffer {
    fn as_ref(&self) -> &[u8] {
        self.pages
            .as_ref()
            .map_or(&[], |pages| &pages.map[..self.filled])
    }
}

impl Drop for PartBuffer {
    fn drop(&mut self) {
        self.buffers.ended(self.counted, self.pages.take());
        // the grant follows: it is a field
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::store::buffer::idle::MOST_FIRST_BLOCKS;

    const MIB: u64 = 1 << 20;

    fn buffers(total: u64) -> Arc<Buffers> {
        Buffers::new(Budget::new(total, MIB, Duration::from_secs(1)))
    }

    /// Users do not get in each other's way here.
    fn part(buffers: &Arc<Buffers>) -> PartBuffer {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let user = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
        buffers.part(Holder::of(&user))
    }

    fn ask(bytes: u64) -> Ask {
        Ask {
            bytes,
            enough: bytes,
            within: Duration::ZERO,
        }
    }

    async fn widen(part: &mut PartBuffer, bytes: u64, part_bytes: u64) {
        while (part.capacity() as u64) < bytes {
            let widened = part.widen(ask(bytes), part_bytes).await;
            widened.expect("there is memory");
        }
    }

    async fn full(buffers: &Arc<Buffers>, bytes: u64) -> PartBuffer {
        let mut part = part(buffers);
        widen(&mut part, bytes, bytes).await;
        part
    }

    fn idle_bytes(buffers: &Buffers) -> u64 {
        buffers.idle().bytes()
    }

    #[tokio::test]
    async fn a_buffer_grows_in_place_and_gives_back_what_was_put_in() {
        let buffers = buffers(8 * MIB);
        let mut part = part(&buffers);
        assert!(part.room().is_empty());
        let mut expected = Vec::new();
        for capacity in [64 * 1024, 128 * 1024, MIB] {
            widen(&mut part, capacity, MIB).await;
            let room = part.room();
            for (at, byte) in room.iter_mut().enumerate() {
                *byte = (at % 251) as u8;
            }
            expected.extend_from_slice(room);
            let bytes = room.len();
            part.fill(bytes);
            assert_eq!(part.len(), capacity);
        }
        assert!(part.room().is_empty());
        assert_eq!(part.freeze(), expected);
        assert_eq!(buffers.budget().used(), 0);
    }

    #[tokio::test]
    async fn the_next_part_gets_the_pages_of_the_last_and_none_of_its_bytes() {
        let buffers = buffers(8 * MIB);
        let mut part = full(&buffers, MIB).await;
        part.room().fill(b'x');
        part.fill(MIB as usize);
        let place = part.as_ref().as_ptr();
        let bytes = part.freeze();
        drop(bytes.clone());
        assert_eq!(idle_bytes(&buffers), 0, "a clone still lives");
        drop(bytes);
        assert_eq!(idle_bytes(&buffers), MIB);
        let mut next = full(&buffers, MIB).await;
        assert_eq!(next.room().as_ptr(), place);
        assert!(next.as_ref().is_empty());
        assert_eq!(idle_bytes(&buffers), 0);
    }

    #[tokio::test]
    async fn a_first_block_is_for_the_next_first_block_and_whole_pages_for_whole_grants() {
        const BLOCK: u64 = FIRST_BLOCK;
        let buffers = buffers(64 * MIB);
        drop(full(&buffers, MIB).await);
        let mut small = part(&buffers);
        widen(&mut small, BLOCK, MIB).await;
        assert_eq!(idle_bytes(&buffers), MIB, "its grant is smaller");
        let place = small.room().as_ptr();
        drop(small);
        assert_eq!(idle_bytes(&buffers), MIB + BLOCK);
        let mut next = part(&buffers);
        widen(&mut next, BLOCK, MIB).await;
        assert_eq!(next.room().as_ptr(), place);
        assert_eq!(idle_bytes(&buffers), MIB);
        // it turns out to be a large one
        next.fill(BLOCK as usize);
        widen(&mut next, MIB, MIB).await;
        assert_ne!(next.as_ref().as_ptr(), place);
        assert_eq!(idle_bytes(&buffers), 0);
        drop(next);
        assert_eq!(idle_bytes(&buffers), MIB);
        let mut between = part(&buffers);
        widen(&mut between, BLOCK * 2, MIB).await;
        drop(between);
        assert_eq!(idle_bytes(&buffers), MIB, "neither the one nor the other");
    }

    #[tokio::test]
    async fn no_more_first_blocks_are_kept_than_small_files_need_at_once() {
        const BLOCK: u64 = FIRST_BLOCK / 2;
        let buffers = buffers(64 * MIB);
        let mut held = Vec::new();
        for _ in 0..MOST_FIRST_BLOCKS + 10 {
            let mut small = part(&buffers);
            widen(&mut small, BLOCK, MIB).await;
            held.push(small);
        }
        drop(held);
        assert_eq!(idle_bytes(&buffers), BLOCK * MOST_FIRST_BLOCKS as u64);
        // of a length that nobody asked for before: the oldest ones make room
        let mut other = part(&buffers);
        widen(&mut other, BLOCK, MIB / 2).await;
        let place = other.room().as_ptr();
        drop(other);
        assert_eq!(idle_bytes(&buffers), BLOCK * MOST_FIRST_BLOCKS as u64);
        let mut next = part(&buffers);
        widen(&mut next, BLOCK, MIB / 2).await;
        assert_eq!(next.room().as_ptr(), place);
    }

    #[tokio::test]
    async fn what_is_idle_makes_way_for_what_is_needed() {
        let buffers = buffers(8 * MIB);
        let mut held = Vec::new();
        // the area of the first blocks is for no more than those
        for _ in 0..7 {
            held.push(full(&buffers, MIB).await);
        }
        assert_eq!(buffers.budget().used(), 7 * MIB);
        held.clear();
        assert_eq!(idle_bytes(&buffers), 7 * MIB);
        // another size: none of the idle ones will do
        for _ in 0..8 {
            held.push(full(&buffers, MIB / 2).await);
            let in_use = buffers.budget().used();
            assert!(in_use + idle_bytes(&buffers) <= 8 * MIB);
        }
        assert_eq!(idle_bytes(&buffers), 4 * MIB);
    }

    #[tokio::test]
    async fn a_buffer_is_kept_for_whoever_waits_for_it_while_others_take_theirs() {
        // 1.5 MiB shared and 2 MiB in reserve: three parts, and two that wait
        let buffers = buffers(4 * MIB);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(full(&buffers, MIB).await);
        }
        let waiting = [full(&buffers, MIB), full(&buffers, MIB)];
        let mut waiting = waiting.map(Box::pin);
        for part in &mut waiting {
            assert!(futures::poll!(part).is_pending());
        }
        // both grants are given at once; what the first one does must not take the pages from the second
        held.truncate(1);
        assert_eq!(idle_bytes(&buffers), 2 * MIB);
        let [first, second] = waiting;
        let _first = first.await;
        assert_eq!(idle_bytes(&buffers), MIB);
        let _second = second.await;
        assert_eq!(idle_bytes(&buffers), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_needs_goes_back_to_the_kernel() {
        let buffers = buffers(8 * MIB);
        let held = [full(&buffers, MIB).await, full(&buffers, MIB).await];
        drop(held);
        // one of both is used all the time, the other one never
        for _ in 0..20 {
            drop(full(&buffers, MIB).await);
            tokio::time::sleep(IDLE_LIFETIME / 4).await;
        }
        assert_eq!(idle_bytes(&buffers), MIB);
        tokio::time::sleep(IDLE_LIFETIME * 3).await;
        assert_eq!(idle_bytes(&buffers), 0);
        assert!(!buffers.idle().swept, "and nobody looks after nothing");
        drop(full(&buffers, MIB).await);
        tokio::time::sleep(IDLE_LIFETIME * 3).await;
        assert_eq!(idle_bytes(&buffers), 0);
    }
}
