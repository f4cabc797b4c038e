//! Failures in plain words, for the operator: what it means, and what to look at.
//!
//! Clients get less; see [`Reply`](crate::ftp::reply::Reply).

use std::net::IpAddr;
use std::time::Duration;

use crate::chain::Chain;
use crate::store::{Interruption, Left, StoreError};

/// Nobody came to a passive port.
pub(super) fn nobody_connected(port: u16, waited: Duration, advertised: &str) -> String {
    format!(
        "nobody connected to the passive port {port} within {}: a firewall or load balancer that doesn't pass \
         passive.ports, or a wrong masquerade address (this client is told: {advertised})",
        humantime::format_duration(waited)
    )
}

/// Somebody connected to the passive port, but from another address than that of the control connection.
pub(super) fn other_address(port: u16, from: IpAddr, control: IpAddr) -> String {
    format!(
        "a connection to the passive port {port} came from {from}, not from the control connection's {}: a pool of NAT addresses before \
         the client, or a node of the cluster that hides it (set externalTrafficPolicy: Local, or have the balancer keep the client's \
         address)",
        control.to_canonical()
    )
}

/// A trusted proxy relays the passive port without saying for whom.
pub(super) fn without_header(port: u16, proxy: IpAddr) -> String {
    format!(
        "a connection to the passive port {port} came from {proxy}, which is in proxy_protocol.trusted, and began with no PROXY header: \
         turn the PROXY protocol on there for the passive ports, as for the control port"
    )
}

/// Nobody answered at the client's own port, or it said no at once.
pub(super) fn unreachable(port: u16, tried: Duration) -> String {
    let tried = Duration::from_millis(u64::try_from(tried.as_millis()).unwrap_or(u64::MAX));
    format!(
        "the client's port {port} could not be reached (tried for {}): active mode doesn't work behind NAT or a firewall, \
         passive mode does",
        humantime::format_duration(tried)
    )
}

/// Why a command failed. The whole mapping, without a catch-all: a new error is a compile error here.
pub(super) fn cause(error: &StoreError) -> String {
    match error {
        StoreError::NotFound
        | StoreError::IsDirectory
        | StoreError::NotDirectory
        | StoreError::NotADirectory
        | StoreError::AlreadyExists
        | StoreError::NotEmpty
        | StoreError::IntoItself
        | StoreError::MountPoint
        | StoreError::AnotherStore
        | StoreError::BeyondEnd { .. }
        | StoreError::NotHeldThere { .. }
        | StoreError::BadName(_) => Chain(error).to_string(),
        StoreError::NameRule { rule } => {
            format!("files of this name are not accepted, by {rule} (upload, users[].upload, or a mount's upload)")
        }
        StoreError::Forbidden => {
            "the user's permissions don't allow it (users[].permissions, or those of the mount)".to_owned()
        }
        StoreError::Denied { .. } => format!(
            "the store denies it to the gateway: its keys are wrong, or lack a right on the bucket ({})",
            Chain(error)
        ),
        StoreError::Archived { .. } => format!(
            "a storage class for archives: restore the object at the store, or choose another class ({})",
            Chain(error)
        ),
        StoreError::Unavailable { .. } => format!(
            "the store can't be reached or is overloaded; the client may try again ({})",
            Chain(error)
        ),
        StoreError::NoSpace { .. } => format!(
            "the store has no space left: nothing can be stored until some is freed ({})",
            Chain(error)
        ),
        StoreError::Refused { .. } => {
            format!("the store doesn't take the request ({})", Chain(error))
        }
        StoreError::Changed { .. } => format!(
            "somebody else replaced or deleted the file under this command ({})",
            Chain(error)
        ),
        StoreError::Busy { .. } => format!(
            "another command or client had the file in work or was faster, nothing was changed ({})",
            Chain(error)
        ),
        StoreError::InHand { .. } => format!(
            "an upload that is held goes on in another session, or has gone on since this client asked ({})",
            Chain(error)
        ),
        StoreError::Integrity { .. } => format!(
            "the bytes that were sent and those that arrived differ, by length or checksum, so they don't count ({})",
            Chain(error)
        ),
        StoreError::Unverified { .. } => format!(
            "the store's answer doesn't show that it has what was sent, so it doesn't count as stored ({})",
            Chain(error)
        ),
        StoreError::Unknown { .. } => format!(
            "the store stopped answering in the middle of a change, so it is not known whether it was made ({})",
            Chain(error)
        ),
        StoreError::Outbox(_) => format!(
            "with events.delivery: durable nothing is changed whose event can't be written to the bucket ({})",
            Chain(error)
        ),
        StoreError::TooLarge { .. } => format!(
            "{}; upload.max_file_size, users[].max_file_size and a mount's set it",
            Chain(error)
        ),
        StoreError::NoMemory => {
            "no buffer memory became free in time: too many uploads at once for upload.memory_budget"
                .to_owned()
        }
        StoreError::Rename { outcome, source } => {
            format!("renamed in part, {outcome}; {}", cause(source))
        }
        StoreError::Interrupted(reason) => interruption(*reason).to_owned(),
        StoreError::UploadInterrupted { reason, left } => {
            let reason = interruption(*reason);
            match left {
                Left::Kept(bytes) => format!("{reason}; the {bytes} bytes that arrived were stored"),
                Left::Held(bytes) => format!("{reason}; {bytes} bytes are held, the client can go on"),
                Left::Nothing => format!("{reason}; nothing was stored"),
            }
        }
    }
}

fn interruption(reason: Interruption) -> &'static str {
    match reason {
        Interruption::Abort => "the client aborted it (ABOR)",
        Interruption::ControlLost => {
            "the control connection was lost: the client ended, or something between dropped an idle connection"
        }
        Interruption::DataReset => "the data connection was reset, by the client or on the way",
        Interruption::NotConnected => "nobody connected to the passive port",
        Interruption::TlsTruncated => {
            "the data connection ended without TLS's goodbye, so the file may be cut: a client that ended, or one that \
             never says it"
        }
        Interruption::TlsHandshake => {
            "the TLS handshake on the data connection failed: the client doesn't trust the certificate, or wants \
             another version of TLS"
        }
        Interruption::TlsNotResumed => {
            "the client doesn't resume its TLS session on data connections, as tls.session_reuse asks for"
        }
        Interruption::Stalled => {
            "no byte moved for too long (upload.stall_timeout, download.stall_timeout): the client or the network hangs"
        }
        Interruption::Stopping => "the gateway was stopped, and drain.deadline had passed",
        Interruption::AddressRefused => {
            "the client's address was denied meanwhile, or taken out of what is allowed (access.file)"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_hears_what_the_store_said() {
        let error = StoreError::Denied {
            operation: "PutObject",
            source: "AccessDenied".into(),
        };
        let text = cause(&error);
        assert!(text.contains("keys are wrong") && text.contains("PutObject: AccessDenied"));
    }

    #[test]
    fn an_upload_that_broke_off_says_what_became_of_it() {
        let of = |left| StoreError::UploadInterrupted {
            reason: Interruption::Stalled,
            left,
        };
        assert!(cause(&of(Left::Kept(7))).ends_with("the 7 bytes that arrived were stored"));
        assert!(cause(&of(Left::Held(7))).ends_with("7 bytes are held, the client can go on"));
        assert!(cause(&of(Left::Nothing)).ends_with("nothing was stored"));
    }
}
