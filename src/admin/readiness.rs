//! The decision whether clients should be sent here, and each reason against it by its name.

use std::time::SystemTime;

use crate::admin::probe::Verdict;
use crate::config::StoreOutage;
use crate::ftp::frontend::Frontend;

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Why not; none: ready.
    pub reasons: Vec<String>,
    /// The warnings of a ready gateway.
    pub notes: Vec<String>,
}

impl Readiness {
    /// As it is now, with what the store's answers come to and what an outage of it means.
    pub fn of(frontend: &Frontend, store: &Verdict, outage: StoreOutage) -> Self {
        let mut reasons = Vec::new();
        let mut notes = Vec::new();
        if frontend.drain.is_cancelled() {
            reasons.push("the gateway is stopping".to_owned());
        } else {
            reasons.extend(frontend.control_ports.not_ready());
        }
        match frontend.masquerade.not_ready() {
            Some(reason) => reasons.push(reason),
            None => notes.extend(frontend.masquerade.notes()),
        }
        match store {
            Verdict::Reachable => {}
            Verdict::Doubtful(trouble) => notes.push(format!(
                "the store does not answer, though it did within the last minute: {trouble}"
            )),
            Verdict::Unreachable(trouble) if outage == StoreOutage::Note => notes.push(format!(
                "the store has not answered for more than a minute, transfers are answered with 451: {trouble}"
            )),
            Verdict::Unreachable(trouble) | Verdict::NeverReached(trouble) => {
                reasons.push(format!("the store can't be reached: {trouble}"));
            }
        }
        // one system call on a local file system
        if frontend.disk.as_ref().is_some_and(|disk| disk.is_low()) {
            let note =
                "the disk of the embedded store is full: uploads are refused until there is space";
            notes.push(note.to_owned());
        }
        if let Some(tls) = &frontend.tls {
            // where FTPS is a choice, clients without it are still served
            match tls.validity().fault(SystemTime::now()) {
                Some(fault) if tls.is_needed() => reasons.push(fault),
                fault => notes.extend(fault),
            }
            notes.extend(tls.state().failure.map(|failure| {
                let error = failure.error;
                format!(
                    "the changed certificate files can't be used, the last good ones hold: {error}"
                )
            }));
        }
        if frontend.users.reload_state().borrow().failure.is_some() {
            // which entry it is would be a user's name, and everybody may ask here
            let note =
                "the changed users file can't be used, the last good one holds; the log says why";
            notes.push(note.to_owned());
        }
        if frontend.access.reload_state().failure.is_some() {
            // which networks it names is nothing that everybody has to know
            let note =
                "the changed access.file can't be used, the last good lists hold; the log says why";
            notes.push(note.to_owned());
        }
        Readiness { reasons, notes }
    }

    /// True if clients should be sent here.
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }

    /// The body of the answer, a line for each.
    pub fn text(&self) -> String {
        let head = if self.is_ready() {
            "ready"
        } else {
            "not ready"
        };
        let mut text = format!("{head}\n");
        for reason in &self.reasons {
            text += &format!("{reason}\n");
        }
        for note in &self.notes {
            text += &format!("note: {note}\n");
        }
        text
    }
}
