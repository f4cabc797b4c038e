//! The measurements.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::Instant;

use crate::bench::{Bench, Contender, DIRECT, Outcome, Sample, Target, Watch, done};
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
                    let (count, size) = (options.files, options.file_size);
                    let what = format!("{count} files of {size} on one session");
                    print(&format!("STOR of {what}"), &self.small(true)?);
                    print(&format!("RETR of {what}"), &self.small(false)?);
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
                    let (sessions, each) = (options.sessions, options.uploads_per_session);
                    let title = format!(
                        "{} uploads of {} on {sessions} sessions at once",
                        sessions * each,
                        options.small_size
                    );
                    print(&title, &self.sessions()?);
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

    fn small(&mut self, store: bool) -> io::Result<Vec<Row>> {
        let (files, size) = (self.options.files, self.options.file_size.as_u64());
        let prefix = match store {
            true => format!("{ROOT}small-stor/"),
            false => format!("{ROOT}small-retr/"),
        };
        if !store {
            self.prepare_objects(&prefix, files, size)?;
        }
        let runs = self.options.runs;
        self.alternate(
            runs,
            Unit::Files(files),
            false,
            |contender, content, watch| {
                let mut session = Session::open(contender)?;
                watch.start();
                let mut slowest = 0f64;
                for number in 0..files {
                    let (key, began) = (crate::small_key(&prefix, number), Instant::now());
                    match store {
                        true => session.put(&key, size, content)?,
                        false => session.get(&key, size)?,
                    }
                    slowest = slowest.max(began.elapsed().as_secs_f64());
                }
                watch.stop();
                session.close();
                Ok(Outcome {
                    slowest_seconds: Some(slowest),
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
                session.store(&path(&format!("{ROOT}parallel/{number}")), size, content)
            })
        })?;
        self.clear(&format!("{ROOT}parallel/"))?;
        Ok(rows)
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
                    for file in 0..each {
                        let key = format!("{ROOT}sessions/{number}-{file}");
                        session.store(&path(&key), size, content)?;
                    }
                    Ok(())
                })
            },
        )
    }
}

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
    work: impl Fn(&mut Ftp, u64) -> io::Result<()> + Sync,
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
        let done = session.and_then(|mut session| {
            work(&mut session, number)?;
            session.quit();
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
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    Err(last)
}
