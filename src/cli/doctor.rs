//! `cosgate doctor` on the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::failure::{EXIT_UNWELL, Failure};
use super::source::Source;
use super::terminal::read_password;
use crate::config::{self, DOCTOR_PASSWORD};
use crate::doctor::{self, Limits, Login, Outcome, Report, Security, Target};
use crate::reload;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    source: Source,
    /// Examines a running gateway from where clients stand, in the place of this configuration
    #[arg(long, value_name = "HOST[:PORT]", value_parser = Target::parse, conflicts_with = "config")]
    connect: Option<(String, Option<u16>)>,
    /// Its admin port, which is asked whether the gateway is ready (/readyz)
    #[arg(long, value_name = "HOST:PORT", requires = "connect", value_parser = admin)]
    admin: Option<(String, u16)>,
    /// The user for the login; without a user the examination ends before the login
    #[arg(long, value_name = "NAME", requires = "connect", value_parser = one_line)]
    user: Option<String>,
    /// File that holds the password (default: COSGATE_DOCTOR_PASSWORD, else it is asked for, or read from standard input)
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// When TLS begins
    #[arg(long, value_enum, default_value = "auto", requires = "connect")]
    tls: Tls,
    /// PEM file with authorities to trust besides the system's
    #[arg(long, value_name = "FILE", requires = "connect")]
    ca: Option<PathBuf>,
    /// Goes on with a certificate that is not trusted, and sends the password
    #[arg(long, requires = "connect")]
    insecure: bool,
    /// Where the probe file goes, which is removed again if the user may delete (default: where the login leads)
    #[arg(long, value_name = "PATH", requires = "user", value_parser = one_line)]
    directory: Option<String>,
    /// Time for all checks, such as 30s
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    timeout: Duration,
    /// Format of the output
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Tls {
    /// With AUTH TLS, if that is offered
    Auto,
    /// With AUTH TLS
    Explicit,
    /// With the first byte
    Implicit,
    /// Never
    Off,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Examines, prints, and says how it went.
pub(super) fn run(wanted: Doctor) -> Result<ExitCode, Failure> {
    let limits = Limits::within(wanted.timeout);
    let format = wanted.format;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let report = match &wanted.connect {
        Some(_) => {
            let target = target(wanted)?;
            runtime.spawn(stopped(limits.stop.clone()));
            let examined = runtime.block_on(doctor::examine_gateway(&target, limits));
            examined.map_err(Failure::Doctor)?
        }
        None => {
            let loaded = config::load(wanted.source.config.as_deref())?;
            runtime.spawn(stopped(limits.stop.clone()));
            runtime.block_on(doctor::examine_configuration(&loaded, limits))
        }
    };
    // a resolver or a file system that hangs must not hold up the end
    runtime.shutdown_background();
    Ok(print(&report, format))
}

/// Waits for SIGINT or SIGTERM, which end the checks, but leave time to remove what was stored.
async fn stopped(stop: CancellationToken) {
    let signals = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    if let (Ok(mut interrupt), Ok(mut terminate)) = signals {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    }
}

fn print(report: &Report, format: Format) -> ExitCode {
    match format {
        Format::Text => print!("{report}"),
        Format::Json => println!("{}", report.json()),
    }
    match report.outcome() {
        Outcome::Failed => ExitCode::from(EXIT_UNWELL),
        Outcome::Ok | Outcome::Warning | Outcome::Skipped => ExitCode::SUCCESS,
    }
}

fn target(wanted: Doctor) -> Result<Target, Failure> {
    let (host, port) = wanted.connect.unwrap_or_default();
    let security = match wanted.tls {
        // the port that is set aside for it (RFC 4217, section 12.2, mentions it)
        Tls::Auto if port == Some(IMPLICIT_PORT) => Security::Implicit,
        Tls::Auto => Security::Auto,
        Tls::Explicit => Security::Explicit,
        Tls::Implicit => Security::Implicit,
        Tls::Off => Security::Off,
    };
    let usual = match security {
        Security::Implicit => IMPLICIT_PORT,
        Security::Auto | Security::Explicit | Security::Off => 21,
    };
    let login = match wanted.user {
        Some(user) => Some(Login {
            user,
            password: password(wanted.password_file)?,
        }),
        None => None,
    };
    Ok(Target {
        host,
        port: port.unwrap_or(usual),
        security,
        login,
        ca: wanted.ca,
        insecure: wanted.insecure,
        admin: wanted.admin,
        directory: wanted.directory,
    })
}

/// From the file, the environment, or standard input, in this order.
fn password(file: Option<PathBuf>) -> Result<SecretString, Failure> {
    let text = if let Some(file) = file {
        let bytes = reload::read_bounded(&file).map_err(|reason| {
            Failure::Doctor(format!("--password-file {}: {reason}", file.display()))
        })?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Failure::Doctor(format!(
                "--password-file {}: it is not UTF-8",
                file.display()
            ))
        })?;
        Zeroizing::new(text)
    } else if let Ok(text) = std::env::var(DOCTOR_PASSWORD) {
        Zeroizing::new(text)
    } else {
        read_password("Password: ")?
    };
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::Doctor(format!(
            "there is no password; give it by --password-file, {DOCTOR_PASSWORD} or standard input"
        )));
    }
    one_line(password)
        .map(SecretString::from)
        .map_err(|advice| Failure::Doctor(format!("the password: {advice}")))
}

/// Text in a command line of FTP, which must not become two.
fn one_line(text: &str) -> Result<String, String> {
    match text.chars().any(char::is_control) {
        true => Err("control characters are not allowed".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn admin(text: &str) -> Result<(String, u16), String> {
    match Target::parse(text)? {
        (host, Some(port)) => Ok((host, port)),
        (host, None) => Err(format!("the port is missing; write {host}:8080")),
    }
}

/// Shorter than a round trip over a bad line, an examination finds nothing but its own end.
const MIN_TIME: Duration = Duration::from_secs(1);

/// Somebody waits for the report.
const MAX_TIME: Duration = Duration::from_secs(3600);

fn time(text: &str) -> Result<Duration, String> {
    let time = match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }?;
    match (MIN_TIME..=MAX_TIME).contains(&time) {
        true => Ok(time),
        false => Err("give 1s to 1h".to_owned()),
    }
}

/// Implicit FTPS.
const IMPLICIT_PORT: u16 = 990;
