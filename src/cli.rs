//! The command line.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use crate::app::{Gateway, StartError};
use crate::config::{self, Config, ConfigError};
use crate::ftp::auth::{HashError, hash_password};
use crate::store::Chain;
use crate::telemetry::{self, LevelSwitch};

/// Bad configuration or bad usage (EX_USAGE of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Something that is needed can't be had: a port, the data directory (EX_UNAVAILABLE).
const EXIT_UNAVAILABLE: u8 = 69;

/// FTP gateway in front of object storage: Tencent COS and any S3-compatible store.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    source: Source,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway (the default)
    Serve(Source),
    /// Checks the configuration and prints it, with the origin of each value and without secrets
    CheckConfig(Source),
    /// Reads a password from standard input and prints its hash for users[].password_hash
    HashPassword,
}

#[derive(Debug, Args)]
struct Source {
    /// YAML configuration file (default: what COSGATE_CONFIG names)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What ends the program with an error.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error("standard input holds no password")]
    NoPassword,
    #[error("system")]
    Io(#[from] io::Error),
}

/// Runs the program.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // help and version are "errors", too
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let done = match cli.command {
        None => serve(cli.source),
        Some(Command::Serve(source)) => serve(source),
        Some(Command::CheckConfig(source)) => check_config(source),
        Some(Command::HashPassword) => print_hash(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("cosgate: {}", Chain(&failure));
            ExitCode::from(match failure {
                Failure::Config(_) | Failure::NoPassword => EXIT_USAGE,
                Failure::Start(ref error) if error.is_configuration() => EXIT_USAGE,
                Failure::Start(_) | Failure::Hash(_) | Failure::Io(_) => EXIT_UNAVAILABLE,
            })
        }
    }
}

fn serve(source: Source) -> Result<(), Failure> {
    let loaded = config::load(source.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let telemetry = telemetry::start(&loaded.config.log);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let served = run_gateway(loaded.config, source.config, telemetry.level()).await;
        telemetry.stop().await;
        served
    })
}

/// Runs the gateway, while the level of the log follows the configuration file.
async fn run_gateway(
    config: Config,
    file: Option<PathBuf>,
    level: LevelSwitch,
) -> Result<(), Failure> {
    let file = file.or_else(config::file_from_environment);
    let stop = CancellationToken::new();
    let following = file.map(|file| tokio::spawn(level.follow(file, stop.clone())));
    let gateway = Gateway::start(config).await?;
    gateway.run_until_signal().await;
    stop.cancel();
    if let Some(following) = following {
        let _ = following.await;
    }
    Ok(())
}

fn check_config(source: Source) -> Result<(), Failure> {
    let loaded = config::load(source.config.as_deref())?;
    print!("{}", loaded.describe());
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

fn print_hash() -> Result<(), Failure> {
    if io::stdin().is_terminal() {
        eprintln!("Type the password and press Enter:");
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::NoPassword);
    }
    println!(
        "{}",
        hash_password(&password.to_owned().into())?.expose_secret()
    );
    Ok(())
}
