//! The steps of a sequence, and the choice of the next one: mostly about names that are there.

use std::fmt;

use proptest::prelude::*;
use proptest::sample::select;

use super::machine::{RIGHTS, State};
use super::tree::Tree;

/// One operation of one session.
#[derive(Clone)]
pub struct Step {
    /// Counted modulo the number of sessions.
    pub session: usize,
    pub command: Command,
}

/// An operation; its arguments as a client types them.
#[derive(Debug, Clone)]
pub enum Command {
    Stor(String, Body),
    Appe(String, Body),
    RestStor(u64, String, Body),
    Retr(String),
    RestRetr(u64, String),
    Rest(u64),
    Dele(String),
    Mkd(String),
    Rmd(String),
    Rename(String, String),
    Rnfr(String),
    Rnto(String),
    Cwd(String),
    Cdup,
    Pwd,
    Size(String),
    Mdtm(String),
    Mfmt(String, Time),
    Mlst(String),
    List(&'static str, String),
}

/// Bytes to send.
#[derive(Debug, Clone, Copy)]
pub struct Body {
    length: usize,
    fill: u8,
}

/// A time to set.
#[derive(Debug, Clone, Copy)]
pub struct Time(&'static str, i64);

const TIMES: [Time; 3] = [
    Time("20020717210715", 1_026_940_035),
    Time("19690720201740", -14_182_940),
    Time("20380119031408", 2_147_483_648),
];

/// Names of files and directories. The first ones come most often, and are what a failing sequence shrinks to.
const NAMES: [&str; 20] = [
    "a", "b", "c", "a", "b", "c", "a", "b", "d e", " f", "ü漢", "-x", "-R", "[ab]", "*", "x%0Ay",
    "%41", "\"q\"", "k=v; w", "...",
];

impl Body {
    pub fn bytes(self) -> Vec<u8> {
        let period: Vec<u8> = (0..251).map(|at| self.fill.wrapping_add(at)).collect();
        let mut bytes = period.repeat(self.length / period.len() + 1);
        bytes.truncate(self.length);
        bytes
    }
}

impl Time {
    pub fn seconds(self) -> i64 {
        self.1
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}: {}", self.session, self.command.line())?;
        match &self.command {
            Command::Stor(_, body) | Command::Appe(_, body) | Command::RestStor(_, _, body) => {
                write!(f, " ({} bytes, {})", body.length, body.fill)
            }
            _ => Ok(()),
        }
    }
}

impl Command {
    /// The lines that the client sends, with a comma between them.
    pub fn line(&self) -> String {
        match self {
            Command::Stor(path, _) => format!("STOR {path}"),
            Command::Appe(path, _) => format!("APPE {path}"),
            Command::RestStor(offset, path, _) => format!("REST {offset}, STOR {path}"),
            Command::Retr(path) => format!("RETR {path}"),
            Command::RestRetr(offset, path) => format!("REST {offset}, RETR {path}"),
            Command::Rest(offset) => format!("REST {offset}"),
            Command::Dele(path) => format!("DELE {path}"),
            Command::Mkd(path) => format!("MKD {path}"),
            Command::Rmd(path) => format!("RMD {path}"),
            Command::Rename(from, to) => format!("RNFR {from}, RNTO {to}"),
            Command::Rnfr(path) => format!("RNFR {path}"),
            Command::Rnto(path) => format!("RNTO {path}"),
            Command::Cwd(path) => format!("CWD {path}"),
            Command::Cdup => "CDUP".to_owned(),
            Command::Pwd => "PWD".to_owned(),
            Command::Size(path) => format!("SIZE {path}"),
            Command::Mdtm(path) => format!("MDTM {path}"),
            Command::Mfmt(path, time) => format!("MFMT {} {path}", time.0),
            Command::Mlst(path) => format!("MLST {path}"),
            Command::List(verb, path) => format!("{verb} {path}"),
        }
    }

    /// The path, where there is one.
    pub fn argument(&self) -> Option<&str> {
        match self {
            Command::Stor(path, _)
            | Command::Appe(path, _)
            | Command::RestStor(_, path, _)
            | Command::Retr(path)
            | Command::RestRetr(_, path)
            | Command::Dele(path)
            | Command::Mkd(path)
            | Command::Rmd(path)
            | Command::Cwd(path)
            | Command::Size(path)
            | Command::Mdtm(path)
            | Command::Mfmt(path, _)
            | Command::Mlst(path)
            | Command::List(_, path)
            | Command::Rename(_, path)
            | Command::Rnfr(path)
            | Command::Rnto(path) => Some(path),
            Command::Rest(_) | Command::Cdup | Command::Pwd => None,
        }
    }

    /// True for what may stand between REST and its transfer, and for transfers. A listing forgets it once it is one.
    pub fn keeps_offset(&self) -> bool {
        matches!(
            self,
            Command::Stor(..)
                | Command::Appe(..)
                | Command::RestStor(..)
                | Command::Retr(_)
                | Command::RestRetr(..)
                | Command::Rest(_)
                | Command::Size(_)
                | Command::Mdtm(_)
                | Command::List(..)
        )
    }
}

/// Two to four sessions with rights of their own; the first one may do everything.
pub fn initial_state() -> BoxedStrategy<State> {
    let others = proptest::collection::vec(select(&RIGHTS[..]), 1..4);
    (others, any::<[bool; 3]>())
        .prop_map(|(others, [has_mounts, has_set_times, is_watched])| {
            let rights = [vec![RIGHTS[0]], others].concat();
            State::new(&rights, Tree::new(has_mounts), has_set_times, is_watched)
        })
        .boxed()
}

/// The next step in a state.
pub fn next_step(state: &State) -> BoxedStrategy<Step> {
    let sessions = state.sessions.len();
    // the first session, which may do everything, does half of the work
    let session = prop_oneof![Just(0), 0..sessions];
    let state = state.clone();
    let command = session.prop_flat_map(move |session| {
        let names = Names::new(&state, session);
        names
            .command()
            .prop_map(move |command| Step { session, command })
    });
    command.boxed()
}

/// The names that a session may use.
struct Names {
    working_directory: String,
    files: Vec<String>,
    directories: Vec<String>,
    /// Sizes of files, for offsets.
    sizes: Vec<u64>,
}

impl Names {
    fn new(state: &State, session: usize) -> Self {
        let files = state.tree.files();
        Names {
            working_directory: state.sessions[session].working_directory.clone(),
            files: files.keys().cloned().collect(),
            directories: state.tree.directories().into_iter().collect(),
            sizes: files
                .values()
                .map(|file| file.content.len() as u64)
                .collect(),
        }
    }

    fn command(&self) -> BoxedStrategy<Command> {
        let (file, directory, new) = (self.file(), self.directory(), self.new_name());
        let (any, offset) = (self.any(), self.offset());
        let pair = prop_oneof![
            4 => (self.file(), self.new_name()),
            2 => (self.file(), self.file()),
            3 => (self.directory(), self.new_name()),
            2 => (self.directory(), self.directory()),
            1 => (self.any(), self.any()),
        ];
        let new_or_file = || prop_oneof![3 => new.clone(), 2 => file.clone(), 1 => any.clone()];
        prop_oneof![
            8 => (new_or_file(), body()).prop_map(|(path, body)| Command::Stor(path, body)),
            4 => (new_or_file(), body()).prop_map(|(path, body)| Command::Appe(path, body)),
            3 => (offset.clone(), file.clone(), body())
                .prop_map(|(offset, path, body)| Command::RestStor(offset, path, body)),
            4 => file.clone().prop_map(Command::Retr),
            2 => (offset.clone(), file.clone())
                .prop_map(|(offset, path)| Command::RestRetr(offset, path)),
            1 => offset.prop_map(Command::Rest),
            5 => prop_oneof![4 => file.clone(), 1 => any.clone()].prop_map(Command::Dele),
            5 => prop_oneof![4 => new.clone(), 1 => any.clone()].prop_map(Command::Mkd),
            4 => directory.clone().prop_map(Command::Rmd),
            9 => pair.prop_map(|(from, to)| Command::Rename(from, to)),
            1 => any.clone().prop_map(Command::Rnfr),
            1 => any.clone().prop_map(Command::Rnto),
            5 => directory.clone().prop_map(Command::Cwd),
            2 => Just(Command::Cdup),
            1 => Just(Command::Pwd),
            2 => any.clone().prop_map(Command::Size),
            2 => any.clone().prop_map(Command::Mdtm),
            3 => (file.clone(), select(&TIMES[..]))
                .prop_map(|(path, time)| Command::Mfmt(path, time)),
            2 => any.clone().prop_map(Command::Mlst),
            6 => (select(vec!["MLSD", "LIST", "NLST"]), self.listed())
                .prop_map(|(verb, path)| Command::List(verb, path)),
        ]
        .boxed()
    }

    /// Mostly a file that is there.
    fn file(&self) -> BoxedStrategy<String> {
        self.mostly(&self.files)
    }

    /// Mostly a directory that is there.
    fn directory(&self) -> BoxedStrategy<String> {
        self.mostly(&self.directories)
    }

    fn any(&self) -> BoxedStrategy<String> {
        self.mostly(&[&self.files[..], &self.directories].concat())
    }

    fn mostly(&self, paths: &[String]) -> BoxedStrategy<String> {
        if paths.is_empty() {
            return self.new_name();
        }
        let known = self.typed(paths);
        prop_oneof![6 => known, 1 => self.new_name()].boxed()
    }

    /// Paths in the forms in which clients type them.
    fn typed(&self, paths: &[String]) -> BoxedStrategy<String> {
        let working_directory = self.working_directory.clone();
        (select(paths.to_vec()), 0..12)
            .prop_map(move |(path, form)| match form {
                0..4 => path,
                4..7 => relative(&working_directory, &path),
                7 => format!("{path}/"),
                8 => path.replace('/', "//"),
                9 => format!("{path}/."),
                10 => format!("/../.{path}"),
                _ => format!("{path}/../{}", path.rsplit('/').next().unwrap_or_default()),
            })
            .boxed()
    }

    /// A name that may be there or not: in the working directory, elsewhere, or below something that is there.
    fn new_name(&self) -> BoxedStrategy<String> {
        let prefix = select(vec!["", "", "", "", "/", "/", "../", "./"]);
        let names = prop_oneof![
            5 => component().boxed(),
            2 => (component(), component()).prop_map(|(a, b)| format!("{a}/{b}")).boxed(),
        ];
        let fresh = (prefix, names).prop_map(|(prefix, name)| format!("{prefix}{name}"));
        let special = select(vec!["/", ".", "..", "../.."]).prop_map(str::to_owned);
        let there = [&self.directories[..], &self.files].concat();
        if there.is_empty() {
            return prop_oneof![20 => fresh, 1 => special].boxed();
        }
        let below =
            (self.typed(&there), component()).prop_map(|(path, name)| format!("{path}/{name}"));
        prop_oneof![10 => fresh, 6 => below, 1 => special].boxed()
    }

    /// The argument of a listing.
    fn listed(&self) -> BoxedStrategy<String> {
        let patterns = vec!["*", "?", "[ab]", "[!a]*", "*a*", "-*", "[ab]*"];
        let pattern = (self.directory(), select(patterns.clone()))
            .prop_map(|(directory, pattern)| format!("{directory}/{pattern}"));
        prop_oneof![
            4 => Just(String::new()),
            4 => self.directory(),
            2 => self.any(),
            2 => pattern,
            2 => select(patterns).prop_map(str::to_owned),
            1 => self.directory().prop_map(|path| format!("-la {path}")),
            1 => self.any().prop_map(|path| format!("-- {path}")),
            1 => Just("-R".to_owned()),
        ]
        .boxed()
    }

    /// Places in files that are there, their ends among them.
    fn offset(&self) -> BoxedStrategy<u64> {
        let small = 0..40_u64;
        if self.sizes.is_empty() {
            return small.boxed();
        }
        let size = select(self.sizes.clone());
        prop_oneof![
            small,
            (size, 0..3_u64).prop_map(|(size, over)| (size + over).saturating_sub(1))
        ]
        .boxed()
    }
}

fn component() -> impl Strategy<Value = String> + Clone {
    select(&NAMES[..]).prop_map(str::to_owned)
}

/// Mostly a few bytes, so that two files are often the same; now and then over the size of a part.
fn body() -> BoxedStrategy<Body> {
    let length = prop_oneof![
        10 => 0..4_usize,
        10 => 4..300_usize,
        1 => (5 << 20)..(5 << 20) + 3_usize,
    ];
    (length, 0..3_u8)
        .prop_map(|(length, fill)| Body { length, fill })
        .boxed()
}

/// A path from the working directory.
fn relative(working_directory: &str, path: &str) -> String {
    let mut up = String::new();
    let mut base = working_directory;
    loop {
        let prefix = format!("{}/", base.trim_end_matches('/'));
        if let Some(rest) = path.strip_prefix(&prefix) {
            return format!("{up}{rest}");
        }
        if base.is_empty() || base == "/" {
            return path.to_owned();
        }
        up += "../";
        base = &base[..base.rfind('/').unwrap_or(0)];
    }
}
