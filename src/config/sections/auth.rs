//! The `auth` section: the authentication endpoint, the directory, and the guard against guessing.

pub(super) mod ldap;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::config::endpoint::Endpoint;
use crate::config::keys::row::*;
use crate::config::parse::Parsed;
use crate::config::reader::Reader;
use ldap::LdapAuth;
pub(super) use values::ca_file;
use values::cache;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("auth.http.url", Text, Unset,
        "URL that is asked, by POST with JSON, about users that are not configured here."),
    key("auth.http.token", Secret, Unset,
        "Bearer token for the Authorization header of these requests."),
    key("auth.http.ca_file", Text, Unset,
        "PEM file with the only certificate authorities that `auth.http.url` may be signed by; the system's if not set."),
    key("auth.http.timeout", Time, Is("5s"),
        "Time for a whole request to `auth.http.url`; without an answer the login is refused."),
    key("auth.http.cache", Text, Is("30s"),
        "How long a success is good for further logins with the same password from the same address, or `off`; failures are never kept."),
    key("auth.http.allow_plain", Choice(SWITCH), Is("false"),
        "Whether `auth.http.url` may be http:// to another machine, which sends passwords in the clear."),
];

/// The rows of the guard.
#[rustfmt::skip]
pub(in crate::config) const LOCKOUT: &[Key] = &[
    key("auth.lockout.per_address", Count(0, 1_000_000), Is("30"),
        "Failed logins after which an address (IPv6: a /64 network) is locked out; 0: never."),
    key("auth.lockout.per_user", Count(0, 1_000_000), Is("5"),
        "Failed logins for one user from one address after which that address is locked out for that user; 0: never."),
    key("auth.lockout.window", Time, Is("15m"),
        "Failed logins are forgotten when none has come for this time."),
    key("auth.lockout.duration", Time, Is("15m"),
        "How long a lockout holds."),
    key("auth.lockout.delay", Time, Is("1s"),
        "Pause before the first failed login is answered; it doubles with each further one."),
    key("auth.lockout.max_delay", Time, Is("10s"),
        "Longest of these pauses."),
    key("auth.lockout.shared", Choice(SWITCH), Is("true"),
        "Whether failed logins count at the other replicas, too; in effect with `handover.listen`."),
];

/// The checks of logins, besides the users' own password hashes.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The endpoint that is asked for users that are not configured.
    pub http: Option<HttpAuth>,
    /// The directory that is asked for them; not both.
    pub ldap: Option<LdapAuth>,
    /// The guard against guessing.
    pub lockout: Lockout,
}

/// An HTTP endpoint that checks passwords and says what a user may do.
#[derive(Debug, Clone)]
pub struct HttpAuth {
    /// `https://...`, or `http://` to a loopback address or where that was allowed explicitly.
    pub url: String,
    /// Goes into the Authorization header as a bearer token.
    pub token: Option<SecretString>,
    /// PEM file with the only certificate authorities to trust; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Time for a whole request; 1 ms to 7 days.
    pub timeout: Duration,
    /// The time for which a success holds; none: each login asks.
    pub cache: Option<Duration>,
}

/// The guard against guessing.
#[derive(Debug, Clone)]
pub struct Lockout {
    /// Failed logins after which an address is locked out; 0: never.
    pub per_address: u32,
    /// Failed logins for one user after which an address is locked out for that user; 0: never.
    pub per_user: u32,
    /// Failures are forgotten when none has come for this time; 1 ms to 7 days.
    pub window: Duration,
    /// The time for which a lockout holds; 1 ms to 7 days.
    pub duration: Duration,
    /// Pause before the first failure is answered; doubles with each further one. 1 ms to 7 days.
    pub delay: Duration,
    /// Longest pause; at least [`Lockout::delay`].
    pub max_delay: Duration,
    /// Failures count at the other replicas, too, if there is handover.
    pub shared: bool,
}

impl Auth {
    /// True if somebody else is asked about users that are not configured.
    pub fn has_authenticator(&self) -> bool {
        self.http.is_some() || self.ldap.is_some()
    }
}

/// Reads the section.
pub(super) fn resolve(read: &mut Reader) -> Auth {
    let http = http(read);
    let ldap = ldap::resolve(read);
    if http.is_some() && ldap.is_some() {
        read.refuse(
            "auth.ldap.url",
            format!("{URL} is set, too, and one of both decides; remove one"),
        );
    }
    Auth {
        http,
        ldap,
        lockout: lockout(read),
    }
}

fn http(read: &mut Reader) -> Option<HttpAuth> {
    let allow_plain = read.switch("auth.http.allow_plain");
    let url = read.optional(URL, |text| url(text, allow_plain));
    let token = read.optional(TOKEN, token).map(SecretString::from);
    let ca_file = read.optional(CA_FILE, ca_file);
    let timeout = read.duration("auth.http.timeout");
    let cache = read.value("auth.http.cache", cache);
    if url.is_none() && read.is_valid(URL) {
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

/// The text behind `Bearer ` (RFC 6750, section 2.1).
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

fn lockout(read: &mut Reader) -> Lockout {
    let delay = read.duration("auth.lockout.delay");
    let max_delay = read.duration(MAX_DELAY);
    if max_delay < delay && read.is_valid("auth.lockout.delay") {
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
        shared: shared(read),
    }
}

fn shared(read: &mut Reader) -> bool {
    let shared = read.switch(SHARED);
    if shared && read.is_set(SHARED) && !read.is_set("handover.listen") {
        read.warn(
            SHARED,
            "failed logins reach other replicas by their handover ports, and handover.listen is not set: nothing is shared",
        );
    }
    shared
}

const URL: &str = "auth.http.url";

const TOKEN: &str = "auth.http.token";

const CA_FILE: &str = "auth.http.ca_file";

const SHARED: &str = "auth.lockout.shared";

const MAX_DELAY: &str = "auth.lockout.max_delay";

/// Clients give up waiting for an answer before.
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
}
