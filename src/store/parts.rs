//! The size of the next part of a multipart upload.
//!
//! FTP never announces a length and a store allows 10,000 parts, so a fixed part size must be chosen for the largest file
//! there may ever be, and every small file pays for it with memory. Here parts grow with the stream instead: the first
//! 1,000 have `upload.min_part_size`, and from there the size rises in a straight line to what the 10,000th needs so that
//! the sum reaches `upload.max_file_size`. A straight line keeps the largest part near twice the average, which is the
//! least a growing plan can do; a geometric one would end with parts of hundreds of MiB for the default 200 GiB. The
//! level stretch makes the largest part 8 % larger, and lets all files up to 8 GiB share buffers of one size.
//!
//! Every part but the last is a few bytes larger than a round number: the sweeper knows this program's uploads by that, see
//! [`is_marked`].
//!
//! Invariant: whatever has been received in however many parts, the rest up to the limit still fits.

use std::ops::RangeInclusive;

/// Parts in one multipart upload, at S3 and COS alike
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>,
/// <https://www.tencentcloud.com/document/product/436/7750>).
pub const MAX_PARTS: u64 = 10_000;

/// Parts before the size begins to rise.
const LEVEL_PARTS: u64 = MAX_PARTS / 10;

const MIB: u64 = 1024 * 1024;

/// The remainder of the size of a marked part when it is divided by [`MARK_MODULUS`].
const MARK: u64 = 0xc05;

/// Fine enough to cost nothing, coarse enough that only one in 65,536 sizes is marked by chance.
const MARK_MODULUS: u64 = 64 * 1024;

/// True for the sizes that this program gives its parts.
pub fn is_marked(bytes: u64) -> bool {
    bytes % MARK_MODULUS == MARK
}

/// The least marked size that is not under `bytes`, in whole MiB but for the mark.
pub fn marked(bytes: u64) -> u64 {
    bytes.saturating_sub(MARK).next_multiple_of(MIB) + MARK
}

/// The least marked size that is not under `bytes`, to the byte.
pub fn next_marked(bytes: u64) -> u64 {
    let marked = bytes - bytes % MARK_MODULUS + MARK;
    if marked < bytes {
        marked + MARK_MODULUS
    } else {
        marked
    }
}

/// Bytes of what marks an upload whose first part has another size: the least that does.
pub const MARK_BYTES: u64 = MARK;

/// The plan for every upload of one configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartPlan {
    smallest: u64,
    largest: u64,
    max_file: u64,
}

/// `upload.max_file_size` can't be reached with the parts that the store accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{max_file} bytes don't fit into {MAX_PARTS} parts of at most {largest} bytes")]
pub struct DoesNotFit {
    max_file: u64,
    largest: u64,
}

impl PartPlan {
    /// `smallest` and `max_file` in bytes; `accepted` is the range of part sizes that the store takes.
    pub fn new(
        smallest: u64,
        max_file: u64,
        accepted: &RangeInclusive<u64>,
    ) -> Result<Self, DoesNotFit> {
        let smallest = smallest.clamp(*accepted.start(), *accepted.end());
        let average = max_file.div_ceil(MAX_PARTS);
        if average > *accepted.end() {
            return Err(DoesNotFit {
                max_file,
                largest: *accepted.end(),
            });
        }
        let rest = max_file.saturating_sub(LEVEL_PARTS * smallest);
        let average_of_rest = rest.div_ceil(MAX_PARTS - LEVEL_PARTS);
        // a line from `smallest` has the right average if it ends at twice the average less `smallest`
        let largest = (2 * average_of_rest)
            .saturating_sub(smallest)
            .max(smallest)
            .max(average);
        let largest = marked(largest).min(*accepted.end());
        let smallest = marked(smallest).min(largest);
        Ok(PartPlan {
            smallest,
            largest,
            max_file,
        })
    }

    /// Bytes of the next part, after `parts` parts with `received` bytes in sum (`parts` < 10,000).
    pub fn next_bytes(&self, parts: u64, received: u64) -> u64 {
        let risen = parts.saturating_sub(LEVEL_PARTS);
        let rise = self.largest - self.smallest;
        let line = self.smallest + rise * risen / (MAX_PARTS - LEVEL_PARTS);
        // what the later parts can't take even at their largest has to go into this one
        let needed = self.least_bytes(parts, received);
        // whole MiB but for the mark, so that buffers serve many parts before they have to grow
        marked(line.max(needed)).clamp(self.smallest, self.largest)
    }

    /// The fewest bytes that the next part may have, so that the rest up to the limit still fits; the store's own least
    /// is for the caller to look at.
    pub fn least_bytes(&self, parts: u64, received: u64) -> u64 {
        let later = self
            .largest
            .saturating_mul(MAX_PARTS.saturating_sub(parts + 1));
        self.max_file.saturating_sub(received).saturating_sub(later)
    }

    /// The least part size that lets an upload of so many bytes end with parts that are all alike.
    pub fn for_announced(&self, bytes: Option<u64>) -> u64 {
        let average = bytes.unwrap_or_default().div_ceil(MAX_PARTS);
        marked(average).clamp(self.smallest, self.largest)
    }

    /// Bytes of the largest part that this plan ever makes.
    pub fn largest(&self) -> u64 {
        self.largest
    }

    /// Bytes of the first part; a file smaller than this is one PutObject.
    pub fn smallest(&self) -> u64 {
        self.smallest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;
    const ACCEPTED: RangeInclusive<u64> = 5 * MIB..=5 * GIB;

    fn capacity(plan: &PartPlan) -> u64 {
        (0..MAX_PARTS).fold(0, |received, part| {
            received + plan.next_bytes(part, received)
        })
    }

    #[test]
    fn the_default_limit_stays_at_8_mib_for_8_gib_and_ends_near_36() {
        let plan = PartPlan::new(8 * MIB, 200 * GIB, &ACCEPTED).expect("fits");
        let first = 8 * MIB + MARK;
        assert!((0..1000).all(|part| plan.next_bytes(part, part * first) == first));
        assert!(plan.next_bytes(1001, 1001 * first) > first);
        assert!(plan.largest() < 37 * MIB, "{}", plan.largest());
        assert!(capacity(&plan) >= 200 * GIB);
    }

    #[test]
    fn an_announced_size_chooses_a_better_start() {
        let plan = PartPlan::new(8 * MIB, 200 * GIB, &ACCEPTED).expect("fits");
        assert_eq!(plan.for_announced(None), plan.smallest());
        assert_eq!(plan.for_announced(Some(GIB)), plan.smallest());
        assert!(plan.for_announced(Some(200 * GIB)) * MAX_PARTS >= 200 * GIB);
        assert_eq!(plan.for_announced(Some(u64::MAX)), plan.largest());
    }

    #[test]
    fn all_parts_are_alike_when_the_smallest_suffice() {
        let plan = PartPlan::new(8 * MIB, 10 * GIB, &ACCEPTED).expect("fits");
        assert_eq!(plan.largest(), 8 * MIB + MARK);
        assert!(is_marked(plan.next_bytes(9_999, 0)) && !is_marked(8 * MIB));
    }

    #[test]
    fn the_limit_of_cos_fits_and_one_byte_more_than_10_000_largest_parts_does_not() {
        let cos = 1_000_000..=5_000_000_000;
        let plan = PartPlan::new(8 * MIB, 48_820_000_000_000, &cos).expect("48.82 TB fit");
        assert!(capacity(&plan) >= 48_820_000_000_000);
        assert!(PartPlan::new(8 * MIB, 50_000_000_000_001, &cos).is_err());
    }

    #[test]
    fn marked_sizes_are_found_to_the_byte() {
        for bytes in [0, 1, MARK, MARK + 1, 5 * MIB, 5 * MIB + MARK, 6 * MIB - 1] {
            let marked = next_marked(bytes);
            assert!(is_marked(marked) && marked >= bytes, "{bytes}");
            assert!(marked - bytes < MARK_MODULUS, "{bytes}");
        }
        assert!(is_marked(MARK_BYTES));
    }

    proptest! {
        #[test]
        fn parts_that_are_sent_early_leave_room_for_the_rest(
            max_file in 1..50_000 * GIB,
            early in prop::collection::vec(any::<bool>(), 10_000),
        ) {
            let plan = PartPlan::new(8 * MIB, max_file, &ACCEPTED).expect("fits");
            let received = early.iter().zip(0..).fold(0, |received, (early, part)| {
                received + if *early {
                    plan.least_bytes(part, received).max(5 * MIB)
                } else {
                    plan.next_bytes(part, received)
                }
            });
            prop_assert!(received >= max_file);
        }

        #[test]
        fn every_limit_fits_from_every_point(
            smallest in 5 * MIB..GIB,
            max_file in 1..50_000 * GIB,
            resumed_at in 0.0..1.0f64,
            copied_parts in 1..40u64,
        ) {
            let plan = PartPlan::new(smallest, max_file, &ACCEPTED).expect("50,000 GiB fit into 10,000 parts of 5 GiB");
            prop_assert!(capacity(&plan) >= max_file);
            // an upload that goes on where another one ended has used few parts for many bytes
            let start = (max_file as f64 * resumed_at) as u64;
            let end = (copied_parts..MAX_PARTS).fold(start, |received, part| {
                let bytes = plan.next_bytes(part, received);
                assert!(ACCEPTED.contains(&bytes));
                received + bytes
            });
            // the copied parts could have been smaller than planned, so compare with the plan's own worst case
            prop_assert!(end >= max_file || start < copied_parts * plan.largest());
        }
    }
}
