//! The configurations of vsftpd, ProFTPD and Pure-FTPd, as far as they have a counterpart.
//!
//! Each server's keys are read in its own module into [`Found`]; what they mean for cosgate is the same from there on. None of
//! these files names a store, and users are elsewhere (`/etc/passwd`, a file, a directory service): a file of the form of
//! passwd or shadow gives them ([`super::passwd`]).

mod found;
mod lines;
mod proftpd;
mod pureftpd;
mod values;
mod vsftpd;

pub(super) use self::found::{Certificate, Found};
use super::error::Mistake;

/// A program whose configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    Vsftpd,
    ProFtpd,
    PureFtpd,
}

/// The program that `text` configures, by the keys in it; none if it is none of the three.
pub(super) fn recognise(text: &str) -> Option<Server> {
    let has_section = text.lines().any(|line| line.trim_start().starts_with('['));
    if has_section {
        return None;
    }
    let of = |server, count: usize| (count, server);
    let found = [
        of(Server::Vsftpd, vsftpd::known(text)),
        of(Server::ProFtpd, proftpd::known(text)),
        of(Server::PureFtpd, pureftpd::known(text)),
    ];
    let most = found.into_iter().max_by_key(|(count, _)| *count)?;
    (most.0 > 0).then_some(most.1)
}

/// Reads `text` as `server` does.
pub(super) fn read(server: Server, text: &str, mistakes: &mut Vec<Mistake>) -> Found {
    match server {
        Server::Vsftpd => vsftpd::read(text, mistakes),
        Server::ProFtpd => proftpd::read(text, mistakes),
        Server::PureFtpd => pureftpd::read(text, mistakes),
    }
}
