//! The measurements.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bench::{Bench, Contender, DIRECT, Outcome, Sample, Target, Watch, done};
use crate::child::usage;
use crate::ftp::{Account, Ftp};
use crate::report::{Row, Unit};
use crate::{Only, Times};

/// Everything lies below this in the bucket.
const ROOT: &str = "cosgate-bench/";

/// Stack of a thread that drives one session; there are hundreds.
const STACK: usize = 256 * 1024;

impl Bench {
    /// Runs the scenarios that were asked for; `print` takes each table's rows as soon as they are there.
    pub fn run(&mut self, mut print: impl FnMut(&str, &[Row])) -> io::Result<()> {
        let options = self.options.clone();
        let size = options.size.as_u64();
        for only in &options.only {
            match only {
                Only::Stor => print(&format!("STOR of {}", options.size), &self.stor(size)?),
                Only::Retr => print(&format!("RETR of {}", options.size), &self.retr(size)?),
                Only::Small => {
                    let size = options.file_size;
                    for sessions in &options.small_sessions {
                        let count = options.files_each(*sessions) * sessions;
                        let what = format!("{count} files of {size}, sessions at once: {sessions}");
                        let (stor, retr) = (format!("STOR of {what}"), format!("RETR of {what}"));
                        print(&stor, &self.small(*sessions, true)?);
                        print(&retr, &self.small(*sessions, false)?);
                    }
                }
                Only::List => {
                    for keys in &options.keys {
                        print(&format!("LIST of {keys} keys"), &self.list(*keys)?);
                    }
                }
                Only::Parallel => {
                    for times in &options.parallel {
                        let title = format!("{} uploads of {} at once", times.count, times.size);
                        print(&title, &self.parallel(times)?);
                    }
                }
                Only::Sessions => {
                    let title = format!("{} at once", self.small_uploads());
                    print(&title, &self.sessions()?);
                }
                Only::Idle => {
                    let title = format!("{} idle sessions", options.idle);
                    print(&title, &self.idle()?);
                }
                Only::Beside => {
                    let title = format!(
                        "{}, beside {} large ones, which are counted in",
                        self.small_uploads(),
                        options.uploads
                    );
                    print(&title, &self.beside()?);
                }
            }
        }
        self.clear(ROOT)
    }

    /// Lets all contenders do the same thing, so often as was asked for, and each time in another order.
    fn alternate(
        &mut self,
        runs: usize,
        unit: Unit,
        ftp_only: bool,
        operation: impl Fn(&mut Contender, &[u8], &mut Watch) -> io::Result<Outcome>,
    ) -> io::Result<Vec<Row>> {
        let count = self.contenders.len();
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); count];
        for run in 0..runs {
            for turn in 0..count {
                let at = (run + turn) % count;
                if ftp_only && matches!(self.contenders[at].way, Target::Direct(_)) {
                    continue;
                }
                samples[at].push(self.measure(at, &operation)?);
            }
        }
        let rows = self.contenders.iter().zip(samples);
        let rows = rows.filter(|(_, samples)| !samples.is_empty());
        Ok(rows
            .map(|(contender, samples)| Row {
                contender: contender.name.clone(),
                is_direct: contender.name.split(',').next() == Some(DIRECT),
                store_tls: contender.store_tls,
                has_pid: contender.pid.is_some(),
                samples,
                unit,
            })
            .collect())
    }

    fn stor(&mut self, size: u64) -> io::Result<Vec<Row>> {
        let key = format!("{ROOT}stor/{size}");
        self.warm_up(|contender, content, watch| put(contender, &key, WARM_UP, content, watch))?;
        let runs = self.options.runs;
        self.alternate(
            runs,
            Unit::Bytes(size),
            false,
            |contender, content, watch| put(contender, &key, size, content, watch),
        )
    }

    fn retr(&mut self, size: u64) -> io::Result<Vec<Row>> {
        let (key, warm) = (format!("{ROOT}retr/{size}"), format!("{ROOT}retr/warm"));
        self.prepare_object(&key, size)?;
        self.prepare_object(&warm, WARM_UP)?;
        self.warm_up(|contender, _, watch| get(contender, &warm, WARM_UP, watch))?;
        let runs = self.options.runs;
        self.alternate(runs, Unit::Bytes(size), false, |contender, _, watch| {
            get(contender, &key, size, watch)
        })
    }

    /// One operation that isn't counted, so that nobody pays for the first connection and the first page faults.
    fn warm_up(
        &mut self,
        operation: impl Fn(&mut Contender, &[u8], &mut Watch) -> io::Result<Outcome>,
    ) -> io::Result<()> {
        self.alternate(1, Unit::Bytes(WARM_UP), false, operation)
            .map(drop)
    }

    /// `files` small files, shared by `sessions`.
    fn small(&mut self, sessions: u64, store: bool) -> io::Result<Vec<Row>> {
        let size = self.options.file_size.as_u64();
        let each = self.options.files_each(sessions);
        let files = each * sessions;
        let prefix = match store {
            true => format!("{ROOT}small-stor/"),
            false => format!("{ROOT}small-retr/"),
        };
        if !store {
            self.prepare_objects(&prefix, files, size)?;
        }
        let one = |session: &mut Session<'_>, number, content: &[u8]| {
            let (key, began) = (crate::small_key(&prefix, number), Instant::now());
            match store {
                true => session.put(&key, size, content)?,
                false => session.get(&key, size)?,
            }
            Ok::<_, io::Error>(began.elapsed())
        };
        let runs = self.options.runs;
        if sessions != 1 {
            return self.alternate(
                runs,
                Unit::Files(files),
                true,
                |contender, content, watch| {
                    let slowest = AtomicU64::new(0);
                    let outcome = at_once(contender, sessions, watch, |session, number| {
                        for file in 0..each {
                            let took = one(session, number * each + file, content)?;
                            slowest.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
                        }
                        Ok(())
                    })?;
                    Ok(Outcome {
                        slowest_seconds: Some(slowest.into_inner() as f64 / 1e6),
                        ..outcome
                    })
                },
            );
        }
        self.alternate(
            runs,
            Unit::Files(files),
            false,
            |contender, content, watch| {
                let mut session = Session::open(contender)?;
                watch.start();
                let mut slowest = Duration::ZERO;
                for number in 0..files {
                    slowest = slowest.max(one(&mut session, number, content)?);
                }
                watch.stop();
                session.close();
                Ok(Outcome {
                    slowest_seconds: Some(slowest.as_secs_f64()),
                    ..Outcome::default()
                })
            },
        )
    }

    fn list(&mut self, keys: u64) -> io::Result<Vec<Row>> {
        let prefix = format!("{ROOT}list-{keys}/");
        self.prepare_objects(&prefix, keys, 0)?;
        let runs = self.options.runs;
        self.alternate(runs, Unit::Listing, false, |contender, _, watch| {
            let entries = match &mut contender.way {
                Target::Direct(helper) => {
                    watch.start();
                    let answer = helper.ask(&format!("list {prefix}"))?;
                    watch.stop();
                    done(&answer)?;
                    answer
                        .rsplit(' ')
                        .next()
                        .and_then(|number| number.parse().ok())
                        .unwrap_or(0)
                }
                Target::Ftp(account) => {
                    let mut ftp = Ftp::login(account)?;
                    watch.start();
                    let entries = ftp.list(&path(&prefix))?;
                    watch.stop();
                    ftp.quit();
                    entries
                }
            };
            match entries == keys {
                true => Ok(Outcome::default()),
                false => Err(io::Error::other(format!(
                    "{entries} entries instead of {keys}"
                ))),
            }
        })
    }

    fn parallel(&mut self, times: &Times) -> io::Result<Vec<Row>> {
        let (count, size) = (times.count, times.size.as_u64());
        let unit = Unit::Bytes(count * size);
        let rows = self.alternate(1, unit, true, |contender, content, watch| {
            at_once(contender, count, watch, |session, number| {
                session.put(&format!("{ROOT}parallel/{number}"), size, content)
            })
        })?;
        self.clear(&format!("{ROOT}parallel/"))?;
        Ok(rows)
    }

    /// What `sessions` and `beside` do, in words.
    fn small_uploads(&self) -> String {
        let (sessions, each) = (self.options.sessions, self.options.uploads_per_session);
        let size = self.options.small_size;
        format!(
            "{} uploads of {size} on {sessions} sessions",
            sessions * each
        )
    }

    fn sessions(&mut self) -> io::Result<Vec<Row>> {
        let (count, each) = (self.options.sessions, self.options.uploads_per_session);
        let size = self.options.small_size.as_u64();
        self.alternate(
            1,
            Unit::Files(count * each),
            true,
            |contender, content, watch| {
                at_once(contender, count, watch, |session, number| {
                    put_each(session, number, each, size, content)
                })
            },
        )
    }

    fn idle(&mut self) -> io::Result<Vec<Row>> {
        let count = self.options.idle;
        let resident = |pid: Option<u32>| pid.map_or(0, |pid| usage(pid).resident_bytes);
        // what the first session costs is no session's; what an earlier contender left behind in the same process counts
        let mut fresh = HashMap::new();
        for contender in &self.contenders {
            if let Target::Ftp(account) = &contender.way
                && !fresh.contains_key(&contender.pid)
            {
                log_in_patiently(account)?.quit();
                fresh.insert(contender.pid, resident(contender.pid));
            }
        }
        self.alternate(1, Unit::Logins(count), true, |contender, _, watch| {
            let Target::Ftp(account) = &contender.way else {
                return Ok(Outcome::default());
            };
            watch.start();
            let sessions = (0..count).map(|_| log_in_patiently(account));
            let sessions = sessions.collect::<io::Result<Vec<Ftp>>>()?;
            watch.stop();
            std::thread::sleep(SETTLE);
            let fresh = fresh.get(&contender.pid).copied().unwrap_or_default();
            let taken = resident(contender.pid).saturating_sub(fresh);
            drop(sessions);
            std::thread::sleep(SETTLE);
            let each = taken as f64 / count as f64 / 1000.0;
            Ok(Outcome {
                note: contender.pid.map(|_| format!("{each:.1} kB each")),
                ..Outcome::default()
            })
        })
    }

    fn beside(&mut self) -> io::Result<Vec<Row>> {
        let (count, each) = (self.options.sessions, self.options.uploads_per_session);
        let (size, uploads) = (self.options.small_size.as_u64(), self.options.uploads);
        let unit = Unit::Files(count * each);
        self.alternate(1, unit, true, |contender, content, watch| {
            let Target::Ftp(account) = &contender.way else {
                return Ok(Outcome::default());
            };
            let (at_work, waits) = (AtomicBool::new(true), Mutex::new(Vec::new()));
            let large = |number: u64| {
                let mut session = log_in_patiently(account)?;
                while at_work.load(Ordering::Relaxed) {
                    session.store(&path(&format!("{ROOT}large/{number}")), WARM_UP, content)?;
                }
                session.quit();
                Ok(())
            };
            let probe = || {
                let mut session = log_in_patiently(account)?;
                while at_work.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    session.noop()?;
                    let waited = began.elapsed();
                    waits
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(waited);
                    std::thread::sleep(PROBE_EVERY);
                }
                session.quit();
                Ok::<_, io::Error>(())
            };
            let (outcome, failed) = std::thread::scope(|scope| {
                let others: Vec<_> = (0..uploads)
                    .map(|number| scope.spawn(move || large(number)))
                    .chain((0..PROBES).map(|_| scope.spawn(probe)))
                    .collect();
                std::thread::sleep(RUN_UP);
                let outcome = at_once(contender, count, watch, |session, number| {
                    put_each(session, number, each, size, content)
                });
                at_work.store(false, Ordering::Relaxed);
                let ended = others.into_iter().map(|other| other.join());
                let ended = ended.map(|ended| {
                    ended.unwrap_or_else(|_| Err(io::Error::other("a session panicked")))
                });
                (outcome, ended.filter_map(Result::err).collect::<Vec<_>>())
            });
            let mut outcome = outcome?;
            outcome.failures += failed.len() as u64;
            outcome.error = outcome.error.or(failed.first().map(io::Error::to_string));
            let mut waits = waits.into_inner().unwrap_or_else(PoisonError::into_inner);
            waits.sort_unstable();
            let at = |share: f64| {
                let at = (waits.len() as f64 * share) as usize;
                waits.get(at).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
            };
            outcome.note = Some(format!(
                "of {} NOOPs half within {:.1} ms, 99 % within {:.1}, all within {:.1}",
                waits.len(),
                at(0.5),
                at(0.99),
                at(1.0 - f64::EPSILON)
            ));
            Ok(outcome)
        })
    }
}

/// The small uploads of one session.
fn put_each(
    session: &mut Session<'_>,
    number: u64,
    each: u64,
    size: u64,
    content: &[u8],
) -> io::Result<()> {
    (0..each)
        .try_for_each(|file| session.put(&format!("{ROOT}sessions/{number}-{file}"), size, content))
}

/// The time after which a gateway has given back the memory that it needs no longer.
const SETTLE: Duration = Duration::from_secs(20);

/// The large uploads of `beside` have begun by then.
const RUN_UP: Duration = Duration::from_secs(2);

/// Sessions that ask how long a command takes, and their pause between two.
const PROBES: u64 = 10;
const PROBE_EVERY: Duration = Duration::from_millis(20);

/// Bytes of the operation before the first that counts; several parts.
const WARM_UP: u64 = 64 << 20;

/// As a client writes a key.
fn path(key: &str) -> String {
    format!("/{key}")
}

/// One client of either kind, logged in.
enum Session<'a> {
    Direct(&'a mut crate::child::Helper),
    Ftp(Ftp),
}

impl<'a> Session<'a> {
    fn open(contender: &'a mut Contender) -> io::Result<Self> {
        Ok(match &mut contender.way {
            Target::Direct(helper) => Session::Direct(helper),
            Target::Ftp(account) => Session::Ftp(Ftp::login(account)?),
        })
    }

    fn put(&mut self, key: &str, size: u64, content: &[u8]) -> io::Result<()> {
        match self {
            Session::Direct(helper) => done(&helper.ask(&format!("put {key} {size}"))?),
            Session::Ftp(ftp) => ftp.store(&path(key), size, content),
        }
    }

    fn get(&mut self, key: &str, size: u64) -> io::Result<()> {
        match self {
            Session::Direct(helper) => done(&helper.ask(&format!("get {key} {size}"))?),
            Session::Ftp(ftp) => match ftp.retrieve(&path(key))? {
                bytes if bytes == size => Ok(()),
                bytes => Err(io::Error::other(format!("{bytes} bytes instead of {size}"))),
            },
        }
    }

    fn close(self) {
        if let Session::Ftp(ftp) = self {
            ftp.quit();
        }
    }
}

fn put(
    contender: &mut Contender,
    key: &str,
    size: u64,
    content: &[u8],
    watch: &mut Watch,
) -> io::Result<Outcome> {
    let mut session = Session::open(contender)?;
    watch.start();
    session.put(key, size, content)?;
    watch.stop();
    session.close();
    Ok(Outcome::default())
}

fn get(contender: &mut Contender, key: &str, size: u64, watch: &mut Watch) -> io::Result<Outcome> {
    let mut session = Session::open(contender)?;
    watch.start();
    session.get(key, size)?;
    watch.stop();
    session.close();
    Ok(Outcome::default())
}

/// One session per thread; all log in first, and then start at the same moment.
fn at_once(
    contender: &Contender,
    count: u64,
    watch: &mut Watch,
    work: impl Fn(&mut Session<'_>, u64) -> io::Result<()> + Sync,
) -> io::Result<Outcome> {
    let Target::Ftp(account) = &contender.way else {
        return Ok(Outcome::default());
    };
    let (logged_in, go) = (
        Barrier::new(count as usize + 1),
        Barrier::new(count as usize + 1),
    );
    let (failures, first) = (AtomicU64::new(0), Mutex::new(None));
    let one = |number: u64| {
        let session = log_in_patiently(account);
        logged_in.wait();
        go.wait();
        let done = session.and_then(|session| {
            let mut session = Session::Ftp(session);
            work(&mut session, number)?;
            session.close();
            Ok(())
        });
        if let Err(error) = done {
            failures.fetch_add(1, Ordering::Relaxed);
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(error.to_string());
        }
    };
    std::thread::scope(|scope| {
        for number in 0..count {
            let one = &one;
            let thread = std::thread::Builder::new().stack_size(STACK);
            thread.spawn_scoped(scope, move || one(number))?;
        }
        logged_in.wait();
        watch.start();
        go.wait();
        Ok::<_, io::Error>(())
    })?;
    watch.stop();
    Ok(Outcome {
        failures: failures.into_inner(),
        error: first.into_inner().unwrap_or_else(PoisonError::into_inner),
        ..Outcome::default()
    })
}

/// Hundreds of logins at once are refused by some servers (421); they come in the end.
fn log_in_patiently(account: &Account) -> io::Result<Ftp> {
    let mut last = io::Error::other("no attempt");
    for _ in 0..20 {
        match Ftp::login(account) {
            Ok(session) => return Ok(session),
            Err(error) => last = error,
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    Err(last)
}
