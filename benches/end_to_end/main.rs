//! End-to-end benchmark: the gateway against the SDK without a gateway, and against other FTP servers.
//!
//! ```text
//! this process ─── FTP client ──────────────> gateway (child) ──┐
//!      │       └── FTP client ──────────────> peers (yours) ────┼──> sink (child), or --store URL
//!      ├────────── one line per command ────> direct client (child) ──┤
//!      └────────── one line per command ────> direct client (child) ──> relay (child, --relay)
//! ```
//!
//! `cargo bench --bench end_to_end -- [options]`, where `--help` lists the options. Every contender does the same thing
//! to the same store, in alternating order, `--runs` times. For each scenario a table is printed: medians, the ratio to
//! the direct client, requests that the store got, CPU seconds and peak memory from /proc.
//!
//! Everything listens on loopback only. All child processes end with this one, by their id; a watchdog ends all of it
//! after `--limit`. The gateway's log of the last run stays under `target/tmp`.
//!
//! The way to start peers and a real store beside it, and the meaning of the figures, stands in benches/README.md.

mod bench;
mod child;
mod direct;
mod ftp;
mod objects;
mod relay;
mod report;
mod scenarios;
mod sink;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Parser, Subcommand, ValueEnum};

use crate::bench::Bench;
use crate::ftp::Account;
use crate::wire::{Cipher, Ftps};

/// Benchmark of the gateway against the SDK's own transfers and against other FTP servers.
#[derive(Debug, Parser)]
#[command(name = "end_to_end", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: Options,
    /// Given by cargo bench; without it (cargo test) nothing is measured.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

/// The parts of the benchmark that are processes of their own.
#[derive(Debug, Subcommand)]
enum Role {
    #[command(hide = true)]
    Sink {
        #[arg(long, default_value_t = 0)]
        port: u16,
        #[arg(long)]
        md5_etags: bool,
        #[arg(long, value_enum)]
        cipher: Cipher,
        #[arg(long)]
        certificate: PathBuf,
    },
    #[command(hide = true)]
    Relay { store: SocketAddr },
    #[command(hide = true)]
    Direct {
        #[command(flatten)]
        store: direct::Store,
        #[command(flatten)]
        options: direct::Options,
    },
}

/// The measurements, on what, against whom.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Scenarios, in this order.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Only::value_variants().to_vec())]
    only: Vec<Only>,
    /// Runs of each contender; scenarios with many sessions at once run once.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Bytes of the file in `stor` and `retr`.
    #[arg(long, default_value = "1GiB")]
    size: ByteSize,
    /// Files in `small`.
    #[arg(long, default_value_t = 1000)]
    files: u64,
    /// Bytes of each file in `small`.
    #[arg(long, default_value = "4KiB")]
    file_size: ByteSize,
    /// Sessions at once that share the files of `small`; the direct client takes part where it is one.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    small_sessions: Vec<u64>,
    /// Keys in the directories that `list` lists.
    #[arg(long, value_delimiter = ',', default_values_t = [5_000, 100_000])]
    keys: Vec<u64>,
    /// Uploads at once in `parallel`: COUNTxSIZE, such as 100x1GiB.
    #[arg(long, value_delimiter = ',', default_value = "20x128MiB")]
    parallel: Vec<Times>,
    /// Sessions at once in `sessions`.
    #[arg(long, default_value_t = 200)]
    sessions: u64,
    /// Uploads of each session in `sessions`.
    #[arg(long, default_value_t = 5)]
    uploads_per_session: u64,
    /// Bytes of each upload in `sessions`.
    #[arg(long, default_value = "64KiB")]
    small_size: ByteSize,
    /// Sessions that do nothing in `idle`.
    #[arg(long, default_value_t = 1000)]
    idle: u64,
    /// Large uploads beside the small ones in `beside`.
    #[arg(long, default_value_t = 20)]
    uploads: u64,
    /// Time that the sink waits before each answer.
    #[arg(long)]
    latency: Option<humantime::Duration>,
    /// Port of the sink, so that a peer can be pointed at it before; 0: any.
    #[arg(long, default_value_t = 0)]
    sink_port: u16,
    /// Let the sink compute the MD5 of what it gets, as stores do that give it as the ETag.
    #[arg(long, value_enum)]
    etag: Option<Etag>,
    /// A real store in the place of the sink.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Its bucket; all keys are put below `cosgate-bench/` and removed at the end.
    #[arg(long, default_value = "bench")]
    bucket: String,
    #[arg(long, default_value = "bench")]
    access_key: String,
    #[arg(long, default_value = "benchmark")]
    secret_key: String,
    #[command(flatten)]
    direct: direct::Options,
    /// Leave the direct client out.
    #[arg(long)]
    no_direct: bool,
    /// Let the direct client also go through a bare relay of bytes, the least that a gateway can be.
    #[arg(long)]
    relay: bool,
    /// Let the client of the gateway also use TLS, for control and data connections; the certificate is made at start.
    #[arg(long)]
    tls: bool,
    /// Let it use TLS once more, with a whole handshake for each data connection.
    #[arg(long, requires = "tls")]
    no_resumption: bool,
    /// Let all reach the sink over HTTPS, too.
    #[arg(long, conflicts_with = "store")]
    store_tls: bool,
    /// The cipher of FTPS clients and of the sink, under TLS 1.3; the one that most clients ask for first.
    #[arg(long, value_enum, default_value = "aes-256")]
    cipher: Cipher,
    /// Another FTP server on the same store: NAME=ftp://USER:PASSWORD@HOST:PORT/ (ftpes:// with AUTH TLS), with `,pid=PID` to
    /// read its CPU time, and `,https` if it reaches the sink over HTTPS.
    #[arg(long, value_parser = Peer::server)]
    peer: Vec<Peer>,
    /// Another build of the gateway, to compare two in one run: NAME=PATH.
    #[arg(long, value_parser = Peer::build)]
    binary: Vec<Peer>,
    /// `upload.memory_budget` of the gateway.
    #[arg(long, default_value = "256MiB")]
    memory_budget: ByteSize,
    /// KiB of memory of the argon2 hash that the gateway checks at each login, 8 or more; with 8 a figure of memory shows
    /// what transfers take.
    #[arg(long, default_value_t = argon2::Params::DEFAULT_M_COST)]
    hash_memory: u32,
    /// Another setting of the gateway: COSGATE_SECTION__KEY=VALUE.
    #[arg(long, value_name = "NAME=VALUE")]
    gateway_env: Vec<String>,
    /// Time after which everything is ended.
    #[arg(long, default_value = "1h")]
    limit: humantime::Duration,
}

impl Options {
    /// TLS of the gateway's client.
    fn ftps(&self, resumes: bool) -> Ftps {
        let cipher = self.cipher;
        Ftps { cipher, resumes }
    }

    /// The ways in which the client reaches the gateway: what the table calls it, and TLS.
    fn ways(&self) -> Vec<(Option<&'static str>, Option<Ftps>)> {
        let mut ways = vec![(None, None)];
        if self.tls {
            ways.push((Some("FTPS"), Some(self.ftps(true))));
        }
        if self.no_resumption {
            ways.push((Some("FTPS not resumed"), Some(self.ftps(false))));
        }
        ways
    }

    /// The files of each of so many sessions in `small`.
    fn files_each(&self, sessions: u64) -> u64 {
        (self.files / sessions.max(1)).max(1)
    }

    /// The most sessions that a scenario opens, and some more.
    fn most_sessions(&self) -> u64 {
        let parallel = self.parallel.iter().map(|times| times.count);
        let small = self.small_sessions.iter().copied();
        let most = parallel
            .chain(small)
            .chain([self.idle, self.sessions + self.uploads]);
        most.max().unwrap_or(0) + 100
    }

    fn cipher_name(&self) -> String {
        let value = self.cipher.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// The scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    /// One large upload.
    Stor,
    /// One large download.
    Retr,
    /// Many small files, one after another on each session.
    Small,
    /// Directories of many keys.
    List,
    /// Large uploads at once: peak memory.
    Parallel,
    /// Small uploads on many sessions: failures.
    Sessions,
    /// Sessions that are logged in and do nothing: memory.
    Idle,
    /// Small uploads on many sessions beside large ones: the time until a command is answered.
    Beside,
}

/// The sink's ETag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Etag {
    /// The MD5 of the body.
    Md5,
}

/// So many uploads of such a size.
#[derive(Debug, Clone)]
struct Times {
    count: u64,
    size: ByteSize,
}

impl FromStr for Times {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (count, size) = text.split_once('x').ok_or("COUNTxSIZE is expected")?;
        Ok(Times {
            count: count.parse().map_err(|error| format!("{error}"))?,
            size: size.parse()?,
        })
    }
}

/// A server or a build that takes part.
#[derive(Debug, Clone)]
struct Peer {
    name: String,
    path: PathBuf,
    account: Account,
    pid: Option<u32>,
    /// Its client uses TLS.
    tls: bool,
    /// It reaches the sink over HTTPS.
    store_tls: bool,
}

impl Peer {
    fn binary(name: &str, path: &str) -> Self {
        Peer {
            name: name.to_owned(),
            path: path.into(),
            account: Account::default(),
            pid: None,
            tls: false,
            store_tls: false,
        }
    }

    fn build(text: &str) -> Result<Self, String> {
        let (name, path) = text.split_once('=').ok_or("NAME=PATH is expected")?;
        Ok(Peer::binary(name, path))
    }

    fn server(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| {
            "NAME=ftp://USER:PASSWORD@HOST:PORT/[,pid=PID][,https] is expected".to_owned()
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('=')?;
        let mut parts = rest.split(',');
        let url = parts.next()?;
        let (mut pid, mut store_tls) = (None, false);
        for part in parts {
            match part.strip_prefix("pid=") {
                Some(number) => pid = Some(number.parse().ok()?),
                None if part == "https" => store_tls = true,
                None => return None,
            }
        }
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "ftp" => false,
            "ftpes" => true,
            _ => return None,
        };
        let (login, server) = rest.trim_end_matches('/').rsplit_once('@')?;
        let (user, password) = login.split_once(':')?;
        let (host, port) = server.rsplit_once(':')?;
        let account = Account {
            host: host.to_owned(),
            port: port.parse().ok()?,
            user: user.to_owned(),
            password: password.to_owned(),
            tls: None,
        };
        Some(Peer {
            account,
            pid,
            tls,
            store_tls,
            ..Peer::binary(name, "")
        })
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.role {
        Some(Role::Sink {
            port,
            md5_etags,
            cipher,
            certificate,
        }) => sink::run(port, md5_etags, cipher, &certificate),
        Some(Role::Relay { store }) => relay::run(store),
        Some(Role::Direct { store, options }) => direct::run(&store, options),
        None if cli.bench => measure(cli.options),
        None => {
            println!("nothing is measured without cargo bench");
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("end_to_end: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: Options) -> io::Result<()> {
    let limit: Duration = options.limit.into();
    let mut bench = Bench::start(options)?;
    let children = bench.gateway_pids();
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("end_to_end: stopped after {limit:?}");
        for pid in children {
            child::signal(pid, rustix::process::Signal::KILL);
        }
        // the helpers end when their standard input closes
        std::process::exit(1);
    });
    let options = &bench.options;
    println!(
        "store {}, latency {}, {} runs, {} requests in flight, parts from {}, memory budget {}, direct client's checksum {:?}",
        bench.store_name(),
        options
            .latency
            .map_or_else(|| "none".to_owned(), |latency| latency.to_string()),
        options.runs,
        options.direct.concurrency,
        options.direct.part_size,
        options.memory_budget,
        options.direct.direct_checksum,
    );
    bench.run(report::print)
}

/// Bytes that look random, the same each time.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// The key of one of many small objects.
fn small_key(prefix: &str, number: u64) -> String {
    format!("{prefix}file-{number:06}.dat")
}
