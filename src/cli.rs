//! The command line.

mod arguments;
mod doctor;
mod failure;
mod first_steps;
mod init;
mod pages;
mod source;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use self::arguments::{Cli, Command, Import, ImportFormat};
use self::failure::{EXIT_UNWELL, Failure};
use self::source::Source;
use crate::app::Gateway;
use crate::auth::hash_password;
use crate::chain::Chain;
use crate::config::{self, Config};
use crate::descriptors::{self, Descriptors};
use crate::health::{self, HealthError, Question};
use crate::import::{self, ImportError};
use crate::telemetry::{self, Telemetry};

/// Bad configuration or bad usage (EX_USAGE of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Something that is needed can't be had: a port, the data directory (EX_UNAVAILABLE).
const EXIT_UNAVAILABLE: u8 = 69;

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
