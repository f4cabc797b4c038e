//! Numbers that only the seed decides.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::faults::{Answer, Fault};

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, of: u64) -> Self {
        Dice(seed ^ of.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// The faults of a campaign. Which one a request meets is decided by its operation, its key and how many of the same there
/// were, so that what sessions do at the same time changes nothing about each other's faults.
pub fn plan(seed: u64) -> impl FnMut(&'static str, &str) -> Option<Fault> + Send + 'static {
    let mut met = HashMap::<(&'static str, String), u64>::new();
    move |operation, key| {
        let number = met.entry((operation, key.to_owned())).or_default();
        *number += 1;
        let mut of = *number;
        for byte in operation.bytes().chain(key.bytes()) {
            of = (of ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        let mut dice = Dice::new(seed, of);
        // now and then everything fails for a while, longer than retries last
        let is_storm = Dice::new(seed, of / 7).next().is_multiple_of(16) || *number % 40 > 35;
        let percent = if is_storm { 60 } else { 12 };
        (dice.below(100) < percent).then(|| fault(&mut dice))
    }
}

fn fault(dice: &mut Dice) -> Fault {
    const SILENCE: Duration = Duration::from_millis(1200);
    match dice.below(34) {
        0..3 => Fault::refuse(500, "InternalError"),
        3..6 => Fault::refuse(503, "SlowDown"),
        6..8 => Fault::refuse(429, "TooManyRequests"),
        8..11 => Fault::LoseRequest,
        11..13 => Fault::CutRequest,
        13..16 => Fault::LoseAnswer,
        16 => Fault::StallRequest(SILENCE),
        17 => Fault::StallAnswer(SILENCE),
        18..20 => Fault::CutAnswer,
        20..22 => Fault::CorruptRequest,
        22..24 => Fault::refuse_after(500, "InternalError"),
        24 => Fault::refuse_after(200, "InternalError"),
        25 => Fault::refuse(200, "InternalError"),
        26 => Fault::AnswerAfter(Answer::empty(200)),
        27..29 => Fault::edit(another_tag),
        29..31 => Fault::edit(|answer| answer.set("x-amz-checksum-crc64nvme", "AAAAAAAAAAE=")),
        // half of an XML document, or of an object; with a fitting length
        31 => Fault::edit(|answer| answer.body.truncate(answer.body.len() / 2)),
        // a flipped bit in what comes back: the names and numbers of XML have no checksum, so only in objects. It is
        // another one each time: what is read twice to be compared isn't damaged twice in the same way
        _ => {
            let bit = dice.next();
            Fault::edit(move |answer| flip(answer, bit))
        }
    }
}

fn flip(answer: &mut Answer, bit: u64) {
    let is_xml = answer
        .header("content-type")
        .is_some_and(|kind| kind.contains("xml"));
    let bits = answer.body.len() as u64 * 8;
    if !is_xml && bits > 0 {
        let bit = bit % bits;
        answer.body[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

/// Another ETag in the header, or in XML.
fn another_tag(answer: &mut Answer) {
    const OTHER: &str = "\"0123456789abcdef0123456789abcdef\"";
    if answer.header("etag").is_some() {
        answer.set("etag", OTHER);
    }
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    // of one answer to a copy or a completion; the tags of listings have no second source
    if text.matches("<ETag>").count() == 1 && !text.contains("<Contents>") {
        let (before, rest) = text.split_once("<ETag>").expect("it is there");
        let after = rest.split_once("</ETag>").map_or("", |(_, after)| after);
        answer.body = format!("{before}<ETag>{OTHER}</ETag>{after}").into_bytes();
    }
}
