//! A sequence at a real gateway, compared with the model.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

use super::machine::{Data, Exchange, Expected, RIGHTS, State};
use super::mounts::{self, KEYS, SECOND_BUCKET};
use super::step::Step;
use super::stored;
use super::tree::{Entry, File, name, parent, resolve};
use crate::support::gateway::BUCKET;
use crate::support::{Ftp, Reply, TestGateway, login, users};

/// Homes of one gateway, each for one sequence: what a gateway has seen of a home counts for the replies.
const HOMES: usize = 40;

/// Gateways that are used by one sequence after another.
#[derive(Default)]
pub struct Gateways {
    /// With the store's times in listings, and with those that were set; and the number of homes that were used.
    running: [Option<(TestGateway, usize)>; 2],
}

/// A home that nobody has used.
struct Home<'a> {
    gateway: &'a TestGateway,
    number: usize,
}

struct Run<'a> {
    gateway: &'a TestGateway,
    /// The home of all sessions, as a key.
    home: String,
    /// An object beside the home, whose name begins as the home's does.
    outside: String,
    sessions: Vec<Ftp>,
    /// A session of its own that looks after each step.
    watcher: Ftp,
    /// The first and the last second of each step.
    times: Vec<(i64, i64)>,
}

/// Takes the steps one after another; the error is the first difference. `seen` counts the steps that were taken.
pub async fn run(
    gateways: &mut Gateways,
    mut state: State,
    steps: &[Step],
    seen: Option<&AtomicUsize>,
) -> Result<(), String> {
    let home = gateways.home(state.has_set_times).await;
    let mut run = Run::start(home, &state).await;
    let mut checked = Ok(());
    for step in steps {
        if let Some(seen) = seen {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        state.apply(step);
        checked = run.step(&state, step).await;
        if checked.is_err() {
            break;
        }
    }
    if checked.is_ok() {
        checked = run.look_at_all(&state).await;
    }
    checked.map_err(|difference| format!("step {}: {difference}", state.step))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs() as i64
}

impl Gateways {
    async fn home(&mut self, has_set_times: bool) -> Home<'_> {
        let running = &mut self.running[usize::from(has_set_times)];
        if let Some((gateway, _)) = running.take_if(|(_, used)| *used == HOMES) {
            gateway.stop().await;
        }
        if running.is_none() {
            *running = Some((start(has_set_times).await, 0));
        }
        let (gateway, used) = running.as_mut().expect("it was started right above");
        *used += 1;
        Home {
            gateway,
            number: *used - 1,
        }
    }

    pub async fn stop(self) {
        for (gateway, _) in self.running.into_iter().flatten() {
            gateway.stop().await;
        }
    }
}

/// The user of a home with a set of rights, counted in [`RIGHTS`].
fn user_name(home: usize, rights: usize, has_mounts: bool) -> String {
    let kind = if has_mounts { "m" } else { "u" };
    format!("{kind}{home}-{rights}")
}

/// A gateway with two users for each home and set of rights, one with mounts and one without.
async fn start(has_set_times: bool) -> TestGateway {
    let homes = (0..HOMES).flat_map(|home| {
        let rights = RIGHTS.iter().enumerate();
        rights.flat_map(move |(number, rights)| {
            [false, true].map(|has_mounts| {
                let name = user_name(home, number, has_mounts);
                let mounts = match has_mounts {
                    true => mounts::entries(&format!("home{home}")),
                    false => "[]".to_owned(),
                };
                format!(
                    "name: {name}, home: /home{home}, permissions: '{rights}', mounts: {mounts}"
                )
            })
        })
    });
    let entries: Vec<String> = homes.collect();
    let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
    let times = if has_set_times { "metadata" } else { "store" };
    let settings = [
        format!("USERS={}", users(&entries)),
        format!("LISTING__TIMES={times}"),
        "UPLOAD__MIN_PART_SIZE=5MiB".to_owned(),
        format!("STORAGE__ACCESS_KEY_ID={}", KEYS[0]),
        format!("STORAGE__SECRET_ACCESS_KEY={}", KEYS[1]),
    ];
    let gateway = TestGateway::with(&settings.each_ref().map(String::as_str)).await;
    gateway.create_bucket(SECOND_BUCKET).await;
    gateway
}

impl<'a> Run<'a> {
    async fn start(home: Home<'a>, state: &State) -> Self {
        let Home { gateway, number } = home;
        let home = format!("home{number}");
        let outside = format!("{home}x/a");
        gateway.put_object(&outside, b"not theirs".to_vec()).await;
        let mut sessions = Vec::new();
        for session in &state.sessions {
            let user = RIGHTS
                .iter()
                .position(|rights| *rights == session.rights.words);
            let user = user.expect("one of them");
            let user = user_name(number, user, state.tree.has_mounts);
            sessions.push(login(gateway, &user).await);
        }
        Run {
            watcher: login(gateway, &user_name(number, 0, state.tree.has_mounts)).await,
            gateway,
            home,
            outside,
            sessions,
            times: vec![(0, 0)],
        }
    }

    async fn step(&mut self, state: &State, step: &Step) -> Result<(), String> {
        let began = now();
        let mut replies = Vec::new();
        for exchange in &state.exchanges {
            let ftp = &mut self.sessions[state.session(step)];
            replies.push(converse(ftp, exchange).await);
        }
        self.times.push((began, now()));
        for (exchange, (reply, bytes)) in state.exchanges.iter().zip(replies) {
            let line = &exchange.line;
            ensure!(
                exchange.codes.contains(&reply.code),
                "{line}: {:?}, and not one of {:?}",
                reply.text,
                exchange.codes
            );
            self.compare(state, exchange, &reply, &bytes)
                .map_err(|difference| format!("{line}: {difference}"))?;
        }
        stored::compare(self.gateway, &self.home, state).await?;
        if state.is_watched {
            let session = &state.sessions[state.session(step)];
            let argument = step.command.argument().unwrap_or_default();
            let path = resolve(&session.working_directory, argument);
            self.look_at(state, &parent(&path)).await?;
            if path != "/" {
                self.ask_about(state, &path).await?;
            }
        }
        Ok(())
    }

    fn compare(
        &self,
        state: &State,
        exchange: &Exchange,
        reply: &Reply,
        bytes: &[u8],
    ) -> Result<(), String> {
        let text = reply.text.get(4..).unwrap_or_default().trim_end();
        match &exchange.expected {
            Expected::Anything => {}
            Expected::Text(expected) => ensure!(text == expected, "{text:?}, not {expected:?}"),
            Expected::Time(entry) => {
                let times = self.times_of(entry, true);
                ensure!(
                    times.contains(&text.to_owned()),
                    "{text}, not one of {times:?}"
                );
            }
            Expected::Facts(entry) => {
                let line = reply.text.lines().nth(1).unwrap_or_default();
                let expected = &entry.path;
                let found = self.facts(line.trim_start(), entry, true)?;
                ensure!(found == expected, "{found:?}, not {expected:?}");
            }
            Expected::Bytes(expected) => ensure!(
                bytes == expected,
                "{} other bytes, {} expected",
                bytes.len(),
                expected.len()
            ),
            Expected::Listing {
                verb,
                entries,
                working_directory,
                is_of_file,
            } => {
                let has_set_times = state.has_set_times || *is_of_file;
                let text = String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())?;
                let lines: Vec<&str> = text.split_terminator("\r\n").collect();
                ensure!(
                    lines.len() == entries.len(),
                    "{lines:?}, and not the {} entries {entries:?}",
                    entries.len()
                );
                let mut missing: Vec<&Entry> = entries.iter().collect();
                for line in lines {
                    let found = missing.iter().position(|entry| match *verb {
                        "NLST" => resolve(working_directory, line) == entry.path,
                        _ => line.ends_with(&format!(" {}", name(&entry.path))),
                    });
                    let found = found.ok_or_else(|| format!("{line:?} is none of {missing:?}"))?;
                    let entry = missing.remove(found);
                    let shown = match *verb {
                        "NLST" => continue,
                        "LIST" => self.long(line, entry, has_set_times)?,
                        _ => self.facts(line, entry, has_set_times)?,
                    };
                    ensure!(shown == name(&entry.path), "{shown:?} in {line:?}");
                }
            }
        }
        Ok(())
    }

    /// Compares facts, and returns the name behind them.
    fn facts<'l>(
        &self,
        line: &'l str,
        entry: &Entry,
        has_set_times: bool,
    ) -> Result<&'l str, String> {
        let (facts, shown) = line.split_once(' ').ok_or("no name behind the facts")?;
        let fact = |name: &str| {
            let mut facts = facts.split(';');
            let found = facts.find_map(|fact| fact.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or("none").to_owned()
        };
        match &entry.file {
            None => ensure!(fact("type") == "dir", "no directory: {line:?}"),
            Some(file) => {
                let (size, times) = (file.content.len(), self.times_of(entry, has_set_times));
                ensure!(fact("type") == "file", "no file: {line:?}");
                ensure!(fact("size") == size.to_string(), "{size} bytes: {line:?}");
                ensure!(
                    times.contains(&fact("modify")),
                    "one of {times:?}: {line:?}"
                );
            }
        }
        Ok(shown)
    }

    /// Compares a line of LIST, and returns the name in it.
    fn long<'l>(
        &self,
        line: &'l str,
        entry: &Entry,
        has_set_times: bool,
    ) -> Result<&'l str, String> {
        let mut rest = line;
        let mut fields = Vec::new();
        for _ in 0..8 {
            rest = rest.trim_start_matches(' ');
            let (field, after) = rest.split_at(rest.find(' ').ok_or("too few fields")?);
            fields.push(field);
            rest = after;
        }
        let is_directory = entry.file.is_none();
        ensure!(
            line.starts_with('d') == is_directory,
            "another kind: {line:?}"
        );
        if let Some(file) = &entry.file {
            let size = file.content.len().to_string();
            ensure!(fields[4] == size, "{size} bytes: {line:?}");
            let days = self.seconds_of(file, has_set_times).map(day);
            let found = (fields[5].to_owned(), fields[6].to_owned());
            ensure!(days.contains(&found), "one of {days:?}: {line:?}");
        }
        rest.strip_prefix(' ')
            .ok_or_else(|| format!("no name: {line:?}"))
    }

    /// The first and the last second that a file's time may be.
    fn seconds_of(&self, file: &File, has_set_times: bool) -> [i64; 2] {
        match file.set.filter(|_| has_set_times) {
            Some(set) => [set; 2],
            None => self.times[file.written].into(),
        }
    }

    /// The times that an entry may have.
    fn times_of(&self, entry: &Entry, has_set_times: bool) -> Vec<String> {
        let Some(file) = &entry.file else {
            return Vec::new();
        };
        let [first, last] = self.seconds_of(file, has_set_times);
        (first..=last).map(timestamp).collect()
    }

    /// Compares a directory with its listings.
    async fn look_at(&mut self, state: &State, directory: &str) -> Result<(), String> {
        for verb in ["MLSD", "LIST", "NLST"] {
            let (code, expected) = match state.listed("/", directory, verb != "MLSD") {
                Ok(listed) => (226, listed.expected(verb, "/".to_owned())),
                Err(code) => (code, Expected::Anything),
            };
            let line = format!("{verb} {directory}");
            self.watch(state, line, Data::Fetched, vec![code], expected)
                .await?;
        }
        Ok(())
    }

    /// Compares the facts of a path, and the content of a file.
    async fn ask_about(&mut self, state: &State, path: &str) -> Result<(), String> {
        let entry = state.tree.entry(path);
        let (codes, expected) = match state.tree.is_there(path) {
            true => (vec![250], Expected::Facts(entry.clone())),
            false => (vec![550], Expected::Anything),
        };
        let line = format!("MLST {path}");
        self.watch(state, line, Data::None, codes, expected).await?;
        if let Some(file) = entry.file {
            let bytes = Expected::Bytes(file.content.to_vec());
            let line = format!("RETR {path}");
            self.watch(state, line, Data::Fetched, vec![226], bytes)
                .await?;
        }
        Ok(())
    }

    async fn watch(
        &mut self,
        state: &State,
        line: String,
        data: Data,
        codes: Vec<u16>,
        expected: Expected,
    ) -> Result<(), String> {
        let exchange = Exchange {
            line,
            data,
            codes,
            expected,
        };
        let (reply, bytes) = converse(&mut self.watcher, &exchange).await;
        let (line, codes) = (&exchange.line, &exchange.codes);
        ensure!(
            codes.contains(&reply.code),
            "afterwards {line}: {:?}, not {codes:?}",
            reply.text
        );
        self.compare(state, &exchange, &reply, &bytes)
            .map_err(|difference| format!("afterwards {line}: {difference}"))
    }

    /// Compares all directories and files through the gateway.
    async fn look_at_all(&mut self, state: &State) -> Result<(), String> {
        self.look_at(state, "/").await?;
        for directory in state.tree.directories() {
            self.look_at(state, &directory).await?;
        }
        for path in state.tree.paths() {
            self.ask_about(state, &path).await?;
        }
        let key = &self.outside;
        let stored = self.gateway.object(key).await;
        ensure!(
            stored.as_deref() == Some(b"not theirs"),
            "{key} was changed"
        );
        let list = self.gateway.s3().list_objects_v2().bucket(BUCKET);
        let page = list
            .delimiter("/")
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let is_home = |name: &str| name.starts_with("home");
        let mut names = page
            .common_prefixes()
            .iter()
            .filter_map(|common| common.prefix());
        let are_homes = page.contents().is_empty() && names.all(is_home);
        ensure!(
            are_homes,
            "there is something outside of all homes: {page:?}"
        );
        Ok(())
    }
}

async fn converse(ftp: &mut Ftp, exchange: &Exchange) -> (Reply, Vec<u8>) {
    match &exchange.data {
        Data::None => (ftp.command(&exchange.line).await, Vec::new()),
        Data::Sent(bytes) => (ftp.store(&exchange.line, bytes).await, Vec::new()),
        Data::Fetched => {
            let (bytes, reply) = ftp.fetch(&exchange.line).await;
            (reply, bytes)
        }
    }
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).expect("a time of this age")
}

fn timestamp(seconds: i64) -> String {
    let time = at(seconds);
    let (date, clock) = (time.date(), time.time());
    let (year, month, day) = date.to_calendar_date();
    let (hour, minute, second) = clock.as_hms();
    format!(
        "{year:04}{:02}{day:02}{hour:02}{minute:02}{second:02}",
        u8::from(month)
    )
}

/// Month and day as LIST has them.
fn day(seconds: i64) -> (String, String) {
    let time = at(seconds);
    let month = time.month().to_string();
    (month[..3].to_owned(), time.day().to_string())
}
