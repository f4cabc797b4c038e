//! The definition of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::doctor::Doctor;
use super::init::Init;
use super::source::Source;

/// FTP gateway in front of object storage: Tencent COS and any S3-compatible store.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) source: Source,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
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
    Doctor(Box<Doctor>),
    /// Reads a password from standard input and prints its hash for users[].password_hash
    HashPassword,
    /// Writes a first configuration, with a comment for each thing that is likely to be changed
    Init(Box<Init>),
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
pub(super) struct Import {
    /// The other server's configuration; which server's is seen by its keys
    pub(super) file: PathBuf,
    /// Its users in the form of /etc/shadow, passwd or htpasswd, where they are not in the configuration (vsftpd, ProFTPD,
    /// Pure-FTPd); passwords stay as they are
    #[arg(long, value_name = "FILE")]
    pub(super) users: Option<PathBuf>,
    /// Format of the output
    #[arg(long, value_enum, default_value = "yaml")]
    pub(super) format: ImportFormat,
    /// New file for keys and users, which only its owner may read
    #[arg(long, value_name = "FILE")]
    pub(super) secrets_out: PathBuf,
    /// Name of the Kubernetes Secret (helm-values)
    #[arg(long, value_name = "NAME", default_value = "cosgate", value_parser = secret_name)]
    pub(super) secret_name: String,
    /// Overwrite the file of the secrets
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ImportFormat {
    Yaml,
    Env,
    HelmValues,
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
