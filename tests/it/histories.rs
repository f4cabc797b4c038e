//! Histories of four sessions that store, append, read, rename and delete two names at random, and a check that each of
//! them is linearizable: that all replies and all bytes are what one session after another would have had.
//!
//! The model: a name has a content or none. STOR, APPE, RETR and DELE happen at one moment between the command and its
//! reply. RNTO happens at two, since S3 has no rename: the copy, and the delete, which leaves what is another version by
//! then. Within one gateway nothing but reads comes in between. What was refused with 451 has not happened.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::gateway::start;
use crate::support::{Ftp, Reply, TestStore, cheap_hash};

const NAMES: [&str; 2] = ["a", "b"];
const SESSIONS: usize = 4;
const COMMANDS: usize = 6;

/// The content of each name: the numbers of the STOR and of the APPEs that made it.
type State = [Option<Vec<u64>>; 2];

#[derive(Debug, Clone)]
enum Operation {
    Stor(usize, u64),
    Appe(usize, u64),
    Retr(usize, Option<Vec<u64>>),
    Dele(usize, bool),
    /// From the first name to the other; whether it was done, or nothing was there.
    Rename(usize, bool),
    /// RNFR and SIZE: whether it was there.
    Exists(usize, bool),
}

#[derive(Debug, Clone)]
struct Event {
    session: usize,
    operation: Operation,
    began: u64,
    ended: u64,
    reply: Reply,
}

impl Operation {
    /// The number of moments that it has.
    fn moments(&self) -> u8 {
        match self {
            Operation::Rename(_, true) => 2,
            _ => 1,
        }
    }

    fn is_read(&self) -> bool {
        matches!(
            self,
            Operation::Retr(..)
                | Operation::Exists(..)
                | Operation::Dele(_, false)
                | Operation::Rename(_, false)
        )
    }

    /// The state after one of its moments; `None` if that can't have been. `copied` is what a rename has copied.
    fn apply(&self, moment: u8, state: &State, copied: Option<&Vec<u64>>) -> Option<State> {
        let mut next = state.clone();
        match self {
            Operation::Stor(name, id) => next[*name] = Some(vec![*id]),
            Operation::Appe(name, id) => next[*name].get_or_insert_default().push(*id),
            Operation::Retr(name, content) => {
                return (state[*name] == *content).then_some(next);
            }
            Operation::Exists(name, is_there) => {
                return (state[*name].is_some() == *is_there).then_some(next);
            }
            Operation::Dele(name, was_there) => {
                let was = next[*name].take().is_some();
                return (was == *was_there).then_some(next);
            }
            Operation::Rename(from, false) => return state[*from].is_none().then_some(next),
            Operation::Rename(from, true) if moment == 0 => {
                next[1 - from] = Some(state[*from].clone()?);
            }
            Operation::Rename(from, true) => {
                if state[*from].as_ref() == copied {
                    next[*from] = None;
                }
            }
        }
        Some(next)
    }
}

/// Where the search stands: the moments that have been, the state after them, and what renames under way have copied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Point {
    done: Vec<u8>,
    state: State,
    copied: Vec<Option<Vec<u64>>>,
}

/// True if there is an order of all moments, each between its command and its reply, in which everything fits.
/// `strictly`: nothing but reads comes between the two moments of a rename.
fn is_linearizable(events: &[Event], strictly: bool) -> bool {
    let start = Point {
        done: vec![0; events.len()],
        state: State::default(),
        copied: vec![None; events.len()],
    };
    let (mut seen, mut open) = (HashSet::new(), vec![start]);
    while let Some(point) = open.pop() {
        let is_open = |at: &usize| point.done[*at] < events[*at].operation.moments();
        let unfinished: Vec<usize> = (0..events.len()).filter(is_open).collect();
        let Some(first_end) = unfinished.iter().map(|at| events[*at].ended).min() else {
            return true;
        };
        let is_between = |at: &&usize| point.done[**at] > 0;
        let between = unfinished.iter().find(is_between);
        for at in &unfinished {
            let event = &events[*at];
            let is_kept_out = strictly
                && between.is_some_and(|between| between != at && !event.operation.is_read());
            if event.began > first_end || is_kept_out {
                continue;
            }
            let copied = point.copied[*at].as_ref();
            let moment = point.done[*at];
            let Some(state) = event.operation.apply(moment, &point.state, copied) else {
                continue;
            };
            let mut next = point.clone();
            if let (Operation::Rename(from, true), 0) = (&event.operation, moment) {
                next.copied[*at].clone_from(&point.state[*from]);
            }
            next.done[*at] += 1;
            next.state = state;
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    false
}

/// A small generator, so that a seed says all.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// The shared state of all sessions of one history share.
struct Shared {
    clock: AtomicU64,
    ids: AtomicU64,
    /// Bytes that follow each number, for objects that are written in parts.
    padding: usize,
    /// Names of their own for each history of a store.
    prefix: String,
}

impl Shared {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// A new content: its number, and as much padding as it needs.
    fn content(&self, padding: usize) -> (u64, Vec<u8>) {
        let id = self.ids.fetch_add(1, Ordering::SeqCst);
        let mut bytes = format!("{id};").into_bytes();
        bytes.resize(bytes.len() + padding, b'.');
        (id, bytes)
    }
}

fn parse(bytes: &[u8]) -> Vec<u64> {
    let text = String::from_utf8_lossy(bytes).replace('.', "");
    let numbers = text.split_terminator(';');
    numbers
        .map(|number| number.parse().expect("a number"))
        .collect()
}

async fn session(
    mut ftp: Ftp,
    number: usize,
    mut random: Random,
    shared: Arc<Shared>,
) -> Vec<Event> {
    let mut events = Vec::new();
    let path = |name: usize| format!("{}{}", shared.prefix, NAMES[name]);
    for _ in 0..COMMANDS {
        let name = random.below(2) as usize;
        let choice = random.below(10);
        let mut began = shared.now();
        let (operation, reply) = match choice {
            0..=2 => {
                let (id, bytes) = shared.content(shared.padding);
                let reply = ftp.store(&format!("STOR {}", path(name)), &bytes).await;
                (Operation::Stor(name, id), reply)
            }
            3 | 4 => {
                let (id, bytes) = shared.content(0);
                let reply = ftp.store(&format!("APPE {}", path(name)), &bytes).await;
                (Operation::Appe(name, id), reply)
            }
            5 | 6 => {
                let (bytes, reply) = ftp.fetch(&format!("RETR {}", path(name))).await;
                let content = (reply.code == 226).then(|| parse(&bytes));
                (Operation::Retr(name, content), reply)
            }
            7 => {
                let reply = ftp.command(&format!("DELE {}", path(name))).await;
                (Operation::Dele(name, reply.code == 250), reply)
            }
            _ => {
                let ready = ftp.command(&format!("RNFR {}", path(name))).await;
                let is_there = ready.code == 350;
                events.push(Event {
                    session: number,
                    operation: Operation::Exists(name, is_there),
                    began,
                    ended: shared.now(),
                    reply: ready,
                });
                if !is_there {
                    continue;
                }
                began = shared.now();
                let reply = ftp.command(&format!("RNTO {}", path(1 - name))).await;
                (Operation::Rename(name, reply.code == 250), reply)
            }
        };
        let ended = shared.now();
        // a download may be told that its file was replaced; what was refused for now has not happened
        if reply.code == 451 {
            continue;
        }
        assert!(
            matches!(reply.code, 226 | 250) || reply.code == 550,
            "{operation:?} {reply:?}"
        );
        if matches!(operation, Operation::Stor(..) | Operation::Appe(..)) {
            assert_eq!(reply.code, 226, "{operation:?} {reply:?}");
        }
        events.push(Event {
            session: number,
            operation,
            began,
            ended,
            reply,
        });
    }
    events
}

/// One history at these gateways; an error says what happened.
async fn history(
    addresses: &[std::net::SocketAddr],
    seed: u64,
    padding: usize,
) -> Result<usize, String> {
    let shared = Arc::new(Shared {
        clock: AtomicU64::new(0),
        ids: AtomicU64::new(1),
        padding,
        prefix: format!("h{seed}-"),
    });
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let mut ftp = Ftp::connect(addresses[number % addresses.len()]).await;
        ftp.login("demo", "secret").await;
        let random = Random(seed * 1000 + number as u64);
        sessions.push(session(ftp, number, random, Arc::clone(&shared)));
    }
    let mut events: Vec<Event> = futures::future::join_all(sessions).await.concat();
    // and what is there in the end
    let mut ftp = Ftp::connect(addresses[0]).await;
    ftp.login("demo", "secret").await;
    for (name, text) in NAMES.iter().enumerate() {
        let began = shared.now();
        let (bytes, reply) = ftp.fetch(&format!("RETR h{seed}-{text}")).await;
        let content = (reply.code == 226).then(|| parse(&bytes));
        events.push(Event {
            session: SESSIONS,
            operation: Operation::Retr(name, content),
            began,
            ended: shared.now(),
            reply,
        });
    }
    if is_linearizable(&events, addresses.len() == 1) {
        return Ok(events.len());
    }
    events.sort_by_key(|event| event.began);
    let lines = events.iter().map(|event| {
        let text = event.reply.text.trim_end();
        format!(
            "{:3}-{:3} session {} {:?}: {text}",
            event.began, event.ended, event.session, event.operation
        )
    });
    Err(format!(
        "seed {seed} is not linearizable:\n{}",
        lines.collect::<Vec<_>>().join("\n")
    ))
}

#[tokio::test]
async fn histories_of_one_gateway_are_linearizable() {
    let (_store, _proxy, settings) = TestStore::behind_proxy().await;
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let gateway = start(&settings).await;
    for seed in 0..10 {
        let checked = history(&gateway.addresses()[..1], seed, 0).await;
        checked.unwrap_or_else(|failure| panic!("{failure}"));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn histories_of_two_gateways_on_a_store_with_conditions_are_linearizable() {
    let (_store, _proxy, settings) = TestStore::behind_proxy().await;
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let (one, other) = (start(&settings).await, start(&settings).await);
    let addresses = [one.addresses()[0], other.addresses()[0]];
    for seed in 100..110 {
        let checked = history(&addresses, seed, 0).await;
        checked.unwrap_or_else(|failure| panic!("{failure}"));
    }
    one.stop().await;
    other.stop().await;
}

/// As many as `HISTORIES` says, from seed `HISTORIES_SEED`, on the embedded store or on the one at `HISTORIES_ENDPOINT`
/// (bucket `bbb`, keys `ak` and `sk`), with `HISTORIES_GATEWAYS` gateways and `HISTORIES_PADDING` bytes in each file.
#[tokio::test]
#[ignore = "takes minutes; for a store of one's own"]
async fn histories_by_hand() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let (_store, _proxy, embedded) = TestStore::behind_proxy().await;
    let settings = match std::env::var("HISTORIES_ENDPOINT") {
        Err(_) => embedded,
        Ok(endpoint) => vec![
            "STORAGE__PROVIDER=s3".to_owned(),
            "UPLOAD__SWEEP=off".to_owned(),
            "STORAGE__BUCKET=bbb".to_owned(),
            format!("STORAGE__ENDPOINT={endpoint}"),
            "STORAGE__ACCESS_KEY_ID=ak".to_owned(),
            "STORAGE__SECRET_ACCESS_KEY=sk".to_owned(),
            format!(
                "USERS=[{{name: demo, password_hash: '{}'}}]",
                cheap_hash("secret")
            ),
        ],
    };
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let mut gateways = Vec::new();
    for _ in 0..number("HISTORIES_GATEWAYS", 1) {
        gateways.push(start(&settings).await);
    }
    let addresses: Vec<_> = gateways
        .iter()
        .map(|gateway| gateway.addresses()[0])
        .collect();
    let first = number("HISTORIES_SEED", 1000);
    let padding = number("HISTORIES_PADDING", 0) as usize;
    let (mut events, mut failures) = (0, Vec::new());
    for seed in first..first + number("HISTORIES", 100) {
        match history(&addresses, seed, padding).await {
            Ok(count) => events += count,
            Err(failure) => failures.push(failure),
        }
    }
    println!(
        "{events} commands in linearizable histories, {} histories that are not",
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn the_checker_finds_what_was_lost() {
    let event = |operation, began, ended| Event {
        session: 0,
        operation,
        began,
        ended,
        reply: Reply {
            code: 226,
            text: String::new(),
        },
    };
    // two appends at once, of which one is gone
    let lost = [
        event(Operation::Stor(0, 1), 0, 1),
        event(Operation::Appe(0, 2), 2, 5),
        event(Operation::Appe(0, 3), 3, 4),
        event(Operation::Retr(0, Some(vec![1, 2])), 6, 7),
    ];
    assert!(!is_linearizable(&lost, false));
    let mut kept = lost.clone();
    kept[3].operation = Operation::Retr(0, Some(vec![1, 3, 2]));
    assert!(is_linearizable(&kept, false) && is_linearizable(&kept, true));

    // a file stored under the old name during a rename, which deletes it
    let renamed = |last| {
        [
            event(Operation::Stor(0, 1), 0, 1),
            event(Operation::Rename(0, true), 2, 7),
            event(Operation::Stor(0, 2), 3, 4),
            event(Operation::Retr(1, Some(vec![1])), 8, 9),
            event(Operation::Retr(0, last), 10, 11),
        ]
    };
    assert!(!is_linearizable(&renamed(None), false));
    assert!(is_linearizable(&renamed(Some(vec![2])), true));
    // both names can be seen while it runs
    let between = [
        event(Operation::Stor(0, 1), 0, 1),
        event(Operation::Rename(0, true), 2, 7),
        event(Operation::Retr(1, Some(vec![1])), 3, 4),
        event(Operation::Retr(0, Some(vec![1])), 5, 6),
    ];
    assert!(is_linearizable(&between, true));
}
