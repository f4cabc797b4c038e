//! The embedded store on an index that a disk has damaged: it serves what was stored, or it does not start and says why.
//!
//! A failing run prints its seed and is repeated with `TORN_SEED`; `TORN_TRIALS` is how many damages there are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cosgate::app::Gateway;
use cosgate::chain::Chain;
use tempfile::TempDir;

use crate::faults::dice::{self, Dice, number};
use crate::support::gateway::try_start;
use crate::support::{Ftp, eventually, users};

const PAGE: usize = 4096;
const SETTINGS: [&str; 2] = [
    "UPLOAD__MIN_PART_SIZE=5MiB",
    "STORAGE__RETRY__MAX_ATTEMPTS=1",
];

/// A data directory, and its index in several states.
struct Stored {
    directory: TempDir,
    /// Half of the files ago.
    earlier: Vec<u8>,
    /// As SIGKILL leaves it.
    killed: Vec<u8>,
    /// As a stop in order leaves it.
    clean: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
    /// The content of `last` before the last change.
    before: Vec<u8>,
}

fn environment(directory: &Path) -> [String; 2] {
    [
        format!("STORAGE__DATA_DIR={}", directory.display()),
        format!("USERS={}", users(&["name: u"])),
    ]
}

async fn open(directory: &Path) -> Result<Gateway, String> {
    let own = environment(directory);
    let settings: Vec<&str> = own.iter().map(String::as_str).chain(SETTINGS).collect();
    let started = try_start(&settings).await;
    started.map_err(|error| Chain(&error).to_string())
}

async fn login(gateway: &Gateway) -> Ftp {
    let mut ftp = Ftp::connect(gateway.addresses()[0]).await;
    ftp.login("u", "secret").await;
    ftp
}

impl Stored {
    async fn new(dice: &mut Dice) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let index = directory.path().join("index.redb");
        let read = || fs::read(&index).expect("an index");
        let gateway = open(directory.path()).await.expect("it starts");
        let mut ftp = login(&gateway).await;
        let mut files = BTreeMap::new();
        let mut earlier = Vec::new();
        for number in 0..30 {
            let length = match number % 10 {
                0 => (6 << 20) + dice.below(1000),
                1..4 => 20_000 + dice.below(50_000),
                _ => dice.below(16_000),
            };
            // some names twice
            let name = format!("f{}", number % 24);
            let bytes = dice.bytes(length);
            let reply = ftp.store(&format!("STOR {name}"), &bytes).await;
            assert_eq!(reply.code, 226, "{reply:?}");
            files.insert(name, bytes);
            if number == 15 {
                earlier = read();
            }
        }
        let before = dice.bytes(900);
        assert_eq!(ftp.store("STOR last", &before).await.code, 226);
        let last = dice.bytes(1100);
        assert_eq!(ftp.store("STOR last", &last).await.code, 226);
        files.insert("last".to_owned(), last);
        // what nothing names any more is deleted after the reply
        eventually("replaced bodies are gone", || async {
            let large = files.values().filter(|bytes| bytes.len() > 16 << 10);
            // a file of 6 MiB has two parts
            let bodies = large.map(|bytes| if bytes.len() > 5 << 20 { 2 } else { 1 });
            count(&directory.path().join("blobs")) == bodies.sum::<usize>()
        })
        .await;
        let killed = read();
        drop(ftp);
        gateway.stop().await;
        let clean = read();
        Stored {
            directory,
            earlier,
            killed,
            clean,
            files,
            before,
        }
    }

    /// A copy with this index, or none.
    fn with(&self, index: Option<&[u8]>) -> TempDir {
        let copy = tempfile::tempdir().expect("a directory");
        copy_files(
            &self.directory.path().join("blobs"),
            &copy.path().join("blobs"),
        );
        if let Some(index) = index {
            fs::write(copy.path().join("index.redb"), index).expect("written");
        }
        copy
    }
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("known").is_dir() {
            true => copy_files(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("copied")),
        }
    }
}

fn count(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).expect("listed");
    let paths = entries.map(|entry| entry.expect("listed").path());
    paths
        .map(|path| if path.is_dir() { count(&path) } else { 1 })
        .sum()
}

/// A page that holds something.
fn used_page(dice: &mut Dice, index: &[u8]) -> usize {
    let is_used = |page: &usize| index[page * PAGE..][..PAGE].iter().any(|byte| *byte != 0);
    let used: Vec<usize> = (0..index.len() / PAGE).filter(is_used).collect();
    *dice.one_of(&used) * PAGE
}

fn flip(dice: &mut Dice, bytes: &mut [u8]) {
    let at = dice.below(bytes.len());
    bytes[at] ^= 1 << dice.below(8);
}

/// The index as a disk or a person has left it, and the damage in words.
fn damage(dice: &mut Dice, index: &[u8], earlier: &[u8]) -> (String, Option<Vec<u8>>) {
    let mut torn = index.to_vec();
    let words = match dice.below(11) {
        0 => return ("it is missing".to_owned(), None),
        1 => {
            torn.clear();
            "it is empty".to_owned()
        }
        2 => {
            torn.truncate(dice.below(index.len()));
            format!("cut to {} bytes", torn.len())
        }
        3 => {
            torn.truncate(dice.below(index.len() / PAGE) * PAGE);
            format!("cut to {} whole pages", torn.len() / PAGE)
        }
        4 => {
            let more = 1 + dice.below(3 * PAGE);
            torn.extend(dice.bytes(more));
            format!("{more} bytes behind its end")
        }
        5 => {
            let page = used_page(dice, index);
            torn[page..page + PAGE].fill(0);
            format!("zeros at {page}")
        }
        6 => {
            let page = used_page(dice, index);
            torn[page + PAGE / 8..page + PAGE].fill(0);
            format!("only the first sector of the page at {page}")
        }
        7 => {
            let (page, other) = (used_page(dice, index), used_page(dice, index));
            torn.copy_within(other..other + PAGE, page);
            format!("page {other} at {page}")
        }
        8 => {
            let page = used_page(dice, &index[..index.len().min(earlier.len())]);
            torn[page..page + PAGE].copy_from_slice(&earlier[page..page + PAGE]);
            format!("an older page at {page}")
        }
        9 => {
            flip(dice, &mut torn[..PAGE]);
            "a bit of the header".to_owned()
        }
        _ => {
            let bits = 1 + dice.below(8);
            for _ in 0..bits {
                let page = used_page(dice, index);
                flip(dice, &mut torn[page..page + PAGE]);
            }
            format!("{bits} bits")
        }
    };
    (words, Some(torn))
}

async fn campaign(trials: usize, seed: Option<u64>) {
    let seed = dice::seed("TORN_SEED", seed);
    let trials = number("TORN_TRIALS").map_or(trials, |trials| trials as usize);
    let mut dice = Dice::new(seed, 0);
    let stored = Stored::new(&mut dice).await;
    let (mut served, mut refused) = (0, 0);
    for trial in 0..trials {
        let is_killed = dice.below(2) == 0;
        let index = if is_killed {
            &stored.killed
        } else {
            &stored.clean
        };
        let (words, torn) = damage(&mut dice, index, &stored.earlier);
        let context = format!("TORN_SEED={seed}, trial {trial}, killed: {is_killed}, {words}");
        let copy = stored.with(torn.as_deref());
        match open(copy.path()).await {
            Ok(gateway) => {
                served += 1;
                check(&stored, &gateway, is_killed, &context).await;
                gateway.stop().await;
            }
            Err(error) => {
                refused += 1;
                for expected in ["index.redb", "restore the data directory", "start empty"] {
                    assert!(error.contains(expected), "{context}: {error}");
                }
                // whoever brings the index back has everything
                let bodies = count(&copy.path().join("blobs"));
                let expected = count(&stored.directory.path().join("blobs"));
                assert_eq!(bodies, expected, "{context}: bodies");
            }
        }
    }
    eprintln!("{trials} damages: {served} served, {refused} refused");
    assert!(
        served > 0 && refused > 0,
        "{served} served, {refused} refused"
    );
}

/// All files are there and whole. After a kill the last change may be undone: it can't be known to have been finished.
async fn check(stored: &Stored, gateway: &Gateway, is_killed: bool, context: &str) {
    let mut ftp = login(gateway).await;
    let listed = ftp.listing("NLST").await;
    let mut names: Vec<&str> = listed.lines().collect();
    names.sort_unstable();
    let expected: Vec<&str> = stored.files.keys().map(String::as_str).collect();
    assert_eq!(names, expected, "{context}");
    for (name, bytes) in &stored.files {
        let (found, reply) = ftp.fetch(&format!("RETR {name}")).await;
        assert_eq!(reply.code, 226, "{context}: {name}: {reply:?}");
        let is_undone = is_killed && name == "last" && found == stored.before;
        assert!(is_undone || found == *bytes, "{context}: {name}");
    }
    assert_eq!(ftp.store("STOR new", b"new").await.code, 226, "{context}");
    assert_eq!(ftp.fetch("RETR new").await.0, b"new", "{context}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_serves_what_was_stored_or_nothing() {
    campaign(40, Some(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_thousand_damaged_indexes_serve_what_was_stored_or_nothing() {
    campaign(1000, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_gone_costs_no_body() {
    let stored = Stored::new(&mut Dice::new(2, 0)).await;
    for index in [None, Some(&b""[..])] {
        let copy = stored.with(index);
        for _ in 0..2 {
            // the start before may still be closing the file
            eventually("it does not start, and says why", || async {
                let error = open(copy.path()).await.err().expect("it does not start");
                error.contains("is missing or empty")
            })
            .await;
        }
        let index = copy.path().join("index.redb");
        fs::remove_file(&index).expect("it was made");
        fs::write(&index, &stored.clean).expect("restored");
        let gateway = open(copy.path()).await.expect("it starts");
        check(&stored, &gateway, false, "restored").await;
        gateway.stop().await;
    }
}
