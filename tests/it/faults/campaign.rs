//! Sessions that store, append, continue, read, rename, delete, date and list at random while requests to the store fail
//! in every way, and a look past the gateway after each reply: what is there is what the reply says.
//!
//! A failing run prints its seed and is repeated with `FAULTS_SEED`. `FAULTS_OPERATIONS` is how many operations there are,
//! and `FAULTS_STORE`, as `http://IP:PORT ACCESS_KEY SECRET_KEY`, another store than the embedded one, with a bucket
//! `cosgate` that is empty.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;

use super::dice::{self, Dice, number, plan};
use super::model::{Content, Model, after};
use crate::configuration::Program;
use crate::support::readings::{Readings, Slack};
use crate::support::{Ftp, Reply, TestStore, eventually};

pub(super) const SESSIONS: usize = 4;

/// Left of a campaign, at most: connections to the store that are kept for the next requests, the caches of names, and what the
/// allocator keeps of what was freed.
pub(super) const SLACK: Slack = Slack {
    idle: 2.0 * SESSIONS as f64,
    kib: 64.0 * 1024.0,
    within: Duration::from_secs(50),
};

/// The program with these settings, `KEY=value` without the prefix, and its admin port.
pub(super) fn start(settings: &[&str]) -> (Program, SocketAddr) {
    let own = ["ADMIN__LISTEN=127.0.0.1:0", "DRAIN__IDLE=1ms"];
    let gateway = Program::with(&[&own, settings].concat(), &[]);
    let admin = gateway.admin.expect("it is on");
    (gateway, admin)
}
const MIB: usize = 1 << 20;
const FILES: [&str; 7] = ["a", "b", "c", "d/x", "d/y", "e/x", "e/y"];

#[tokio::test(flavor = "multi_thread")]
async fn each_reply_is_true_whatever_the_store_does() {
    // the same operations and faults in each run: what new ones find belongs to the long campaign
    campaign(300, Some(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn each_of_ten_thousand_replies_is_true() {
    campaign(10_000, None).await;
}

/// Counts of what happened, for the report.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) done: AtomicU64,
    /// With a reply that says "later", 4xx.
    pub(super) failed: AtomicU64,
    /// With 5xx: there is no such file, mostly.
    refused: AtomicU64,
    unknown: AtomicU64,
}

async fn campaign(operations: usize, seed: Option<u64>) {
    let seed = dice::seed("FAULTS_SEED", seed);
    let operations = number("FAULTS_OPERATIONS").map_or(operations, |n| n as usize);
    let (store, proxy, own) = match std::env::var("FAULTS_STORE") {
        Ok(text) => {
            let words: Vec<&str> = text.split(' ').collect();
            let [endpoint, access_key_id, secret] = words[..] else {
                panic!("FAULTS_STORE is an endpoint and two keys");
            };
            TestStore::elsewhere_behind_proxy(endpoint, access_key_id, secret).await
        }
        Err(_) => TestStore::behind_proxy().await,
    };
    let settings = [
        "UPLOAD__MIN_PART_SIZE=5MiB",
        "STORAGE__RETRY__MAX_ATTEMPTS=3",
        "STORAGE__RETRY__MAX_BACKOFF=20ms",
        "STORAGE__RETRY__TIME_LIMIT=5s",
        "STORAGE__REQUEST_TIMEOUT=1s",
    ];
    let settings: Vec<&str> = own.iter().map(String::as_str).chain(settings).collect();
    assert!(store.keys().await.is_empty(), "the bucket is empty");

    let (gateway, admin) = start(&settings);
    let (address, before) = (gateway.address, Readings::of(admin).await);
    let counts: Vec<Counts> = (0..SESSIONS).map(|_| Counts::default()).collect();
    let sessions = sessions(address, &store, &counts, seed).await;
    proxy.choose_faults(plan(seed));
    proxy.refuse_one_in(29);
    let running = sessions
        .into_iter()
        .map(|session| session.run(|done| done == operations / SESSIONS));
    let expected: Vec<Vec<String>> = join_all(running).await;
    let met = proxy.faults_met();
    proxy.clear_faults();
    proxy.refuse_one_in(0);
    before.are_all_again(admin, SLACK).await;
    assert_eq!(gateway.terminate(), Some(0), "FAULTS_SEED={seed}");

    has_only(&store, expected.concat(), seed).await;
    let count = |of: fn(&Counts) -> &AtomicU64| -> u64 {
        let counted = counts.iter().map(|each| of(each).load(Ordering::Relaxed));
        counted.sum()
    };
    eprintln!(
        "{operations} operations, {met} faults: {} done, {} failed, {} refused, {} not known; {} uploads left to the sweeper",
        count(|counts| &counts.done),
        count(|counts| &counts.failed),
        count(|counts| &counts.refused),
        count(|counts| &counts.unknown),
        store.unfinished().await
    );

    // a sweeper that may look finds the rest
    let settings = [
        &settings[..],
        &["UPLOAD__SWEEP=own", "UPLOAD__STALE_AFTER=1s"],
    ]
    .concat();
    let (sweeper, _) = start(&settings);
    eventually("nothing is left unfinished", || async {
        store.unfinished().await == 0
    })
    .await;
    assert_eq!(sweeper.terminate(), Some(0));
}

/// Logged in, each in a directory of its own.
pub(super) async fn sessions<'a>(
    address: SocketAddr,
    store: &'a TestStore,
    counts: &'a [Counts],
    seed: u64,
) -> Vec<Session<'a>> {
    let mut sessions = Vec::new();
    for (number, counts) in counts.iter().enumerate() {
        let mut ftp = Ftp::connect(address).await;
        ftp.login("demo", "secret").await;
        assert_eq!(ftp.command(&format!("MKD s{number}")).await.code, 257);
        assert_eq!(ftp.command(&format!("CWD s{number}")).await.code, 250);
        sessions.push(Session {
            ftp,
            dice: Dice::new(seed, number as u64),
            model: Model::new(store, format!("s{number}/")),
            counts,
            context: String::new(),
            label: format!("FAULTS_SEED={seed}, session {number}"),
        });
    }
    sessions
}

/// Nothing else is in the bucket but markers of directories.
pub(super) async fn has_only(store: &TestStore, mut expected: Vec<String>, seed: u64) {
    let mut files = store.keys().await;
    files.retain(|key| !key.ends_with('/'));
    expected.sort();
    assert_eq!(files, expected, "FAULTS_SEED={seed}");
}

pub(super) struct Session<'a> {
    ftp: Ftp,
    dice: Dice,
    model: Model<'a>,
    counts: &'a Counts,
    /// The current work, for messages.
    context: String,
    label: String,
}

impl Session<'_> {
    /// Does one operation after another, until after so many the caller says that they are enough; returns the keys of the
    /// files that are there then.
    pub(super) async fn run(mut self, is_over: impl Fn(usize) -> bool) -> Vec<String> {
        for number in 0.. {
            if is_over(number) {
                break;
            }
            self.context = format!("{}, operation {number}", self.label);
            match self.dice.below(100) {
                0..34 => self.stor().await,
                34..50 => self.retr().await,
                50..60 => self.appe().await,
                60..66 => self.rest_stor().await,
                66..76 => self.rename_file().await,
                76..80 => self.rename_directory().await,
                80..87 => self.dele().await,
                87..91 => self.directory().await,
                91..95 => self.mfmt().await,
                _ => self.list().await,
            }
        }
        let home = self.label.rsplit(' ').next().expect("a number").to_owned();
        let names = self.model.names().into_iter();
        names.map(|name| format!("s{home}/{name}")).collect()
    }

    fn name(&mut self) -> String {
        (*self.dice.one_of(&FILES)).to_owned()
    }

    /// Bytes of mostly small files, and now and then of several parts.
    fn body(&mut self) -> Vec<u8> {
        let length = match self.dice.below(100) {
            0..5 => 0,
            5..97 => self.dice.below(20_000),
            _ => 5 * MIB + self.dice.below(7 * MIB),
        };
        self.dice.bytes(length)
    }

    /// Counts a reply and remembers it for messages.
    fn note(&mut self, line: &str, reply: &Reply) {
        self.context += &format!(": {line}: {}", reply.text.trim_end());
        let counter = match reply.text.contains("outcome is not known") {
            true => &self.counts.unknown,
            false if reply.code < 400 => &self.counts.done,
            false if reply.code < 500 => &self.counts.failed,
            false => &self.counts.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    async fn upload(&mut self, verb: &str, name: &str, sent: &[u8], new: Vec<u8>) {
        let old = self.model.get(name);
        let line = format!("{verb} {name}");
        let reply = self.ftp.store(&line, sent).await;
        self.note(&format!("{line} ({} bytes)", sent.len()), &reply);
        let allowed = after(&reply, &old, &Some(Arc::new(new)));
        self.model.settle(name, &allowed, &self.context).await;
    }

    async fn stor(&mut self) {
        let (name, bytes) = (self.name(), self.body());
        self.upload("STOR", &name, &bytes.clone(), bytes).await;
    }

    async fn appe(&mut self) {
        let (name, bytes) = (self.name(), self.body());
        let old = self.model.get(&name);
        let mut new = old.map_or_else(Vec::new, |old| old.to_vec());
        new.extend_from_slice(&bytes);
        if new.len() < 24 * MIB {
            self.upload("APPE", &name, &bytes, new).await;
        }
    }

    async fn rest_stor(&mut self) {
        let (name, bytes) = (self.name(), self.body());
        let Some(old) = self.model.get(&name).filter(|old| !old.is_empty()) else {
            return;
        };
        let offset = self.dice.below(old.len() + 1);
        let rest = self.ftp.command(&format!("REST {offset}")).await;
        assert_eq!(rest.code, 350, "{}: {rest:?}", self.context);
        let new = [&old[..offset], &bytes].concat();
        self.context += &format!(": REST {offset} of {}", old.len());
        self.upload("STOR", &name, &bytes, new).await;
    }

    async fn retr(&mut self) {
        let name = self.name();
        let expected = self.model.get(&name);
        let (bytes, reply) = self.ftp.fetch(&format!("RETR {name}")).await;
        self.note(&format!("RETR {name}"), &reply);
        match reply.code {
            226 => assert!(
                expected.as_deref() == Some(&bytes),
                "{}: other bytes",
                self.context
            ),
            550 => assert_eq!(expected, None, "{}", self.context),
            _ => {}
        }
    }

    async fn dele(&mut self) {
        let name = self.name();
        let old = self.model.get(&name);
        let reply = self.ftp.command(&format!("DELE {name}")).await;
        self.note(&format!("DELE {name}"), &reply);
        let is_missing = reply.code == 550;
        assert!(!is_missing || old.is_none(), "{}", self.context);
        assert!(reply.code != 250 || old.is_some(), "{}", self.context);
        let allowed = after(&reply, &old, &None);
        self.model.settle(&name, &allowed, &self.context).await;
    }

    async fn rename_file(&mut self) {
        let (from, to) = (self.name(), self.name());
        if from == to {
            return;
        }
        let (source, target) = (self.model.get(&from), self.model.get(&to));
        let reply = self.ftp.command(&format!("RNFR {from}")).await;
        if reply.code != 350 {
            self.note(&format!("RNFR {from}"), &reply);
            assert!(reply.code != 550 || source.is_none(), "{}", self.context);
            return;
        }
        assert!(source.is_some(), "{}: it is not there", self.context);
        let reply = self.ftp.command(&format!("RNTO {to}")).await;
        self.note(&format!("RNFR {from}, RNTO {to}"), &reply);
        let is_copied = reply.text.contains("the new file is complete");
        let (sources, targets) = match (is_copied, reply.code) {
            (true, _) => (after(&reply, &source, &None), vec![source.clone()]),
            // another version stays under the old name, says the reply; here it is the one that the store lied about
            (false, 250) if reply.text.contains("stay") => {
                (vec![source.clone()], vec![source.clone()])
            }
            (false, 250) => (vec![None], vec![source.clone()]),
            (false, _) => (vec![source.clone()], after(&reply, &target, &source)),
        };
        self.model.settle(&from, &sources, &self.context).await;
        self.model.settle(&to, &targets, &self.context).await;
    }

    async fn rename_directory(&mut self) {
        let (from, to) = match self.dice.below(2) {
            0 => ("d", "e"),
            _ => ("e", "d"),
        };
        let below = FILES.iter().filter_map(|file| file.strip_prefix("d/"));
        let names: Vec<&str> = below.collect();
        let reply = self.ftp.command(&format!("RNFR {from}")).await;
        if reply.code != 350 {
            self.note(&format!("RNFR {from}"), &reply);
            return;
        }
        let reply = self.ftp.command(&format!("RNTO {to}")).await;
        self.note(&format!("RNFR {from}, RNTO {to}"), &reply);
        for name in names {
            let (old, new) = (format!("{from}/{name}"), format!("{to}/{name}"));
            let (source, target) = (self.model.get(&old), self.model.get(&new));
            let is_moved = reply.code == 250 && !reply.text.contains("stay");
            let (sources, targets): (Vec<Content>, Vec<Content>) = match (&source, reply.code) {
                (None, _) | (_, 550 | 553) => (vec![source.clone()], vec![target.clone()]),
                (Some(_), 250) if is_moved => (vec![None], vec![source.clone()]),
                // a part may be done; what is in neither place is lost
                (Some(_), _) => (
                    vec![source.clone(), None],
                    vec![target.clone(), source.clone()],
                ),
            };
            self.model.settle(&old, &sources, &self.context).await;
            self.model.settle(&new, &targets, &self.context).await;
            let is_somewhere = self.model.get(&old) == source || self.model.get(&new) == source;
            assert!(is_somewhere, "{}: {name} is lost", self.context);
        }
    }

    async fn directory(&mut self) {
        let name = ["m", "n"][self.dice.below(2)];
        let verb = ["MKD", "RMD"][self.dice.below(2)];
        let before = self.model.has_marker(name).await;
        let reply = self.ftp.command(&format!("{verb} {name}")).await;
        self.note(&format!("{verb} {name}"), &reply);
        let is_there = self.model.has_marker(name).await;
        let wanted = verb == "MKD";
        match reply.code {
            250 | 257 => assert!(is_there == wanted && before != wanted, "{}", self.context),
            550 => assert!(is_there == before && before == wanted, "{}", self.context),
            _ if reply.text.contains("outcome is not known") => {}
            _ => assert_eq!(is_there, before, "{}", self.context),
        }
    }

    async fn mfmt(&mut self) {
        let name = self.name();
        let old = self.model.get(&name);
        let before = match old {
            Some(_) => self.model.metadata(&name, "mtime").await,
            None => None,
        };
        let second = self.dice.below(60);
        let line = format!("MFMT 200102030405{second:02} {name}");
        let reply = self.ftp.command(&line).await;
        self.note(&line, &reply);
        self.model
            .settle(&name, std::slice::from_ref(&old), &self.context)
            .await;
        if old.is_none() {
            assert!(reply.code >= 400, "{}", self.context);
            return;
        }
        let wanted = Some((981_173_100 + second).to_string());
        let is = self.model.metadata(&name, "mtime").await;
        match reply.code {
            213 => assert_eq!(is, wanted, "{}", self.context),
            550 => panic!("{}: it is there", self.context),
            _ if reply.text.contains("outcome is not known") => {
                assert!(is == before || is == wanted, "{}: {is:?}", self.context);
            }
            _ => assert_eq!(is, before, "{}", self.context),
        }
    }

    async fn list(&mut self) {
        let verb = ["NLST", "LIST", "MLSD"][self.dice.below(3)];
        let (bytes, reply) = self.ftp.fetch(verb).await;
        self.note(verb, &reply);
        if reply.code != 226 {
            return;
        }
        let text = String::from_utf8(bytes).expect("UTF-8");
        let last = |line: &str| line.rsplit(' ').next().unwrap_or_default().to_owned();
        let all: Vec<String> = text.lines().map(last).collect();
        let is_file = |name: &&String| ["a", "b", "c"].contains(&name.as_str());
        let mut files: Vec<String> = all.iter().filter(is_file).cloned().collect();
        files.sort();
        let mut expected = self.model.names();
        expected.retain(|name| !name.contains('/'));
        assert_eq!(files, expected, "{}", self.context);
        for directory in ["d", "e"] {
            let prefix = format!("{directory}/");
            let has_files = self
                .model
                .names()
                .iter()
                .any(|name| name.starts_with(&prefix));
            let is_shown = all.iter().any(|name| name == directory);
            assert!(is_shown || !has_files, "{}: {directory}", self.context);
        }
    }
}
