//! Numbers that only the seed decides.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::support::faults::{Answer, Fault, Within};

/// A number that the environment gives.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// The seed that the environment gives, or else `fixed`, or else a new one. It is printed, since a run is repeated with it.
pub fn seed(name: &str, fixed: Option<u64>) -> u64 {
    let seed = number(name).or(fixed).unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.expect("after 1970").as_nanos() as u64
    });
    eprintln!("{name}={seed}");
    seed
}

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
    match dice.below(47) {
        0..3 => Fault::refuse(500, "InternalError"),
        3..6 => Fault::refuse(503, "SlowDown"),
        6..8 => Fault::refuse(429, "TooManyRequests"),
        8..10 => Fault::LoseRequest,
        10..12 => Fault::CutRequest,
        12 => Fault::Reset(Within::Head),
        13 => Fault::Reset(Within::Body),
        14 => Fault::Reset(Within::End),
        15..18 => Fault::LoseAnswer,
        18 => Fault::StallRequest(SILENCE),
        19 => Fault::StallAnswer(SILENCE),
        20 => Fault::StallWithinAnswer(SILENCE),
        21 => Fault::CutAnswer,
        22 => Fault::ResetAnswer,
        // slower than a request may take, as a whole, and only slow
        23 => Fault::SlowAnswer(8, Duration::from_millis(200)),
        24 => Fault::SlowAnswer(8, Duration::from_millis(20)),
        25 => Fault::Away(Duration::from_millis(150)),
        26..28 => Fault::CorruptRequest,
        28..30 => Fault::refuse_after(500, "InternalError"),
        30 => Fault::refuse_after(200, "InternalError"),
        31 => Fault::refuse(200, "InternalError"),
        32 => Fault::AnswerAfter(Answer::empty(200)),
        33..35 => Fault::edit(another_tag),
        35..37 => Fault::edit(another_checksum),
        // half of an XML document, or of an object; with a fitting length
        37 => Fault::edit(|answer| answer.body.truncate(answer.body.len() / 2)),
        38 => Fault::edit(|answer| answer.body.clear()),
        39 => Fault::edit(an_entry_less),
        40 => Fault::edit(no_next_page),
        41 => Fault::edit(|answer| answer.remove("content-length")),
        42 => Fault::edit(|answer| answer.set("date", "Tue, 15 Nov 1994 08:12:31 GMT")),
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

/// Another checksum in the header, or in XML.
fn another_checksum(answer: &mut Answer) {
    const OTHER: &str = "AAAAAAAAAAE=";
    answer.set("x-amz-checksum-crc64nvme", OTHER);
    replace_element(answer, "ChecksumCRC64NVME", OTHER);
}

/// A listing that lacks its first name.
fn an_entry_less(answer: &mut Answer) {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    for element in ["Contents", "CommonPrefixes"] {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        if let Some((before, rest)) = text.split_once(&open)
            && let Some((_, after)) = rest.split_once(&close)
        {
            answer.body = format!("{before}{after}").into_bytes();
            return;
        }
    }
}

/// A listing that has more, and doesn't say where.
fn no_next_page(answer: &mut Answer) {
    if String::from_utf8_lossy(&answer.body).contains("<KeyCount>") {
        replace_element(answer, "IsTruncated", "true");
    }
}

/// Another text in the only element of this name; where there are several, they stay.
fn replace_element(answer: &mut Answer, name: &str, by: &str) {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    if text.matches(&open).count() == 1 {
        let (before, rest) = text.split_once(&open).expect("it is there");
        let after = rest.split_once(&close).map_or("", |(_, after)| after);
        answer.body = format!("{before}{open}{by}{close}{after}").into_bytes();
    }
}

/// Another ETag in the header, or in XML.
fn another_tag(answer: &mut Answer) {
    const OTHER: &str = "\"0123456789abcdef0123456789abcdef\"";
    if answer.header("etag").is_some() {
        answer.set("etag", OTHER);
    }
    // of one answer to a copy or a completion; the tags of listings have no second source
    if !String::from_utf8_lossy(&answer.body).contains("<Contents>") {
        replace_element(answer, "ETag", OTHER);
    }
}
