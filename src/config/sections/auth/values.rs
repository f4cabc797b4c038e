//! Values that all authenticators have.

use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::config::parse::{self, Parsed};
use crate::reload;

/// A file that holds certificates now; it is read again when it is used.
pub(in crate::config::sections) fn ca_file(text: &str) -> Parsed<PathBuf> {
    const WANTED: &str = "give the path of a PEM file with certificates";
    let path = PathBuf::from(text);
    let pem =
        reload::read_bounded(&path).map_err(|reason| format!("the file {reason}; {WANTED}"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(path),
        Ok(_) => Err(format!("there is no certificate in the file; {WANTED}")),
        Err(_) => Err(format!("a certificate in the file is broken; {WANTED}")),
    }
}

/// The time for which a success holds.
pub(super) fn cache(text: &str) -> Parsed<Option<Duration>> {
    match text {
        // YAML 1.1 writers turn `off` into `false`.
        "off" | "false" => Ok(None),
        text => match parse::duration(text) {
            Ok(time) if time <= MAX_CACHE => Ok(Some(time)),
            Ok(_) => Err(
                "a user who was removed may log in for this time; write at most 1h, or off".into(),
            ),
            Err(advice) => Err(advice + "; or off"),
        },
    }
}

/// A password that was changed or withdrawn must not be good for longer.
const MAX_CACHE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_is_kept_for_a_short_time_or_not_at_all() {
        assert_eq!(cache("off"), Ok(None));
        assert_eq!(cache("30s"), Ok(Some(Duration::from_secs(30))));
        for text in ["2h", "0s", "30", "on"] {
            assert!(cache(text).is_err(), "{text}");
        }
    }
}
