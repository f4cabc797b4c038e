//! The errors that end the program.

use std::io;

use crate::app::StartError;
use crate::auth::HashError;
use crate::config::ConfigError;
use crate::health::HealthError;
use crate::import::ImportError;

/// An error that ends the program.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
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

/// `cosgate health`, `cosgate doctor`: not well. Docker knows 0 and 1 only.
pub(super) const EXIT_UNWELL: u8 = 1;
