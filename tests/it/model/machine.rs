//! The model: sessions, their rights and the tree; and for each step the replies and data that the gateway should give.

use super::pattern::{fits, is_pattern, without_options};
use super::step::{Body, Command, Step};
use super::tree::{Entry, Tree, is_below, name, parent, resolve};

/// The rights of a user, `users[].permissions`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rights {
    /// As in the configuration.
    pub words: &'static str,
    read: bool,
    list: bool,
    write: bool,
    overwrite: bool,
    delete: bool,
    rename: bool,
}

/// The rights of the users that there are: all of them, and subsets that leave one or several out.
pub const RIGHTS: [&str; 7] = [
    "read,list,write,overwrite,delete,rename",
    "read,list",
    "write",
    "read,list,write,delete,rename",
    "list,write,overwrite",
    "list,rename,delete",
    "read,write,overwrite,rename",
];

impl Rights {
    pub fn new(words: &'static str) -> Self {
        let has = |right: &str| words.split(',').any(|word| word == right);
        Rights {
            words,
            read: has("read"),
            list: has("list"),
            write: has("write"),
            overwrite: has("overwrite"),
            delete: has("delete"),
            rename: has("rename"),
        }
    }
}

/// One control connection.
#[derive(Debug, Clone)]
pub struct Session {
    pub rights: Rights,
    pub working_directory: String,
    /// The offset of REST.
    offset: u64,
    /// The path of RNFR.
    renaming: Option<String>,
}

/// Everything that a reply depends on.
#[derive(Debug, Clone)]
pub struct State {
    pub sessions: Vec<Session>,
    pub tree: Tree,
    /// `listing.times` is `metadata`.
    pub has_set_times: bool,
    /// Another session lists and asks after each step, by which the gateway learns names that it hasn't seen before.
    pub is_watched: bool,
    /// The number of steps so far.
    pub step: usize,
    /// The conversation of the last step.
    pub exchanges: Vec<Exchange>,
}

/// One command and what should come of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub line: String,
    pub data: Data,
    /// The codes that are right.
    pub codes: Vec<u16>,
    pub expected: Expected,
}

/// The data connection of a command.
#[derive(Debug, Clone)]
pub enum Data {
    None,
    Sent(Vec<u8>),
    Fetched,
}

/// The content of a good reply, or of the data connection.
#[derive(Debug, Clone)]
pub enum Expected {
    Anything,
    /// The text behind the code.
    Text(String),
    /// The time of a file.
    Time(Entry),
    /// The facts of one entry.
    Facts(Entry),
    Bytes(Vec<u8>),
    /// The lines of LIST, NLST or MLSD.
    Listing {
        verb: &'static str,
        entries: Vec<Entry>,
        working_directory: String,
        /// A file that lists itself has the time that was set, as for MDTM.
        is_of_file: bool,
    },
}

/// The content of a good listing.
pub enum Listed {
    Directory(Vec<Entry>),
    File(Entry),
}

impl Listed {
    pub fn expected(self, verb: &'static str, working_directory: String) -> Expected {
        let (entries, is_of_file) = match self {
            Listed::Directory(entries) => (entries, false),
            Listed::File(entry) => (vec![entry], true),
        };
        Expected::Listing {
            verb,
            entries,
            working_directory,
            is_of_file,
        }
    }
}

const DONE: [u16; 1] = [250];
const REFUSED: [u16; 1] = [550];
const BAD_NAME: [u16; 1] = [553];

/// A name that stands for one with a line feed: it can be asked for, and not be made.
fn is_odd(path: &str) -> bool {
    path.contains("%0A")
}

impl State {
    pub fn new(rights: &[&'static str], tree: Tree, has_set_times: bool, is_watched: bool) -> Self {
        let session = |words: &&'static str| Session {
            rights: Rights::new(words),
            working_directory: "/".to_owned(),
            offset: 0,
            renaming: None,
        };
        State {
            sessions: rights.iter().map(session).collect(),
            tree,
            has_set_times,
            is_watched,
            step: 0,
            exchanges: Vec::new(),
        }
    }

    /// The session that takes a step.
    pub fn session(&self, step: &Step) -> usize {
        step.session % self.sessions.len()
    }

    pub fn apply(&mut self, step: &Step) {
        self.exchanges.clear();
        self.step += 1;
        let at = self.session(step);
        let mut session = self.sessions[at].clone();
        self.execute(&mut session, &step.command);
        self.sessions[at] = session;
    }

    fn expect(&mut self, line: String, codes: &[u16], expected: Expected) {
        self.exchanges.push(Exchange {
            line,
            data: Data::None,
            codes: codes.to_vec(),
            expected,
        });
    }

    fn execute(&mut self, session: &mut Session, command: &Command) {
        let renaming = session.renaming.take();
        if !command.keeps_offset() {
            session.offset = 0;
        }
        let path = resolve(
            &session.working_directory,
            command.argument().unwrap_or_default(),
        );
        let line = command.line();
        match command {
            Command::Stor(_, body) => self.upload(session, line, &path, body),
            Command::Appe(_, body) => self.append(session, line, &path, body),
            Command::RestStor(offset, argument, body) => {
                self.rest(session, *offset);
                self.upload(session, format!("STOR {argument}"), &path, body);
            }
            Command::Retr(_) => self.download(session, line, &path),
            Command::RestRetr(offset, argument) => {
                self.rest(session, *offset);
                self.download(session, format!("RETR {argument}"), &path);
            }
            Command::Rest(offset) => self.rest(session, *offset),
            Command::Dele(_) => {
                let may = session.rights.delete && self.tree.file(&path).is_some();
                self.change(line, may, &REFUSED, |tree| tree.remove(&path));
            }
            Command::Mkd(_) => self.make_directory(session, line, &path),
            Command::Rmd(_) => {
                let may = session.rights.delete && self.tree.is_removable(&path);
                let is_root = session.rights.delete && path == "/";
                let refusal = if is_root { BAD_NAME } else { REFUSED };
                self.change(line, may, &refusal, |tree| tree.remove(&path));
            }
            Command::Rename(from, to) => {
                self.rename_from(session, from);
                let renaming = session.renaming.take();
                self.rename_to(session, renaming, to);
            }
            Command::Rnfr(from) => self.rename_from(session, from),
            Command::Rnto(to) => self.rename_to(session, renaming, to),
            Command::Cwd(_) => self.enter(session, line, path),
            Command::Cdup => {
                let above = parent(&session.working_directory);
                self.enter(session, line, above);
            }
            Command::Pwd => {
                let quoted = session.working_directory.replace('"', "\"\"");
                self.expect(line, &[257], Expected::Text(format!("\"{quoted}\"")));
            }
            Command::Size(_) => match self.tree.file(&path) {
                Some(file) => {
                    let size = file.content.len().to_string();
                    self.expect(line, &[213], Expected::Text(size));
                }
                None => self.expect(line, &REFUSED, Expected::Anything),
            },
            Command::Mdtm(_) => {
                let entry = self.tree.entry(&path);
                match (&entry.file, self.tree.is_directory(&path)) {
                    (Some(_), _) => self.expect(line, &[213], Expected::Time(entry)),
                    // it has the time of its marker, if it has one
                    (None, true) => self.expect(line, &[213, 550], Expected::Anything),
                    (None, false) => self.expect(line, &REFUSED, Expected::Anything),
                }
            }
            Command::Mfmt(_, time) => {
                let (seconds, step) = (time.seconds(), self.step);
                let is_file = self.tree.file(&path).is_some();
                let code = match (session.rights.write, path.as_str()) {
                    (false, _) => 550,
                    (true, "/") => 553,
                    _ if is_file => 213,
                    _ => 550,
                };
                if code == 213 {
                    self.tree.set_time(&path, seconds, step);
                }
                self.expect(line, &[code], Expected::Anything);
            }
            Command::Mlst(_) => {
                let may = session.rights.list && self.tree.is_there(&path);
                match may {
                    true => {
                        let entry = self.tree.entry(&path);
                        self.expect(line, &DONE, Expected::Facts(entry));
                    }
                    false => self.expect(line, &REFUSED, Expected::Anything),
                }
            }
            Command::List(verb, argument) => self.list(session, verb, argument),
        }
    }

    fn change(&mut self, line: String, may: bool, refusal: &[u16], change: impl FnOnce(&mut Tree)) {
        if may {
            change(&mut self.tree);
        }
        self.expect(line, if may { &DONE } else { refusal }, Expected::Anything);
    }

    fn rest(&mut self, session: &mut Session, offset: u64) {
        session.offset = offset;
        self.expect(format!("REST {offset}"), &[350], Expected::Anything);
    }

    fn upload(&mut self, session: &mut Session, line: String, path: &str, body: &Body) {
        let offset = std::mem::take(&mut session.offset);
        let old = self.tree.file(path).map(|file| file.content.clone());
        let kept = match (offset, &old) {
            (0, _) => Ok(Vec::new()),
            (_, None) => Err(550),
            (_, Some(old)) => match usize::try_from(offset) {
                Ok(offset) if offset <= old.len() => Ok(old[..offset].to_vec()),
                _ => Err(554),
            },
        };
        self.store(session, line, path, kept, body);
    }

    fn append(&mut self, session: &mut Session, line: String, path: &str, body: &Body) {
        session.offset = 0;
        let old = self.tree.file(path).map(|file| file.content.to_vec());
        self.store(session, line, path, Ok(old.unwrap_or_default()), body);
    }

    /// An upload behind the kept bytes of an older file, or the code of its refusal.
    fn store(
        &mut self,
        session: &Session,
        line: String,
        path: &str,
        kept: Result<Vec<u8>, u16>,
        body: &Body,
    ) {
        let (tree, rights) = (&self.tree, session.rights);
        let is_taken = tree.is_directory(path) || tree.is_below_file(path);
        let content = if !rights.write {
            Err(550)
        } else if is_odd(path) || path == "/" {
            Err(553)
        } else if is_taken {
            Err(550)
        } else {
            let may = rights.overwrite || tree.file(path).is_none();
            kept.and_then(|kept| if may { Ok(kept) } else { Err(550) })
        };
        let sent = body.bytes();
        let code = match content {
            Ok(kept) => {
                let content = [kept, sent.clone()].concat();
                self.tree.store(path, content, self.step);
                226
            }
            Err(code) => code,
        };
        self.exchanges.push(Exchange {
            line,
            data: Data::Sent(sent),
            codes: vec![code],
            expected: Expected::Anything,
        });
    }

    fn download(&mut self, session: &mut Session, line: String, path: &str) {
        let offset = std::mem::take(&mut session.offset);
        let file = self.tree.file(path);
        let rest = match (session.rights.read, path, file) {
            (false, ..) => Err(550),
            (true, "/", _) => Err(553),
            (true, _, None) => Err(550),
            (true, _, Some(file)) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                file.content.get(from..).map(<[u8]>::to_vec).ok_or(554)
            }
        };
        let (code, expected) = match rest {
            Ok(bytes) => (226, Expected::Bytes(bytes)),
            Err(code) => (code, Expected::Anything),
        };
        self.fetch(line, code, expected);
    }

    fn fetch(&mut self, line: String, code: u16, expected: Expected) {
        self.exchanges.push(Exchange {
            line,
            data: Data::Fetched,
            codes: vec![code],
            expected,
        });
    }

    fn make_directory(&mut self, session: &Session, line: String, path: &str) {
        let code = if !session.rights.write {
            550
        } else if is_odd(path) {
            553
        } else if self.tree.is_there(path) || self.tree.is_below_file(path) {
            550
        } else {
            self.tree.make_directory(path);
            257
        };
        self.expect(line, &[code], Expected::Anything);
    }

    fn rename_from(&mut self, session: &mut Session, from: &str) {
        let path = resolve(&session.working_directory, from);
        let may = session.rights.rename && self.tree.is_movable(&path);
        self.expect(
            format!("RNFR {from}"),
            &[if may { 350 } else { 550 }],
            Expected::Anything,
        );
        session.renaming = may.then_some(path);
    }

    fn rename_to(&mut self, session: &Session, from: Option<String>, to: &str) {
        let line = format!("RNTO {to}");
        let Some(from) = from else {
            return self.expect(line, &[503], Expected::Anything);
        };
        let to = resolve(&session.working_directory, to);
        let step = self.step;
        let tree = &mut self.tree;
        let Rights {
            read,
            write,
            delete,
            ..
        } = session.rights;
        if tree.changes_mount(&from, &to) && !(read && write && delete) {
            let codes = if is_odd(&to) {
                &[550, 553][..]
            } else {
                &REFUSED
            };
            return self.expect(line, codes, Expected::Anything);
        }
        let is_mount = tree.leads_to_mount(&to);
        let is_one_store = tree.are_in_one_store(&from, &to);
        let is_bad_name = from == "/" || to == "/" || is_odd(&to) || !is_one_store;
        let refusal = [BAD_NAME, REFUSED][usize::from(is_mount || !is_bad_name)];
        let is_bad = is_mount || is_bad_name || !tree.is_there(&from);
        let is_same = from == to;
        let may = if is_bad {
            false
        } else if is_same {
            true
        } else if tree.file(&from).is_some() {
            let may_replace = session.rights.overwrite || tree.file(&to).is_none();
            may_replace && !tree.is_directory(&to) && !tree.is_below_file(&to)
        } else {
            let is_free = !tree.is_there(&to) || tree.is_begun_rename(&from, &to);
            let is_nested = is_below(&to, &from) || is_below(&from, &to);
            is_free && !is_nested && tree.file(&to).is_none() && !tree.is_below_file(&to)
        };
        self.change(line, may, &refusal, |tree| match tree.file(&from) {
            _ if is_same => {}
            Some(_) => tree.rename_file(&from, &to, step),
            None => tree.rename_directory(&from, &to, step),
        });
    }

    fn enter(&mut self, session: &mut Session, line: String, path: String) {
        let may = self.tree.is_directory(&path);
        if may {
            session.working_directory = path;
        }
        self.change(line, may, &REFUSED, |_| {});
    }

    fn list(&mut self, session: &mut Session, verb: &'static str, argument: &str) {
        let line = format!("{verb} {argument}")
            .trim_end_matches(' ')
            .to_owned();
        let has_options = verb != "MLSD";
        let listed = match has_options.then(|| without_options(argument)) {
            // refused before it is a command, so that REST stays
            Some(Err(())) => return self.fetch(line, 504, Expected::Anything),
            Some(Ok(argument)) => argument,
            None => argument,
        };
        session.offset = 0;
        let listed = match session.rights.list {
            true => self.listed(&session.working_directory, listed, has_options),
            false => Err(550),
        };
        let (code, expected) = match listed {
            Ok(listed) => {
                let working_directory = session.working_directory.clone();
                (226, listed.expected(verb, working_directory))
            }
            Err(code) => (code, Expected::Anything),
        };
        self.fetch(line, code, expected);
    }

    /// The entries of a listing, or the code of its refusal.
    pub fn listed(
        &self,
        working_directory: &str,
        argument: &str,
        has_patterns: bool,
    ) -> Result<Listed, u16> {
        let path = resolve(working_directory, argument);
        if self.tree.is_directory(&path) {
            return Ok(Listed::Directory(self.tree.entries(&path)));
        }
        if self.tree.file(&path).is_some() {
            return match has_patterns {
                true => Ok(Listed::File(self.tree.entry(&path))),
                false => Err(501),
            };
        }
        let last = argument.rsplit('/').next().unwrap_or_default();
        let directory = resolve(working_directory, &argument[..argument.len() - last.len()]);
        if has_patterns && is_pattern(last) && self.tree.is_directory(&directory) {
            let mut entries = self.tree.entries(&directory);
            entries.retain(|entry| fits(last, name(&entry.path)));
            return Ok(Listed::Directory(entries));
        }
        Err(550)
    }
}
