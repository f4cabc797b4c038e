//! The `tls` section. The files are read here already, so that what is wrong with them is reported with its key.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use strum::{EnumString, VariantNames};

use super::User;
use crate::certificates::{self, Pair, Part};
use crate::config::keys::row::*;
use crate::config::parse;
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("tls.cert", Text, Unset,
        "PEM file with the certificate chain, the server's own first; with `tls.key` it turns FTPS on. Read again when it changes."),
    key("tls.key", Text, Unset,
        "PEM file with the private key of the first certificate in `tls.cert`."),
    key("tls.self_signed", Choice(SWITCH), Is("false"),
        "FTPS with a certificate that is made at each start, for trials: clients can't verify it."),
    key("tls.required", Choice(TlsRequired::VARIANTS), Is("none"),
        "What clients must protect: nothing, the control connection (before USER), or data connections, too."),
    key("tls.implicit_listen", List, Unset,
        "Addresses and ports on which TLS begins with the first byte (implicit FTPS, usually port 990)."),
    key("tls.min_version", Choice(TlsVersion::VARIANTS), Is("1.2"),
        "The oldest version of TLS that is spoken."),
    key("tls.client_ca", Text, Unset,
        "PEM file with the authorities of client certificates; clients are then asked for one."),
    key("tls.client_auth", Choice(ClientAuth::VARIANTS), Is("required"),
        "With `tls.client_ca`: whether a client without a certificate is refused."),
    key("tls.session_reuse", Choice(SessionReuse::VARIANTS), Is("off"),
        "`required` takes a data connection only if it resumes the TLS session of its control connection, which proves that it is the same client's."),
    key("tls.handshake_timeout", Time, Is("10s"),
        "Time for one TLS handshake."),
    key("tls.require_close_notify", Choice(SWITCH), Is("true"),
        "Whether an upload over TLS must end with close_notify. `false` is for clients that never send it: then a file that was cut on its way, also by an attacker, is stored as if it were whole, with 226."),
];

/// FTPS (RFC 4217).
#[derive(Debug, Clone)]
pub struct Tls {
    /// Where the certificate comes from.
    pub source: CertificateSource,
    /// The connections that must be protected.
    pub required: TlsRequired,
    /// Addresses on which TLS begins with the first byte; may be empty.
    pub implicit_listen: Vec<SocketAddr>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Whose client certificates are asked for; none: clients show none.
    pub clients: Option<ClientCertificates>,
    /// True if data connections must resume the TLS session of their control connection.
    pub session_reuse: SessionReuse,
    /// Time for one handshake; 1 ms to 7 days.
    pub handshake_timeout: Duration,
    /// An upload whose data end without close_notify is interrupted (RFC 8446, section 6.1).
    pub require_close_notify: bool,
}

/// Where the server's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// PEM files.
    Files {
        /// The chain, the server's own certificate first.
        cert: PathBuf,
        /// The key of that certificate.
        key: PathBuf,
    },
    /// Made at start, for trials.
    SelfSigned,
}

/// Client certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM file with the authorities that sign them.
    pub authorities: PathBuf,
    /// True if a client without one is refused.
    pub required: bool,
}

/// Words of `tls.client_auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
enum ClientAuth {
    Required,
    Optional,
}

/// The connections that clients must protect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum TlsRequired {
    /// Nothing: FTPS is offered.
    None,
    /// The control connection, and with it the password.
    Control,
    /// Data connections, too.
    All,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
pub enum TlsVersion {
    /// TLS 1.2 and later.
    #[strum(serialize = "1.2")]
    Tls12,
    /// TLS 1.3 only.
    #[strum(serialize = "1.3")]
    Tls13,
}

/// The requirements for data connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum SessionReuse {
    /// A new session will do.
    // YAML 1.1 writers turn `off` into `false`.
    #[strum(to_string = "off", serialize = "false")]
    Off,
    /// They must resume the session of their control connection.
    Required,
}

/// Reads the section; none: no certificate is given, and nothing asks for one.
pub(super) fn resolve(read: &mut Reader) -> Option<Tls> {
    let cert = read.optional("tls.cert", parse::path);
    let key = read.optional("tls.key", parse::path);
    let self_signed = read.switch("tls.self_signed");
    let authorities = read.optional("tls.client_ca", parse::path);
    let client_auth: ClientAuth = read.choice("tls.client_auth");
    let required = read.value("tls.required", |text| {
        let advice = "write none, control (the password is protected) or all (files, too)";
        parse::choice_or(text, advice)
    });
    let min_version = read.value("tls.min_version", |text| {
        let advice = "write 1.2 or 1.3; older versions are broken (RFC 8996)";
        parse::choice_or(text, advice)
    });
    let session_reuse = read.choice("tls.session_reuse");
    let implicit_listen = read.optional_list("tls.implicit_listen", parse::socket_address);
    let handshake_timeout = read.duration("tls.handshake_timeout");
    let require_close_notify = read.switch(CLOSE_NOTIFY);

    if let Some(file) = &authorities
        && let Err(error) = certificates::client_authorities(file)
    {
        read.refuse("tls.client_ca", error.advice);
    }
    let source = source(read, cert, key, self_signed);
    let Some(source) = source else {
        let asked = [
            ("tls.required", required != TlsRequired::None),
            ("tls.implicit_listen", !implicit_listen.is_empty()),
            ("tls.client_ca", authorities.is_some()),
            ("tls.session_reuse", session_reuse != SessionReuse::Off),
            ("tls.min_version", min_version != TlsVersion::Tls12),
            (CLOSE_NOTIFY, !require_close_notify),
        ];
        for (key, asks) in asked {
            if asks && read.is_valid("tls.cert") && read.is_valid("tls.key") {
                read.refuse(key, NEEDS_CERTIFICATE);
            }
        }
        return None;
    };
    if !require_close_notify {
        read.warn(CLOSE_NOTIFY, WITHOUT_CLOSE_NOTIFY);
    }
    Some(Tls {
        source,
        required,
        implicit_listen,
        min_version,
        clients: authorities.map(|authorities| ClientCertificates {
            authorities,
            required: client_auth == ClientAuth::Required,
        }),
        session_reuse,
        handshake_timeout,
        require_close_notify,
    })
}

/// Refuses users who could never log in, and warns of those whose files may be cut unseen.
pub(super) fn check_users(read: &mut Reader, tls: Option<&Tls>, users: &[User]) {
    let lenient = users
        .iter()
        .filter(|user| user.require_close_notify == Some(false));
    let names: Vec<&str> = lenient.map(|user| user.name.as_str()).collect();
    if !names.is_empty() {
        let words = format!(
            "{} of the user {}: {WITHOUT_CLOSE_NOTIFY}",
            "require_close_notify: false",
            names.join(", ")
        );
        read.warn("users", &words);
    }
    let careful = users.iter().find(|user| user.require_tls);
    if let (None, Some(user)) = (tls, careful) {
        let name = &user.name;
        let advice = format!(
            "{name} has require_tls, which {}",
            &NEEDS_CERTIFICATE["this ".len()..]
        );
        read.refuse("users", advice);
    }
    let known = users.iter().find(|user| user.client_cert_cn.is_some());
    if let (None, Some(user)) = (tls.and_then(|tls| tls.clients.as_ref()), known) {
        let name = &user.name;
        let advice = format!(
            "{name} has client_cert_cn, and nobody is asked for a certificate; set tls.client_ca"
        );
        read.refuse("users", advice);
    }
}

fn source(
    read: &mut Reader,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    self_signed: bool,
) -> Option<CertificateSource> {
    match (cert, key) {
        (Some(cert), Some(key)) => {
            if self_signed {
                read.refuse(
                    "tls.self_signed",
                    "a certificate is given in tls.cert; remove one of the two",
                );
            }
            if let Err(error) = Pair::read(&cert, &key) {
                let key = match error.part {
                    Part::Certificate | Part::ClientAuthorities => "tls.cert",
                    Part::Key => "tls.key",
                };
                read.refuse(key, error.advice);
            }
            Some(CertificateSource::Files { cert, key })
        }
        (None, None) => self_signed.then_some(CertificateSource::SelfSigned),
        (Some(_), None) => {
            if read.is_valid("tls.key") {
                read.refuse(
                    "tls.cert",
                    "tls.key is missing; write the file with its private key there",
                );
            }
            None
        }
        (None, Some(_)) => {
            if read.is_valid("tls.cert") {
                read.refuse(
                    "tls.key",
                    "tls.cert is missing; write the file with its certificate there",
                );
            }
            None
        }
    }
}

const CLOSE_NOTIFY: &str = "tls.require_close_notify";

const WITHOUT_CLOSE_NOTIFY: &str = "an upload that was cut on its way, also by an attacker, can't be told from a whole one \
    and is stored with 226; set it only for clients that never send close_notify";

const NEEDS_CERTIFICATE: &str =
    "this needs a certificate; set tls.cert and tls.key, or tls.self_signed: true for trials";

#[cfg(test)]
mod tests {
    use crate::config::{ConfigError, Loaded, load_from};

    fn with(settings: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        let variable =
            |(key, value): &(&str, &str)| (format!("COSGATE_{key}"), (*value).to_owned());
        load_from(None, settings.iter().map(variable))
    }

    fn refused(settings: &[(&str, &str)], words: &[&str]) {
        let text = with(settings).expect_err("a mistake").to_string();
        for word in words {
            assert!(text.contains(word), "{word} is missing in {text}");
        }
    }

    #[test]
    fn nothing_asks_for_tls_by_default() {
        assert!(with(&[]).expect("good").config.tls.is_none());
        let tls = with(&[("TLS__SELF_SIGNED", "true")])
            .expect("good")
            .config
            .tls;
        assert!(tls.is_some());
    }

    #[test]
    fn what_needs_a_certificate_says_so() {
        for (key, value) in [
            ("TLS__REQUIRED", "all"),
            ("TLS__IMPLICIT_LISTEN", "0.0.0.0:990"),
            ("TLS__SESSION_REUSE", "required"),
            ("TLS__MIN_VERSION", "1.3"),
            ("TLS__REQUIRE_CLOSE_NOTIFY", "false"),
        ] {
            refused(
                &[(key, value)],
                &["needs a certificate", &format!("COSGATE_{key}")],
            );
        }
    }

    #[test]
    fn half_a_pair_and_files_that_are_missing_are_named() {
        refused(
            &[("TLS__CERT", "/nowhere/tls.crt")],
            &["tls.cert", "tls.key is missing"],
        );
        refused(
            &[("TLS__KEY", "/nowhere/tls.key")],
            &["tls.key", "tls.cert is missing"],
        );
        refused(
            &[
                ("TLS__CERT", "/nowhere/tls.crt"),
                ("TLS__KEY", "/nowhere/tls.key"),
            ],
            &[
                "tls.cert = /nowhere/tls.crt",
                "COSGATE_TLS__CERT",
                "cannot be read",
            ],
        );
        refused(
            &[
                ("TLS__SELF_SIGNED", "true"),
                ("TLS__CLIENT_CA", "/nowhere/ca.crt"),
            ],
            &["tls.client_ca = /nowhere/ca.crt", "cannot be read"],
        );
    }

    #[test]
    fn users_who_could_never_log_in_are_refused() {
        let hash = crate::config::HASH_FOR_TESTS;
        for (key, words) in [
            ("require_tls: true", "needs a certificate"),
            ("client_cert_cn: alice", "tls.client_ca"),
        ] {
            let users = format!("[{{name: a, password_hash: '{hash}', {key}}}]");
            refused(&[("USERS", &users)], &["users", words]);
        }
    }

    #[test]
    fn who_needs_no_close_notify_is_warned_of_the_risk() {
        let hash = crate::config::HASH_FOR_TESTS;
        let users = format!("[{{name: a, password_hash: '{hash}', require_close_notify: false}}]");
        for (key, value, words) in [
            (
                "TLS__REQUIRE_CLOSE_NOTIFY",
                "false",
                "tls.require_close_notify",
            ),
            (
                "USERS",
                users.as_str(),
                "require_close_notify: false of the user a",
            ),
        ] {
            let loaded = with(&[("TLS__SELF_SIGNED", "true"), (key, value)]).expect("good");
            let warned = loaded.warnings.iter();
            let warned = warned.filter(|text| text.contains(words) && text.contains("cut"));
            assert_eq!(warned.count(), 1, "{:?}", loaded.warnings);
        }
    }

    #[test]
    fn the_implicit_port_is_nobody_elses() {
        for (address, words) in [
            ("0.0.0.0:2121", "control port"),
            ("0.0.0.0:30001", "passive.ports"),
            ("127.0.0.1:8080", "admin port"),
        ] {
            let settings = [
                ("TLS__SELF_SIGNED", "true"),
                ("TLS__IMPLICIT_LISTEN", address),
            ];
            refused(&settings, &["tls.implicit_listen", words]);
        }
    }
}
