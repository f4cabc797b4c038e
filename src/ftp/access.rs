//! The addresses that may connect to the control ports: `access.allow` and `access.deny`.
//!
//! Invariant: a client whose address is refused gets no greeting, and has no session for longer than it takes to read a changed
//! `access.file` and to end what it was doing.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{self, AccessLists, access_lists_of_file};
use crate::ftp::connections::Refusal;
use crate::networks::Networks;
use crate::reload::{Reload, Watched};
use crate::telemetry::LineLimit;

/// The lists in force, and what becomes of them as their file changes.
#[derive(Debug)]
pub struct Access {
    /// Of the configuration itself; they never change.
    fixed: Arc<AccessLists>,
    rules: watch::Sender<Rules>,
    reload: watch::Sender<Reload>,
    /// Of lines about clients that are refused: a flood of them must not become a flood of lines.
    refused: LineLimit,
    has_file: bool,
}

/// The lists of the configuration and of the file together.
#[derive(Debug, Clone, Default)]
struct Rules {
    /// Empty: everybody.
    allow: Networks,
    deny: Networks,
}

impl Access {
    /// The lists of the configuration.
    pub fn new(settings: &config::Access) -> Self {
        let of_file = settings.file.as_ref().map(|file| &file.lists);
        Access {
            rules: watch::Sender::new(Rules::new(&settings.lists, of_file)),
            fixed: Arc::new(settings.lists.clone()),
            reload: watch::Sender::new(Reload::now()),
            refused: LineLimit::per(REFUSED_LINES),
            has_file: settings.file.is_some(),
        }
    }

    /// Refuses a client at `address`, if the lists do.
    pub fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        let checked = self.rules.borrow().check(address);
        if let Err(refusal) = checked
            && let Some(left_out) = self.refused.pass()
        {
            let reason = refusal.word();
            info!(event = "address_refused", client = %address, reason, left_out, "a client was refused by its address");
        }
        checked
    }

    /// Resolves when the lists refuse the client at `address`. Cancel safe.
    pub async fn refused(&self, address: IpAddr) {
        if !self.has_file {
            // then nothing changes
            return std::future::pending().await;
        }
        let mut rules = self.rules.subscribe();
        let refused = rules.wait_for(|rules| rules.check(address).is_err()).await;
        if refused.is_err() {
            unreachable!("the sender is a field of self");
        }
    }

    /// The state of the file.
    pub fn reload_state(&self) -> Reload {
        self.reload.borrow().clone()
    }

    /// Follows `file` until `stop`. Sessions of addresses that are refused from then on end.
    pub async fn follow(
        &self,
        file: config::AccessFile,
        interval: Duration,
        stop: CancellationToken,
    ) {
        let path = file.path;
        let mut watched = Watched::new(vec![path.clone()], interval).seen(file.digest);
        while let Some(rules) = watched.next(&stop, self.reader(path.clone())).await {
            match rules {
                Ok(rules) => {
                    let (allowed, denied) = (rules.allow.len(), rules.deny.len());
                    self.rules.send_replace(rules);
                    self.reload.send_replace(Reload::now());
                    info!(event = "access_reloaded", file = %path.display(), allowed, denied, "access.file loaded");
                    if denied == 0 && allowed == 0 {
                        warn!(event = "access_open", file = %path.display(), "the lists of access are empty: every address may connect");
                    }
                }
                Err(reason) => {
                    self.reload
                        .send_modify(|state| state.failed(reason.clone()));
                    let since = self.reload.borrow().since.elapsed().unwrap_or_default();
                    error!(
                        event = "access_reload_failed", file = %path.display(), error = reason, in_force_for_seconds = since.as_secs(),
                        "access.file refused, the last good lists stay in force"
                    );
                }
            }
        }
    }

    /// What makes rules of the file's text and the configuration.
    fn reader(&self, path: PathBuf) -> impl FnOnce(String) -> Result<Rules, String> + use<> {
        let fixed = Arc::clone(&self.fixed);
        move |text| {
            let lists = access_lists_of_file(&path, text).map_err(|error| error.to_string())?;
            Ok(Rules::new(&fixed, Some(&lists)))
        }
    }
}

impl Rules {
    fn new(fixed: &AccessLists, of_file: Option<&AccessLists>) -> Self {
        let of = |list: fn(&AccessLists) -> &Vec<IpNet>| {
            let of_file = of_file.into_iter().flat_map(list);
            list(fixed).iter().chain(of_file).copied().collect()
        };
        Rules {
            allow: of(|lists| &lists.allow),
            deny: of(|lists| &lists.deny),
        }
    }

    fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.deny.contains(address) {
            Err(Refusal::Denied)
        } else if !self.allow.is_empty() && !self.allow.contains(address) {
            Err(Refusal::NotAllowed)
        } else {
            Ok(())
        }
    }
}

/// One line in this time says that clients are refused, and how many it stands for.
const REFUSED_LINES: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(allow: &[&str], deny: &[&str]) -> AccessLists {
        let parse = |texts: &[&str]| {
            let parsed = texts.iter().map(|text| text.parse().expect("a network"));
            parsed.collect()
        };
        AccessLists {
            allow: parse(allow),
            deny: parse(deny),
        }
    }

    #[test]
    fn deny_wins_and_without_allow_everybody_else_may_come() {
        let address = |text: &str| text.parse().expect("an address");
        let open = Rules::new(&lists(&[], &["192.0.2.0/24"]), None);
        assert_eq!(open.check(address("198.51.100.1")), Ok(()));
        assert_eq!(open.check(address("192.0.2.9")), Err(Refusal::Denied));
        assert_eq!(
            open.check(address("::ffff:192.0.2.9")),
            Err(Refusal::Denied)
        );
        let of_file = lists(&["10.0.0.0/8"], &["10.6.0.0/16"]);
        let closed = Rules::new(&lists(&["192.0.2.0/24"], &[]), Some(&of_file));
        for (from, checked) in [
            ("10.5.0.1", Ok(())),
            ("192.0.2.1", Ok(())),
            ("10.6.0.1", Err(Refusal::Denied)),
            ("11.0.0.1", Err(Refusal::NotAllowed)),
            ("2001:db8::1", Err(Refusal::NotAllowed)),
        ] {
            assert_eq!(closed.check(address(from)), checked, "{from}");
        }
        assert_eq!(Rules::default().check(address("::1")), Ok(()));
    }
}
