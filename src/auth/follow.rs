//! The users file, followed as it changes.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::directory::Directory;
use super::{Cut, Users};
use crate::config;
use crate::reload::{Reload, Watched};

impl Users {
    /// Follows the users file until `stop`. Sessions go on as they began; the next login meets the new state.
    pub async fn follow(&self, path: PathBuf, mut watched: Watched, stop: CancellationToken) {
        while let Some(users) = watched.next(&stop, self.reader(path.clone())).await {
            match users {
                Ok((directory, openness)) => {
                    let users = directory.by_name.len();
                    if let Some(openness) = &openness {
                        warn!(event = "anonymous_access", file = %path.display(), "{openness}");
                    }
                    *self.directory.write() = Arc::new(directory);
                    self.reload.send_replace(Reload::now());
                    info!(event = "users_reloaded", file = %path.display(), users, "users file loaded");
                }
                Err(reason) => {
                    self.reload
                        .send_modify(|state| state.failed(reason.clone()));
                    let since = self.reload.borrow().since.elapsed().unwrap_or_default();
                    error!(
                        event = "users_reload_failed", file = %path.display(), error = reason, in_force_for_seconds = since.as_secs(),
                        "users file refused, the last good one stays in force"
                    );
                }
            }
        }
    }

    /// What makes users of a file's text: those in it and those of the configuration, and the meaning of the file's anonymous user, if it
    /// has one.
    fn reader(
        &self,
        path: PathBuf,
    ) -> impl FnOnce(String) -> Result<(Directory, Option<String>), String> + use<> {
        let (fixed, defaults, common) = (
            Arc::clone(&self.fixed),
            self.defaults.clone(),
            self.common.clone(),
        );
        move |text| {
            let users =
                config::users_of_file(&path, text, &common).map_err(|error| error.to_string())?;
            if let Some(user) = users
                .iter()
                .find(|user| fixed.iter().any(|other| other.name == user.name))
            {
                let name = Cut(&user.name);
                return Err(format!(
                    "the user {name} stands in `users` too; remove one of the two"
                ));
            }
            let openness = users.iter().find(|user| user.is_anonymous);
            let openness = openness.map(config::User::openness);
            let directory = Directory::new(fixed.iter().chain(&users), &defaults);
            let directory = directory.map_err(|error| error.to_string())?;
            Ok((directory, openness))
        }
    }
}
