//! The reasons why a transfer fails, and what to do about each.

use std::io;

use super::connect::Unreachable;
use super::report::Verdict;
use super::visit::told;
use crate::chain::Chain;
use crate::ftp_client::{Broken, Reply};

/// Why a transfer came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("{0}")]
    Refused(Reply),
    #[error("no data connection: {0}")]
    NoData(Unreachable),
    #[error("the TLS handshake on the data connection fails")]
    Handshake(#[source] io::Error),
    #[error("the data connection shows another certificate than the control connection")]
    CertificateMismatch,
    #[error("the data connection broke")]
    Data(#[source] io::Error),
    #[error("other bytes came back than were sent")]
    Differs,
}

impl Failure {
    /// The verdict on the step `what` that failed so.
    pub(super) fn verdict(&self, what: &str) -> Verdict {
        let fix = match self {
            Failure::Refused(reply) => match reply.code {
                550 if may_not(reply) => {
                    "give the user the right (users[].permissions), or examine with another user or --directory"
                }
                550 | 553 => {
                    "check --directory, and the store's rights with cosgate doctor on the gateway's host"
                }
                425 => {
                    "the data connection did not reach the gateway; see the checks of the ports above"
                }
                521 | 522 | 534 => {
                    "the gateway wants protected data connections that resume the session of the control connection \
                     (tls.required, tls.session_reuse)"
                }
                _ => STORE_TROUBLE,
            },
            Failure::NoData(_) => "see the checks of the ports above",
            Failure::Handshake(_) => {
                "something on the way reads or changes data connections, or tls.session_reuse asks for what clients can't do"
            }
            Failure::CertificateMismatch => {
                "something answers data connections in the gateway's place, or gateways behind one address have different \
                 certificates"
            }
            Failure::Broken(_) | Failure::Data(_) => {
                "the gateway's log has the reason; balancers and firewalls on the way may close connections, too"
            }
            Failure::Differs => "tell the gateway's maintainers: this must not happen",
        };
        let finding = match self {
            Failure::Broken(error) => told(error),
            failure => Chain(failure).to_string(),
        };
        Verdict::failed(format!("the {what} fails: {finding}"), fix)
    }
}

/// A right is missing; the gateway says so in these words, and with the same code that it has for missing files.
pub(super) fn may_not(reply: &Reply) -> bool {
    let words = reply.lines.concat().to_ascii_lowercase();
    words.contains("permission") || words.contains("may not")
}

pub(super) const STORE_TROUBLE: &str =
    "the gateway's log has the reason; cosgate doctor on the gateway's host examines the store";
