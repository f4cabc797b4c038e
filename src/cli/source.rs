//! The configuration that a command works with.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(super) struct Source {
    /// YAML configuration file (default: what COSGATE_CONFIG names)
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}
