//! USER and PASS: who may come in, and what those hear who may not.

use std::sync::Arc;

use secrecy::SecretString;
use tracing::info;

use crate::auth::{LoginError, Peer};
use crate::config::TlsRequired;
use crate::ftp::session::edge::{Close, Edge, STOPPING, Step};

/// Failed logins that a connection may have; then it is closed.
const LOGIN_ATTEMPTS: u32 = 3;

impl Edge {
    pub(super) async fn user(&mut self, name: String) -> Step {
        if self.session.user().is_some() {
            return self.say(503, "Already logged in").await;
        }
        if self.secured.is_none() && self.tls_required() != TlsRequired::None {
            return self.say(530, "Please use AUTH TLS first").await;
        }
        let anonymous = self.frontend.users.is_anonymous(&name);
        self.user_name = Some(name);
        let text = match anonymous {
            true => "Anonymous login, send anything as the password",
            false => "Password required",
        };
        self.say(331, text).await
    }

    pub(super) async fn pass(&mut self, password: SecretString) -> Step {
        if self.session.user().is_some() {
            return self.say(503, "Already logged in").await;
        }
        let Some(name) = self.user_name.take() else {
            return self.say(503, "USER must come first").await;
        };
        let (id, client) = (self.session.id, self.session.peer);
        let peer = Peer {
            address: client.ip(),
            tls: self.secured.is_some(),
            client_cert_cn: self
                .secured
                .as_ref()
                .and_then(|secured| secured.client_name.clone()),
        };
        let users = Arc::clone(&self.frontend.users);
        let is_last = self.failed_logins + 1 >= LOGIN_ATTEMPTS;
        let login = tokio::select! {
            login = users.login(id, &name, password, &peer, is_last) => login,
            () = self.frontend.stop.cancelled() => return Err(Close::farewell(421, STOPPING)),
        };
        let login = match login {
            Ok(login) => login,
            Err(reason) => {
                self.frontend.metrics.login(reason.word());
                return self.refuse_login(reason).await;
            }
        };
        self.frontend.metrics.login("ok");
        self.encoding.set_charset(login.user.charset);
        self.control.encode_in(self.encoding.outgoing());
        // not as it was typed: the anonymous user has several names
        let name = login.user.name.clone();
        // as they are now: the users file may have changed while the password was checked
        let limits = users.limits(&name).unwrap_or(login.user.limits);
        let bandwidth = self.frontend.bandwidth.session(&name, &limits);
        self.bandwidth = Some(Arc::new(bandwidth));
        self.session.log_in(login.user);
        self.user_permit = Some(login.permit);
        self.tree = Some(login.tree);
        self.permit.authenticated();
        if let Some(secured) = &self.secured {
            secured.log_in(&name);
        }
        info!(event = "login", session = id, user = name, %client, "logged in");
        self.say(230, "Logged in").await
    }

    /// The reply to a failed login; the pause for it is over.
    async fn refuse_login(&mut self, reason: LoginError) -> Step {
        self.failed_logins += 1;
        match reason {
            LoginError::Wrong if self.failed_logins < LOGIN_ATTEMPTS => {
                self.say(530, "Login incorrect").await
            }
            LoginError::Wrong | LoginError::Locked => {
                Err(Close::with(421, "Too many failed logins, try again later"))
            }
            LoginError::Busy => Err(Close::with(421, "Too many logins at once, try again later")),
            LoginError::Unavailable => Err(Close::with(
                421,
                "Logins can't be checked at the moment, try again later",
            )),
            // 530 would tell a client that its password is wrong; this passes when another session ends (RFC 959, 4.2.1)
            LoginError::TooManySessions => Err(Close::with(
                421,
                "Too many sessions of this user, try again later",
            )),
        }
    }
}
