//! Admission of a user who is known: the limits on the user's sessions, and the anonymous user.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::session_permit::SessionPermit;
use super::{Login, LoginError, Peer, Tree, User, Users, code};
use crate::net::network;

impl Users {
    /// The login of the anonymous user. Nothing can be guessed, so the guard counts nothing; and whatever was sent as the password is
    /// dropped unread, since it may be somebody's mail address (RFC 1635).
    pub(super) async fn anonymous_login(
        &self,
        session: u64,
        user: Arc<User>,
        peer: &Peer,
        arrived: Instant,
    ) -> Result<Login, LoginError> {
        if let Err(restriction) = user.check_restrictions(peer) {
            let reason = restriction.to_string();
            if let Some(left_out) = self.anonymous_refused.pass() {
                let client = peer.address;
                warn!(event = "login_failed", session, user = user.name, %client, reason, left_out, "anonymous login refused");
            }
            self.note(&user.name, peer, code(LoginError::Wrong), reason);
            tokio::time::sleep_until(arrived + self.guard.shortest_pause()).await;
            return Err(LoginError::Wrong);
        }
        self.admit(session, user, peer)
    }

    /// Lets somebody in who is the user, within the limits on the user's sessions.
    pub(super) fn admit(
        &self,
        session: u64,
        user: Arc<User>,
        peer: &Peer,
    ) -> Result<Login, LoginError> {
        let most = |limit: Option<usize>| limit.unwrap_or(usize::MAX);
        let name = user.name.clone();
        let of_user = self
            .sessions
            .try_acquire(name.clone(), most(user.max_sessions));
        let from = (name, network(peer.address));
        let from_network = self
            .sessions_by_network
            .try_acquire(from, most(user.max_sessions_per_ip));
        let key = match (of_user, from_network) {
            (Some(of_user), Some(from_network)) => {
                let tree = Tree::new(Arc::clone(&user), |mount| self.tenants.store(&mount.tenant));
                let permit = SessionPermit {
                    _of_user: of_user,
                    _from_network: from_network,
                };
                return Ok(Login { user, tree, permit });
            }
            (None, _) => "users[].max_sessions",
            (Some(_), None) => "users[].max_sessions_per_ip",
        };
        let (name, client) = (user.name.as_str(), peer.address);
        let left_out = match user.is_anonymous {
            // strangers must not fill the log
            true => self.anonymous_refused.pass(),
            false => Some(0),
        };
        if let Some(left_out) = left_out {
            warn!(event = "login_refused", session, user = name, %client, key, left_out, "the user has too many sessions");
        }
        let error = LoginError::TooManySessions;
        let cause = format!("the user has as many sessions as {key} allows");
        self.note(name, peer, code(error), cause);
        Err(error)
    }

    /// True if somebody who logs in as `name` needs no password.
    pub fn is_anonymous(&self, name: &str) -> bool {
        self.directory().anonymous(name).is_some()
    }
}
