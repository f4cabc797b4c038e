//! The command line.

mod doctor;
mod first_steps;
mod init;
mod pages;
mod terminal;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use crate::app::{Gateway, StartError};
use crate::auth::{HashError, hash_password};
use crate::chain::Chain;
use crate::config::{self, Config, ConfigError};
use crate::descriptors::{self, Descriptors};
use crate::health::{self, HealthError, Question};
use crate::import::{self, ImportError};
use crate::telemetry::{self, Telemetry};

/// Bad configuration or bad usage (EX_USAGE of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// `cosgate health`, `cosgate doctor`: not well. Docker knows 0 and 1 only.
const EXIT_UNWELL: u8 = 1;

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
    /// Asks the gateway on this host, at admin.listen of the same configuration, whether it lives; exit code 1 if not
    Health {
        /// Asks whether clients should be sent here, too (/readyz instead of /livez)
        #[arg(long)]
        ready: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Examines this configuration, or a running gateway from where clients stand (--connect), and says how to mend what is
    /// wrong; exit code 1 if something is
    Doctor(Box<doctor::Doctor>),
    /// Reads a password from standard input and prints its hash for users[].password_hash
    HashPassword,
    /// Writes a first configuration, with a comment for each thing that is likely to be changed
    Init(Box<init::Init>),
    /// Turns the configuration of another FTP server into one for cosgate, on standard output: conf/vsftpd.conf of Tencent's COS
    /// FTP Server, vsftpd.conf, proftpd.conf or pure-ftpd.conf
    Import(Import),
    /// Prints completions for a shell, such as: cosgate completions bash > /etc/bash_completion.d/cosgate
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Prints a manual page, such as: cosgate man | man -l -
    Man {
        /// The command whose page it is (default: cosgate itself)
        command: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Import {
    /// The other server's configuration; which server's is seen by its keys
    file: PathBuf,
    /// Its users in the form of /etc/shadow, passwd or htpasswd, where they are not in the configuration (vsftpd, ProFTPD,
    /// Pure-FTPd); passwords stay as they are
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Format of the output
    #[arg(long, value_enum, default_value = "yaml")]
    format: ImportFormat,
    /// New file for keys and users, which only its owner may read
    #[arg(long, value_name = "FILE")]
    secrets_out: PathBuf,
    /// Name of the Kubernetes Secret (helm-values)
    #[arg(long, value_name = "NAME", default_value = "cosgate", value_parser = secret_name)]
    secret_name: String,
    /// Overwrite the file of the secrets
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ImportFormat {
    Yaml,
    Env,
    HelmValues,
}

#[derive(Debug, Args)]
struct Source {
    /// YAML configuration file (default: what COSGATE_CONFIG names)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// An error that ends the program.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error("{0}")]
    Doctor(String),
    #[error("standard input holds no password")]
    NoPassword,
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("{0}")]
    Init(String),
    #[error("{0}")]
    Written(String),
    #[error("there is no command {0}; cosgate --help lists them")]
    NoCommand(String),
    #[error("system")]
    Io(#[from] io::Error),
}

/// Runs the program.
pub fn run() -> ExitCode {
    crate::install_crypto_provider();
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
        Some(Command::Health { ready, source }) => print_health(source, ready),
        Some(Command::Doctor(wanted)) => match doctor::run(*wanted) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        Some(Command::HashPassword) => print_hash(),
        Some(Command::Init(wanted)) => init::run(*wanted),
        Some(Command::Import(import)) => run_import(&import),
        Some(Command::Completions { shell }) => pages::completions(shell),
        Some(Command::Man { command }) => pages::manual(command.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("cosgate: {}", Chain(&failure));
            ExitCode::from(match failure {
                Failure::Config(_) | Failure::NoPassword | Failure::Doctor(_) => EXIT_USAGE,
                Failure::Init(_) | Failure::NoCommand(_) => EXIT_USAGE,
                Failure::Import(ImportError::File { .. } | ImportError::Mistakes(_)) => EXIT_USAGE,
                Failure::Health(HealthError::Off) => EXIT_USAGE,
                Failure::Health(_) => EXIT_UNWELL,
                Failure::Start(ref error) if error.is_configuration() => EXIT_USAGE,
                Failure::Start(_)
                | Failure::Hash(_)
                | Failure::Import(_)
                | Failure::Written(_)
                | Failure::Io(_) => EXIT_UNAVAILABLE,
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
        let served = run_gateway(loaded.config, source.config, &telemetry).await;
        telemetry.stop().await;
        served
    })
}

/// Runs the gateway, while the level of the log follows the configuration file.
async fn run_gateway(
    config: Config,
    file: Option<PathBuf>,
    telemetry: &Telemetry,
) -> Result<(), Failure> {
    let file = file.or_else(config::file_from_environment);
    let stop = CancellationToken::new();
    let following = file.map(|file| tokio::spawn(telemetry.level().follow(file, stop.clone())));
    let gateway = Gateway::start(config).await?;
    if let Some(block) = first_steps::block(&gateway) {
        telemetry.show(&block);
    }
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
    let limit = Descriptors::of(&loaded.config, descriptors::hard_limit());
    for warning in loaded.warnings.iter().chain(&limit.shortage()) {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

fn run_import(wanted: &Import) -> Result<(), Failure> {
    let format = match wanted.format {
        ImportFormat::Yaml => import::Format::Yaml,
        ImportFormat::Env => import::Format::Env,
        ImportFormat::HelmValues => import::Format::HelmValues,
    };
    let text = import::read(&wanted.file)?;
    let users = wanted.users.as_deref().map(import::read).transpose()?;
    let hash = |password: &_| hash_password(password).map_err(Into::into);
    let imported = import::convert(&text, users.as_ref(), format, &wanted.secret_name, &hash)?;
    import::write_secrets(&wanted.secrets_out, &imported.secrets, wanted.force)?;
    print!("{}", imported.values);
    for warning in &imported.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

/// A name as Kubernetes has it (RFC 1123): it goes into a manifest.
fn secret_name(text: &str) -> Result<String, String> {
    let sound =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let is_name = text.len() <= 253 && text.bytes().all(sound);
    if is_name && ends(text.bytes().next()) && ends(text.bytes().last()) {
        Ok(text.to_owned())
    } else {
        Err("write small letters, digits, - and .".to_owned())
    }
}

fn print_health(source: Source, ready: bool) -> Result<(), Failure> {
    let loaded = config::load(source.config.as_deref())?;
    let question = if ready {
        Question::Ready
    } else {
        Question::Alive
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    println!(
        "{}",
        runtime.block_on(health::ask(loaded.config.admin.listen, question))?
    );
    Ok(())
}

fn print_hash() -> Result<(), Failure> {
    let line = terminal::read_password("Password (it is not shown): ")?;
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
