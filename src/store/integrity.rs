//! Proof that the store has what the client sent.
//!
//! FTP checks nothing, so the gateway does: every body that goes to the store is digested here, and what the store says
//! it has is compared before the client gets 226. Which digest depends on what a store offers:
//!
//! | method | store | checked by the store before it answers | compared by the gateway |
//! |---|---|---|---|
//! | [`Method::Crc64Nvme`] | AWS S3, the embedded store, others that echo it | each part, and the whole object | the echoed value |
//! | [`Method::CosCrc64`] | Tencent COS | a single body, by Content-MD5 | `x-cos-hash-crc64ecma` of each part and of the whole |
//! | [`Method::Md5`] | all others | each part, by Content-MD5 | the ETag, where it is an MD5 |
//! | [`Method::Off`] | on request | | |
//!
//! The CRCs of parts combine to that of the whole object, so no byte is read twice; CRC-64 runs at memory speed, MD5 at
//! about two seconds of CPU time per GiB, which is why it comes last.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tracing::info;

/// The way bodies are proved for one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    Off,
    /// CRC-64/NVME over the whole object
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>).
    Crc64Nvme,
    /// CRC-64/XZ, which COS computes of its own accord (<https://www.tencentcloud.com/document/product/436/34078>).
    CosCrc64,
    /// MD5 of each body.
    Md5,
}

/// The facts about a store are forgotten after this: it may be upgraded, and a proxy may have answered for it.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// So many uploads in a row have to be refused with a checksum and taken without one, until uploads of an unknown store go
/// without it: one refusal may have had any reason.
const REFUSALS: u32 = 2;

/// The method of one bucket: known from the start, or learnt from its answers.
#[derive(Debug)]
pub struct Integrity {
    fixed: Option<Method>,
    learnt: Mutex<Learnt>,
}

#[derive(Debug, Default)]
struct Learnt {
    method: Option<(Method, Instant)>,
    refusals: u32,
}

impl Integrity {
    /// `None`: an S3-compatible store of which nothing is known yet.
    pub fn new(method: Option<Method>) -> Self {
        if method == Some(Method::Off) {
            info!("storage.integrity is off: uploads are acknowledged without a comparison");
        }
        Integrity {
            fixed: method,
            learnt: Mutex::default(),
        }
    }

    /// The same for another bucket, of which nothing is learnt yet.
    pub fn of_another_bucket(&self) -> Self {
        Integrity {
            fixed: self.fixed,
            learnt: Mutex::default(),
        }
    }

    /// The method, if it is known.
    pub fn method(&self) -> Option<Method> {
        self.fixed.or_else(|| {
            let learnt = self.learnt().method;
            let valid = learnt.filter(|(_, at)| at.elapsed() < FORGET_AFTER);
            valid.map(|(method, _)| method)
        })
    }

    /// Notes what an answer of success showed: a store that knows CRC-64/NVME echoes it.
    pub fn learn(&self, echoed: bool) -> Method {
        if let Some(known) = self.method() {
            return known;
        }
        let method = if echoed {
            Method::Crc64Nvme
        } else {
            Method::Md5
        };
        if !echoed {
            info!(
                "the store doesn't answer with CRC-64/NVME checksums: uploads are compared by MD5, which costs CPU time"
            );
        }
        *self.learnt() = Learnt {
            method: Some((method, Instant::now())),
            refusals: 0,
        };
        method
    }

    /// Notes a body that the store refused with a CRC-64/NVME and took without it.
    pub fn note_refusal(&self) {
        let refusals = {
            let mut learnt = self.learnt();
            learnt.refusals += 1;
            learnt.refusals
        };
        if refusals >= REFUSALS {
            self.learn(false);
        }
    }

    fn learnt(&self) -> MutexGuard<'_, Learnt> {
        self.learnt.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_teaches_nothing_and_what_is_learnt_is_forgotten() {
        let integrity = Integrity::new(None);
        integrity.note_refusal();
        assert_eq!(integrity.method(), None);
        integrity.note_refusal();
        assert_eq!(integrity.method(), Some(Method::Md5));
        assert_eq!(integrity.of_another_bucket().method(), None);
        let long_ago = Instant::now().checked_sub(FORGET_AFTER);
        let long_ago = long_ago.expect("the machine runs for longer");
        integrity.learnt().method = Some((Method::Md5, long_ago));
        assert_eq!(integrity.method(), None);
        assert_eq!(integrity.learn(true), Method::Crc64Nvme);
        integrity.note_refusal();
        integrity.note_refusal();
        assert_eq!(integrity.method(), Some(Method::Crc64Nvme));
    }
}
