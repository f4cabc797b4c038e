//! Sessions per user, for `max_sessions`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::user::User;

/// Sessions by user name.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<String, usize>>);

/// A session's place among those of its user, given back on drop.
#[derive(Debug)]
pub struct Seat {
    sessions: Arc<Sessions>,
    name: String,
}

impl Sessions {
    /// A place for one more session of `user`; none if there are as many as allowed.
    pub(super) fn take(self: &Arc<Self>, user: &User) -> Option<Seat> {
        let mut by_name = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_name.entry(user.name.clone()).or_default();
        if user.max_sessions.is_some_and(|most| *count >= most) {
            return None;
        }
        *count += 1;
        Some(Seat {
            sessions: Arc::clone(self),
            name: user.name.clone(),
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_name = self
            .sessions
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_name.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                by_name.remove(&self.name);
            }
        }
    }
}
