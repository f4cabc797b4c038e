//! `log.level` follows the configuration file while the program runs, so that a fault can be looked at without a restart
//! that would make it go away.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::chain::Chain;
use crate::config;
use crate::reload::Watched;

/// The interval at which the file is looked at; a mounted ConfigMap takes a minute or two to change anyway.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

type Set = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// Changes the level of the log. Cheap to clone.
#[derive(Clone)]
pub struct LevelSwitch {
    current: Arc<Mutex<String>>,
    set: Arc<Set>,
}

impl LevelSwitch {
    pub(super) fn new(
        current: String,
        set: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        LevelSwitch {
            current: Arc::new(Mutex::new(current)),
            set: Arc::new(set),
        }
    }

    /// The level in force, as it was written.
    pub fn current(&self) -> String {
        let current = self.current.lock();
        current.clone()
    }

    /// Puts another level in force, and says so.
    pub fn set(&self, level: &str) -> Result<(), String> {
        let mut current = self.current.lock();
        if *current == level {
            return Ok(());
        }
        let before = std::mem::replace(&mut *current, level.to_owned());
        let say = || {
            info!(
                event = "log_level",
                before,
                after = level,
                "the log level changes"
            )
        };
        // a level that shows no such line any more is told of before it is in force
        let hushes = EnvFilter::try_new(level).is_ok_and(|filter| {
            let loudest = filter.max_level_hint();
            loudest.is_some_and(|loudest| loudest < LevelFilter::INFO)
        });
        if hushes {
            say();
        }
        if let Err(error) = (self.set)(level) {
            *current = before;
            return Err(error);
        }
        if !hushes {
            say();
        }
        Ok(())
    }

    /// Looks at the configuration file now and then, until `stop`. Only `log.level` is taken from it; all else waits for
    /// a restart, and a file that isn't good changes nothing.
    pub async fn follow(self, file: PathBuf, stop: CancellationToken) {
        let mut watched = Watched::new(vec![file.clone()], POLL_INTERVAL);
        loop {
            let seen = tokio::select! {
                seen = watched.changed() => seen,
                () = stop.cancelled() => return,
            };
            let loaded = match seen {
                Ok(_) => config::load(Some(&file)).map_err(|error| Chain(&error).to_string()),
                Err(error) => Err(error.to_string()),
            };
            let outcome = loaded.and_then(|loaded| self.set(&loaded.config.log.level));
            if let Err(error) = outcome {
                warn!(
                    event = "configuration_refused", file = %file.display(), error, log_level = self.current(),
                    "the changed configuration file is not valid; the log level stays, and a restart would fail"
                );
            }
        }
    }
}
