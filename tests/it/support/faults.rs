//! Faults of a store by script: which requests meet one, how often, and what happens to them.
//!
//! ```text
//! proxy.fault("PutObject", Fault::LoseAnswer).on_key("f").times(2);
//! proxy.fault("HeadObject", Fault::edit(|answer| answer.remove("content-length")));
//! ```
//!
//! A rule counts down and is gone at zero, so a scenario needs no clean-up. The first rule that fits a request wins, in the
//! order in which they were given.

use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The fault of a request instead of what should.
#[derive(Clone)]
pub enum Fault {
    /// The store doesn't get it; it is answered with this.
    Answer(Answer),
    /// The store does the work, and the client is answered with this.
    AnswerAfter(Answer),
    /// The store does the work, and the connection breaks before the answer.
    LoseAnswer,
    /// The store doesn't get it, and the connection breaks.
    LoseRequest,
    /// The store's own answer, changed.
    Edit(Edit),
    /// A bit of the body flips on its way to the store.
    CorruptRequest,
    /// The connection is reset in the middle of the body; the store doesn't get it.
    CutRequest,
    /// The store doesn't get it, and nothing comes for so long; then the connection ends.
    StallRequest(Duration),
    /// The store does the work, and nothing comes for so long; then the connection ends.
    StallAnswer(Duration),
    /// The store gets it only so much later, when nobody waits for an answer any more.
    DelayRequest(Duration),
    /// The connection breaks in the middle of the store's own answer.
    CutAnswer,
    /// The connection is reset; the store gets nothing that counts.
    Reset(Within),
    /// The store does the work, and the connection is reset in the middle of its answer.
    ResetAnswer,
    /// Nothing comes for so long in the middle of the store's own answer; then the connection ends.
    StallWithinAnswer(Duration),
    /// The store's own answer, in so many pieces with a pause between them.
    SlowAnswer(u32, Duration),
    /// The store doesn't get it, all its connections break, and new ones are refused for so long.
    Away(Duration),
}

/// The point of a request at which its connection is reset.
#[derive(Debug, Clone, Copy)]
pub enum Within {
    /// After the head.
    Head,
    /// In the middle of the body.
    Body,
    /// After the last byte.
    End,
}

type Choice = Box<dyn FnMut(&'static str, &str) -> Option<Fault> + Send>;

type Edit = Arc<dyn Fn(&mut Answer) + Send + Sync>;

/// An answer of HTTP.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Faults that are still to happen.
#[derive(Default)]
pub struct Script {
    rules: Mutex<Vec<Rule>>,
    choice: Mutex<Option<Choice>>,
}

struct Rule {
    id: u64,
    operation: &'static str,
    key: Option<String>,
    skip: u64,
    left: u64,
    fault: Fault,
}

/// A rule that was just given, to be narrowed. It happens once, unless it says otherwise.
pub struct Given<'a> {
    script: &'a Script,
    id: u64,
}

impl Fault {
    /// An error of S3 instead of the work.
    pub fn refuse(status: u16, code: &str) -> Self {
        Fault::Answer(Answer::error(status, code))
    }

    /// An error of S3 after the work was done.
    pub fn refuse_after(status: u16, code: &str) -> Self {
        Fault::AnswerAfter(Answer::error(status, code))
    }

    /// A change of the store's answer.
    pub fn edit(edit: impl Fn(&mut Answer) + Send + Sync + 'static) -> Self {
        Fault::Edit(Arc::new(edit))
    }
}

impl Answer {
    /// A status without a body.
    pub fn empty(status: u16) -> Self {
        Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// An error of S3; with status 200 it is what a store says that began its answer too early.
    pub fn error(status: u16, code: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>as the test has it</Message></Error>"
        );
        Answer {
            status,
            headers: vec![("content-type".to_owned(), "application/xml".to_owned())],
            body: body.into_bytes(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn remove(&mut self, name: &str) {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Reads the head of an answer, the blank line included.
    pub fn parse_head(head: &str) -> Self {
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.filter_map(|line| line.split_once(':'));
        Answer {
            status: status
                .and_then(|status| status.parse().ok())
                .expect("a status line"),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
            body: Vec::new(),
        }
    }

    /// As it goes over the wire. The answer to a HEAD has the length that its headers say, or none.
    pub fn to_bytes(&self, is_of_head: bool) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} As Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            let is_ours = ["content-length", "transfer-encoding"]
                .iter()
                .any(|ours| name.eq_ignore_ascii_case(ours));
            if is_of_head || !is_ours {
                text += &format!("{name}: {value}\r\n");
            }
        }
        if !is_of_head && self.status != 204 && self.status != 304 {
            text += &format!("content-length: {}\r\n", self.body.len());
        }
        text += "\r\n";
        let mut bytes = text.into_bytes();
        if !is_of_head {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

impl Script {
    /// Adds a rule for one operation of S3; `*` is every one.
    pub fn add(&self, operation: &'static str, fault: Fault) -> Given<'_> {
        let mut rules = self.rules.lock().expect("no panic");
        let id = rules.iter().map(|rule| rule.id + 1).max().unwrap_or(0);
        rules.push(Rule {
            id,
            operation,
            key: None,
            skip: 0,
            left: 1,
            fault,
        });
        Given { script: self, id }
    }

    /// Chooses for each request that meets no rule, by its operation and key.
    pub fn choose(&self, choose: impl FnMut(&'static str, &str) -> Option<Fault> + Send + 'static) {
        *self.choice.lock().expect("no panic") = Some(Box::new(choose));
    }

    /// Forgets what has not happened yet.
    pub fn clear(&self) {
        self.rules.lock().expect("no panic").clear();
        *self.choice.lock().expect("no panic") = None;
    }

    /// The fault that a request meets, by its head.
    pub fn take(&self, head: &str) -> Option<Fault> {
        let (operation, key) = operation(head);
        let mut rules = self.rules.lock().expect("no panic");
        let fits = |rule: &&mut Rule| {
            rule.left > 0
                && (rule.operation == "*" || rule.operation == operation)
                && rule.key.as_ref().is_none_or(|wanted| *wanted == key)
        };
        for rule in rules.iter_mut().filter(|rule| fits(rule)) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.left = rule.left.saturating_sub(1);
            return Some(rule.fault.clone());
        }
        drop(rules);
        let mut choice = self.choice.lock().expect("no panic");
        choice.as_mut().and_then(|choose| choose(operation, &key))
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Rule)) {
        let mut rules = self.rules.lock().expect("no panic");
        if let Some(rule) = rules.iter_mut().find(|rule| rule.id == id) {
            change(rule);
        }
    }
}

impl Given<'_> {
    /// Only for this key, percent-encoded as in the request.
    pub fn on_key(self, key: &str) -> Self {
        self.script
            .change(self.id, |rule| rule.key = Some(key.to_owned()));
        self
    }

    /// So often instead of once.
    pub fn times(self, times: u64) -> Self {
        self.script.change(self.id, |rule| rule.left = times);
        self
    }

    /// Until [`Script::clear`].
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// Only after so many others of its kind.
    pub fn after(self, skip: u64) -> Self {
        self.script.change(self.id, |rule| rule.skip = skip);
        self
    }
}

/// The operation of S3 that a request's head stands for, and its key; in path style.
pub fn operation(head: &str) -> (&'static str, String) {
    let mut words = head.split_whitespace();
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let key = path
        .trim_start_matches('/')
        .split_once('/')
        .map_or("", |(_, key)| key);
    let asks = |name: &str| {
        let mut parameters = query.split('&');
        parameters.any(|parameter| parameter.split('=').next() == Some(name))
    };
    let copies = head
        .lines()
        .any(|line| line.to_ascii_lowercase().starts_with("x-amz-copy-source:"));
    let operation = match (method, key.is_empty()) {
        ("HEAD", true) => "HeadBucket",
        ("HEAD", false) => "HeadObject",
        ("GET", true) if asks("uploads") => "ListMultipartUploads",
        ("GET", true) if asks("list-type") => "ListObjectsV2",
        ("GET", true) => "ListObjects",
        ("GET", false) if asks("tagging") => "GetObjectTagging",
        ("PUT", false) if asks("tagging") => "PutObjectTagging",
        ("DELETE", false) if asks("tagging") => "DeleteObjectTagging",
        ("GET", false) if asks("uploadId") => "ListParts",
        ("GET", false) => "GetObject",
        ("PUT", false) if asks("partNumber") && copies => "UploadPartCopy",
        ("PUT", false) if asks("partNumber") => "UploadPart",
        ("PUT", false) if copies => "CopyObject",
        ("PUT", false) => "PutObject",
        ("POST", false) if asks("uploads") => "CreateMultipartUpload",
        ("POST", false) => "CompleteMultipartUpload",
        ("DELETE", false) if asks("uploadId") => "AbortMultipartUpload",
        ("DELETE", false) => "DeleteObject",
        _ => "other",
    };
    (operation, key.to_owned())
}
