//! The requests of an upload for memory, and how it goes on with less: parts that are sent before they are full.
//!
//! While uploads lack memory, an upload sends a part as soon as the store takes one of that size. The sweeper knows this
//! program's uploads by the size of a part, so a first part of another size is preceded by a mark.

use std::time::Duration;

use bytes::Bytes;

use crate::store::budget::Ask;
use crate::store::error::StoreError;
use crate::store::parts;
use crate::store::upload::state::{FIRST_ROOM, Upload};

/// The mark of an upload whose first part is sent early, see [`Upload::mark`].
pub(super) static MARK: [u8; parts::MARK_BYTES as usize] = [0; parts::MARK_BYTES as usize];

impl Upload {
    /// The fewest bytes with which the part that is being filled can be sent, without being the last one.
    fn least(&self) -> u64 {
        let settings = self.store.settings();
        let sent = self.size - self.filling.len();
        let least = settings.plan.least_bytes(self.parts, sent);
        least.max(settings.min_part_bytes)
    }

    /// True if all parts but the last must have the planned size: the store wants that, or whoever goes on with the upload relies
    /// on it.
    fn has_parts_alike(&self) -> bool {
        self.store.settings().parts_alike || self.can_hold
    }

    /// True if the part that is being filled can be sent early, and something remains.
    pub(super) fn is_enough(&self) -> bool {
        !self.has_parts_alike() && self.filling.len() > self.least()
    }

    /// The next request for memory.
    pub(super) fn ask(&self, part_bytes: u64) -> Ask {
        let (capacity, filled) = (self.filling.capacity() as u64, self.filling.len());
        let least = if self.has_parts_alike() {
            part_bytes
        } else {
            parts::next_marked(self.least()).min(part_bytes)
        };
        let bytes = match capacity {
            0 if self.swift => part_bytes,
            _ => (capacity * 2).clamp(FIRST_ROOM.min(part_bytes), part_bytes),
        };
        // under pressure the part ends there
        let bytes = if capacity > 0 && capacity < least {
            bytes.min(least)
        } else {
            bytes
        };
        let enough = if self.swift {
            part_bytes
        } else {
            least.max(bytes)
        };
        let missing = enough.saturating_sub(filled) as f64;
        let within = self.reading.as_secs_f64() * missing / (filled.max(1)) as f64;
        Ask {
            bytes,
            enough,
            within: Duration::try_from_secs_f64(within).unwrap_or(Duration::MAX),
        }
    }

    /// Sends off the part that is being filled before it is full. Cancel safe.
    pub(super) async fn ship_early(&mut self, part_bytes: u64) -> Result<(), StoreError> {
        self.begin().await?;
        self.free_place().await?;
        let mut next = self.store.buffers().part(self.holder);
        if !parts::is_marked(self.filling.len()) && !self.is_marked {
            if self.running.is_empty() && self.acknowledged.is_empty() {
                let first = Ask {
                    bytes: FIRST_ROOM.min(part_bytes),
                    enough: FIRST_ROOM.min(part_bytes),
                    within: Duration::ZERO,
                };
                next.widen(first, part_bytes).await?;
                self.mark().await?;
                // the part that takes the mark's place is not empty
                self.filling.hand_last_byte_to(&mut next);
            } else {
                self.one_acknowledged().await?;
            }
        }
        self.swift = false;
        self.send_off(next).await
    }

    /// Marks the upload for the sweeper, which knows this program's uploads by the size of a part: where the first part has
    /// another size, the place of the second one is taken by bytes that only have the right number, until it comes.
    async fn mark(&mut self) -> Result<(), StoreError> {
        let number = i32::try_from(self.parts + 2);
        let number = number.map_err(|_| StoreError::TooLarge { limit: self.size })?;
        let request = self.begin().await?.part(number);
        request.send(Bytes::from_static(&MARK)).await?;
        self.is_marked = true;
        Ok(())
    }
}
