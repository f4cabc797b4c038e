//! The `auth` section: the authentication endpoint, and the guard against guessing.

use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::SecretString;

use super::endpoint::Endpoint;
use super::parse::{self, Parsed};
use super::reader::Reader;
use super::{Auth, HttpAuth, Lockout};
use crate::reload;

/// Reads the section.
pub(super) fn resolve(read: &mut Reader) -> Auth {
    Auth {
        http: http(read),
        lockout: lockout(read),
    }
}

fn http(read: &mut Reader) -> Option<HttpAuth> {
    let allow_plain = read.value("auth.http.allow_plain", parse::switch);
    let url = read.optional(URL, |text| url(text, allow_plain));
    let token = read.optional(TOKEN, token).map(SecretString::from);
    let ca_file = read.optional(CA_FILE, ca_file);
    let timeout = read.duration("auth.http.timeout");
    let cache = read.value("auth.http.cache", cache);
    if url.is_none() && read.is_sound(URL) {
        for key in [TOKEN, CA_FILE] {
            if read.is_set(key) {
                read.refuse(
                    key,
                    format!("this goes with {URL}; set that too, or remove this"),
                );
            }
        }
    }
    let url = url?;
    if allow_plain && url.starts_with("http://") {
        read.warn(
            URL,
            "passwords travel unencrypted to this URL; https:// protects them",
        );
    }
    Some(HttpAuth {
        url,
        token,
        ca_file,
        timeout,
        cache,
    })
}

/// A URL that a password may be sent to.
fn url(text: &str, allow_plain: bool) -> Parsed<String> {
    let url = Endpoint::parse(text).map_err(|advice| {
        if advice.contains("carries a login") {
            "the URL carries a login; remove it and set auth.http.token".to_string()
        } else {
            advice.replace("s3.example.com", "directory.example.com/ftp-login")
        }
    })?;
    let is_local = url.ip().is_some_and(|ip| ip.is_loopback()) || url.host == "localhost";
    if url.is_tls || is_local || allow_plain {
        Ok(text.to_string())
    } else {
        Err(
            "passwords would travel unencrypted; write https://, or a loopback address such as http://127.0.0.1:8081, \
             or set auth.http.allow_plain to true if the network is trusted"
                .into(),
        )
    }
}

/// What goes behind `Bearer ` (RFC 6750, section 2.1).
fn token(text: &str) -> Parsed<String> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_string())
    } else {
        Err(
            "a token has no spaces, line breaks or letters beyond ASCII; copy it again without"
                .into(),
        )
    }
}

/// A file that holds certificates now; it is read again when it is used.
pub(super) fn ca_file(text: &str) -> Parsed<PathBuf> {
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

fn cache(text: &str) -> Parsed<Option<Duration>> {
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

fn lockout(read: &mut Reader) -> Lockout {
    let delay = read.duration("auth.lockout.delay");
    let max_delay = read.duration(MAX_DELAY);
    if max_delay < delay && read.is_sound("auth.lockout.delay") {
        read.refuse(
            MAX_DELAY,
            "this is less than auth.lockout.delay; raise it to that at least",
        );
    }
    if max_delay > LONGEST_DELAY {
        read.refuse(
            MAX_DELAY,
            "clients and load balancers give up sooner; write at most 5m",
        );
    }
    let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    Lockout {
        per_address: count(read.count("auth.lockout.per_address")),
        per_user: count(read.count("auth.lockout.per_user")),
        window: read.duration("auth.lockout.window"),
        duration: read.duration("auth.lockout.duration"),
        delay,
        max_delay,
    }
}

const URL: &str = "auth.http.url";
const TOKEN: &str = "auth.http.token";
const CA_FILE: &str = "auth.http.ca_file";
const MAX_DELAY: &str = "auth.lockout.max_delay";
const MAX_CACHE: Duration = Duration::from_secs(3600);
const LONGEST_DELAY: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_sent_over_tls_or_to_this_machine_only() {
        for text in [
            "https://directory.example.com/login",
            "http://127.0.0.1:8081/",
            "http://[::1]/x",
            "http://localhost:80",
        ] {
            assert_eq!(url(text, false).as_deref(), Ok(text));
        }
        for text in ["http://directory.example.com", "http://10.0.0.1/x"] {
            let advice = url(text, false).expect_err(text);
            assert!(advice.contains("auth.http.allow_plain"), "{advice}");
            assert!(url(text, true).is_ok());
        }
        for text in [
            "",
            "directory",
            "ftp://x",
            "https://a:b@host",
            "https://host?x=1",
            "https://ho st",
        ] {
            assert!(url(text, true).is_err(), "{text}");
        }
    }

    #[test]
    fn a_success_is_kept_for_a_short_time_or_not_at_all() {
        assert_eq!(cache("off"), Ok(None));
        assert_eq!(cache("30s"), Ok(Some(Duration::from_secs(30))));
        for text in ["2h", "0s", "30", "on"] {
            assert!(cache(text).is_err(), "{text}");
        }
    }
}
