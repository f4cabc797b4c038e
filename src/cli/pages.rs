//! Completions for shells, and manual pages: both follow from the definition of the command line.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::arguments::Cli;
use super::failure::Failure;

/// Writes what `shell` reads to complete `cosgate`'s command line.
pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut text);
    Ok(io::stdout().write_all(&text)?)
}

/// Writes a manual page in troff: of `cosgate`, or of one of its commands.
pub(super) fn manual(command: Option<&str>) -> Result<(), Failure> {
    let mut whole = Cli::command();
    whole.build();
    let page = match command {
        None => whole,
        Some(name) => {
            let found = whole.find_subcommand(name);
            let found = found.ok_or_else(|| Failure::NoCommand(name.to_owned()))?;
            // which calls itself `cosgate-import`: so man finds a page of two words
            found.clone()
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    Ok(io::stdout().write_all(&text)?)
}

const NAME: &str = "cosgate";
