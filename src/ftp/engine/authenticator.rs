//! The engine's logins: the password that the edge made for the session, and no other.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use unftp_core::auth::{AuthenticationError, Authenticator, Credentials, Principal};

use crate::ftp::session::state::Session;

/// Accepts the session's own password.
#[derive(Debug)]
pub(super) struct SessionAuthenticator(pub(super) Arc<Session>);

#[async_trait]
impl Authenticator for SessionAuthenticator {
    async fn authenticate(
        &self,
        username: &str,
        credentials: &Credentials,
    ) -> Result<Principal, AuthenticationError> {
        if credentials.password.as_deref() == Some(self.0.engine_password.expose_secret()) {
            Ok(Principal {
                username: username.to_owned(),
            })
        } else {
            Err(AuthenticationError::BadPassword)
        }
    }
}
