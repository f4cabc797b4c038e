//! The stage: the store, those who are compared, and how one operation is measured.

use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::child::{Daemon, Helper, TRUSTED, Usage, reset_peak, usage};
use crate::direct::Store;
use crate::ftp::Account;
use crate::{Options, Peer};

/// Everything that runs during a benchmark; dropping it ends all of it.
pub struct Bench {
    pub options: Options,
    pub content: Vec<u8>,
    pub contenders: Vec<Contender>,
    sink: Option<Helper>,
    store: Store,
    /// Fills and clears real stores; never measured.
    stagehand: Helper,
    gateways: Vec<Daemon>,
    _relays: Vec<Helper>,
}

/// One of those who are compared.
pub struct Contender {
    pub name: String,
    pub pid: Option<u32>,
    /// It reaches the store over TLS.
    pub store_tls: bool,
    pub way: Target,
}

/// The way a contender is asked to do something.
pub enum Target {
    Direct(Helper),
    Ftp(Account),
}

/// The cost of one operation.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub peak_bytes: u64,
    /// CPU seconds of the sink.
    pub store_cpu_seconds: f64,
    /// Requests at the sink: operation and count.
    pub requests: Vec<(String, u64)>,
    /// The slowest of many small operations.
    pub slowest_seconds: Option<f64>,
    pub note: Option<String>,
    pub failures: u64,
    pub error: Option<String>,
}

/// The result of an operation besides its time.
#[derive(Debug, Default)]
pub struct Outcome {
    pub slowest_seconds: Option<f64>,
    /// What no column of the table is for.
    pub note: Option<String>,
    pub failures: u64,
    pub error: Option<String>,
}

const USER: &str = "bench";
const PASSWORD: &str = "benchmark";

/// The name of the client that the others are held against.
pub const DIRECT: &str = "direct";

/// Control port and passive ports of the first gateway, below the kernel's ephemeral range.
const FIRST_PORT: u16 = 12_000;

/// Passive ports of each gateway at most: eight gateways find room above the first port.
const MOST_PASSIVE_PORTS: u16 = 2_000;

/// The longest time that a gateway may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);

impl Bench {
    /// Starts everything that the options ask for.
    pub fn start(options: Options) -> io::Result<Self> {
        let (sink, store) = match &options.store {
            Some(url) => {
                let store = Store {
                    endpoint: url.trim_end_matches('/').to_owned(),
                    bucket: options.bucket.clone(),
                    access_key: options.access_key.clone(),
                    secret_key: options.secret_key.clone(),
                };
                (None, store)
            }
            None => start_sink(&options)?,
        };
        // the sink speaks both on one port
        let mut stores = vec![store.clone()];
        if let (true, Some(rest)) = (options.store_tls, store.endpoint.strip_prefix("http:")) {
            let endpoint = format!("https:{rest}");
            stores.push(Store {
                endpoint,
                ..store.clone()
            });
        }
        let (mut contenders, mut gateways, mut relays) = (Vec::new(), Vec::new(), Vec::new());
        let mut port = FIRST_PORT;
        for store in &stores {
            let store_tls = store.endpoint.starts_with("https:");
            let mut add = |name: &str, ftps: Option<&str>, pid, way| {
                let means = [ftps, store_tls.then_some("HTTPS")].into_iter().flatten();
                let means: Vec<&str> = means.collect();
                let name =
                    [name, &means.join(" to ")].join(if means.is_empty() { "" } else { ", " });
                contenders.push(Contender {
                    name,
                    pid,
                    store_tls,
                    way,
                });
            };
            if !options.no_direct {
                let helper = start_direct(store, &options)?;
                add(DIRECT, None, Some(helper.pid()), Target::Direct(helper));
            }
            if options.relay {
                let (relay, through) = start_relay(store)?;
                let helper = start_direct(&through, &options)?;
                // of a client over TLS both are needed: the relay alone encrypts nothing
                add("relayed", None, Some(relay.pid()), Target::Direct(helper));
                relays.push(relay);
            }
            let own = Peer::binary("cosgate", env!("CARGO_BIN_EXE_cosgate"));
            for binary in std::iter::once(&own).chain(&options.binary) {
                let (gateway, account) = start_gateway(binary, store, &options, &mut port)?;
                for (ftps, tls) in options.ways() {
                    let account = Account {
                        tls,
                        ..account.clone()
                    };
                    add(
                        &binary.name,
                        ftps,
                        Some(gateway.pid()),
                        Target::Ftp(account),
                    );
                }
                gateways.push(gateway);
            }
            for peer in options
                .peer
                .iter()
                .filter(|peer| peer.store_tls == store_tls)
            {
                let tls = peer.tls.then(|| options.ftps(true));
                let way = Target::Ftp(Account {
                    tls,
                    ..peer.account.clone()
                });
                add(&peer.name, peer.tls.then_some("FTPS"), peer.pid, way);
            }
        }
        Ok(Bench {
            content: crate::pattern(1024 * 1024),
            contenders,
            sink,
            stagehand: start_direct(&store, &options)?,
            store,
            options,
            gateways,
            _relays: relays,
        })
    }

    /// The processes that don't end by themselves when this one does.
    pub fn gateway_pids(&self) -> Vec<u32> {
        self.gateways.iter().map(Daemon::pid).collect()
    }

    /// The store's name in the report.
    pub fn store_name(&self) -> &str {
        match self.sink {
            Some(_) => "sink",
            None => &self.store.endpoint,
        }
    }

    /// Puts one object into the store.
    pub fn prepare_object(&mut self, key: &str, size: u64) -> io::Result<()> {
        match &mut self.sink {
            Some(sink) => sink.ask(&format!("object {key} {size}")).map(drop),
            None => self.stagehand(&format!("put {key} {size}")),
        }
    }

    /// Puts many objects into the store.
    pub fn prepare_objects(&mut self, prefix: &str, count: u64, size: u64) -> io::Result<()> {
        match &mut self.sink {
            Some(sink) => sink
                .ask(&format!("generate {prefix} {count} {size}"))
                .map(drop),
            None => self.stagehand(&format!("fill {prefix} {count} {size}")),
        }
    }

    /// Takes all objects below a prefix out of a real store; the sink forgets them when it ends.
    pub fn clear(&mut self, prefix: &str) -> io::Result<()> {
        match self.sink {
            Some(_) => Ok(()),
            None => self.stagehand(&format!("clear {prefix}")),
        }
    }

    fn stagehand(&mut self, command: &str) -> io::Result<()> {
        done(&self.stagehand.ask(command)?)
    }

    /// Lets one contender do something, and reads what it cost between the watch's start and stop.
    pub fn measure(
        &mut self,
        at: usize,
        operation: impl FnOnce(&mut Contender, &[u8], &mut Watch) -> io::Result<Outcome>,
    ) -> io::Result<Sample> {
        if let Some(sink) = &mut self.sink {
            sink.ask("counts")?;
        }
        let contender = &mut self.contenders[at];
        let mut watch = Watch {
            pid: contender.pid.unwrap_or(0),
            store_pid: self.sink.as_ref().map_or(0, Helper::pid),
            began: None,
            sample: Sample::default(),
        };
        let told =
            operation(contender, &self.content, &mut watch).unwrap_or_else(|error| Outcome {
                error: Some(error.to_string()),
                failures: 1,
                ..Outcome::default()
            });
        let mut sample = watch.sample;
        if let Some(sink) = &mut self.sink {
            let counts = sink.ask("counts")?;
            let counts = counts
                .split_whitespace()
                .filter_map(|count| count.split_once('='));
            let counts =
                counts.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
            sample.requests = counts.collect();
        }
        sample.slowest_seconds = told.slowest_seconds;
        sample.note = told.note;
        sample.failures = told.failures;
        sample.error = told.error;
        Ok(sample)
    }
}

/// Runs from the moment at which a client is logged in to the last reply: a login costs an argon2 hash, which is none of
/// a transfer's business.
pub struct Watch {
    pid: u32,
    store_pid: u32,
    began: Option<(Instant, Usage, Usage)>,
    sample: Sample,
}

impl Watch {
    pub fn start(&mut self) {
        reset_peak(self.pid);
        self.began = Some((Instant::now(), usage(self.pid), usage(self.store_pid)));
    }

    pub fn stop(&mut self) {
        let Some((began, before, store_before)) = self.began.take() else {
            return;
        };
        self.sample.seconds = began.elapsed().as_secs_f64();
        let after = usage(self.pid);
        self.sample.cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        self.sample.peak_bytes = after.peak_bytes;
        self.sample.store_cpu_seconds =
            usage(self.store_pid).cpu_seconds - store_before.cpu_seconds;
    }
}

/// Reads the answer of a direct client.
pub fn done(answer: &str) -> io::Result<()> {
    match answer.split_once(' ') {
        Some(("ok", _)) => Ok(()),
        _ => Err(io::Error::other(answer.to_owned())),
    }
}

/// The certificate that the sink shows.
fn certificate() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("sink.crt")
}

fn start_sink(options: &Options) -> io::Result<(Option<Helper>, Store)> {
    let mut role = vec!["sink".to_owned()];
    role.extend(options.etag.map(|_| "--md5-etags".to_owned()));
    role.push(format!("--port={}", options.sink_port));
    role.push(format!("--cipher={}", options.cipher_name()));
    role.push(format!("--certificate={}", certificate().display()));
    let (mut sink, port) = Helper::start(&role, &certificate())?;
    let latency = options.latency.map_or(Duration::ZERO, Duration::from);
    sink.ask(&format!("latency {}", latency.as_micros()))?;
    let store = Store {
        endpoint: format!("http://127.0.0.1:{port}"),
        bucket: options.bucket.clone(),
        access_key: options.access_key.clone(),
        secret_key: options.secret_key.clone(),
    };
    Ok((Some(sink), store))
}

/// Starts a relay before the store; returns the store as it is reached through it.
fn start_relay(store: &Store) -> io::Result<(Helper, Store)> {
    let (scheme, address) = store.endpoint.split_once("://").unwrap_or_default();
    let role = ["relay".to_owned(), address.to_owned()];
    let (relay, port) = Helper::start(&role, &certificate())?;
    let endpoint = format!("{scheme}://127.0.0.1:{port}");
    Ok((
        relay,
        Store {
            endpoint,
            ..store.clone()
        },
    ))
}

fn start_direct(store: &Store, options: &Options) -> io::Result<Helper> {
    let how = &options.direct;
    let checksum = format!("{:?}", how.direct_checksum).to_ascii_lowercase();
    let mut role = vec![
        "direct".to_owned(),
        format!("--endpoint={}", store.endpoint),
        format!("--the-bucket={}", store.bucket),
        format!("--id={}", store.access_key),
        format!("--secret={}", store.secret_key),
        format!("--concurrency={}", how.concurrency),
        format!("--part-size={}", how.part_size.as_u64()),
        format!("--direct-checksum={checksum}"),
    ];
    role.extend(how.direct_unsigned.then(|| "--direct-unsigned".to_owned()));
    Helper::start(&role, &certificate()).map(|(helper, _)| helper)
}

/// Starts a gateway on the next free ports.
fn start_gateway(
    binary: &Peer,
    store: &Store,
    options: &Options,
    port: &mut u16,
) -> io::Result<(Daemon, Account)> {
    let users = format!(
        "[{{name: {USER}, password_hash: '{}'}}]",
        password_hash(options.hash_memory).map_err(io::Error::other)?
    );
    let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.log", binary.name));
    // more than there are transfers at once
    let sessions = options.most_sessions().max(1000);
    let passive_ports = u16::try_from(sessions)
        .unwrap_or(u16::MAX)
        .min(MOST_PASSIVE_PORTS);
    while *port < u16::MAX - 2 * passive_ports {
        let control = *port;
        *port += passive_ports + 1;
        let part_size = options.direct.part_size.as_u64();
        let settings = [
            ("LISTEN", format!("127.0.0.1:{control}")),
            ("ADMIN__LISTEN", "off".to_owned()),
            (
                "PASSIVE__PORTS",
                format!("{}-{}", control + 1, control + passive_ports),
            ),
            ("SESSIONS__MAX", sessions.to_string()),
            ("SESSIONS__MAX_PER_IP", sessions.to_string()),
            ("STORAGE__PROVIDER", "s3".to_owned()),
            ("STORAGE__ENDPOINT", store.endpoint.clone()),
            ("STORAGE__BUCKET", store.bucket.clone()),
            ("STORAGE__ACCESS_KEY_ID", store.access_key.clone()),
            ("STORAGE__SECRET_ACCESS_KEY", store.secret_key.clone()),
            (
                "UPLOAD__CONCURRENCY",
                options.direct.concurrency.to_string(),
            ),
            ("UPLOAD__MIN_PART_SIZE", format!("{part_size}B")),
            (
                "UPLOAD__MEMORY_BUDGET",
                format!("{}B", options.memory_budget.as_u64()),
            ),
            ("TLS__SELF_SIGNED", options.tls.to_string()),
            ("USERS", users.clone()),
        ];
        let mut command = Command::new(&binary.path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COSGATE_") {
                command.env_remove(name);
            }
        }
        for (key, value) in settings {
            command.env(format!("COSGATE_{key}"), value);
        }
        for setting in &options.gateway_env {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            command.env(key, value);
        }
        if options.store.is_none() {
            command.env(TRUSTED, certificate());
        }
        let output = std::fs::File::create(&log)?;
        let child = command
            .arg("serve")
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            .spawn()?;
        let mut gateway = Daemon(child);
        if is_up(&mut gateway, control)? {
            let account = Account {
                host: "127.0.0.1".to_owned(),
                port: control,
                user: USER.to_owned(),
                password: PASSWORD.to_owned(),
                tls: None,
            };
            return Ok((gateway, account));
        }
        if !mentions_a_port(&log) {
            break;
        }
    }
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    Err(io::Error::other(format!(
        "{} does not start: {said}",
        binary.name
    )))
}

/// As `cosgate hash-password` makes it, but for its cost.
fn password_hash(memory_kib: u32) -> Result<String, argon2::password_hash::Error> {
    let params = Params::new(memory_kib, Params::DEFAULT_T_COST, 1, None)?;
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let salt = SaltString::generate(&mut OsRng);
    Ok(hasher
        .hash_password(PASSWORD.as_bytes(), &salt)?
        .to_string())
}

fn is_up(gateway: &mut Daemon, port: u16) -> io::Result<bool> {
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        if gateway.0.try_wait()?.is_some() {
            return Ok(false);
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            // another program may have answered; then this gateway has just ended
            std::thread::sleep(Duration::from_millis(50));
            return Ok(gateway.0.try_wait()?.is_none());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

/// True if the gateway gave up because a port was taken, so that other ports may help.
fn mentions_a_port(log: &Path) -> bool {
    std::fs::read_to_string(log).is_ok_and(|said| said.contains("can't be bound"))
}
