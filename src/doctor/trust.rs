//! TLS as a client does it, with every fault of the certificate seen and reported, and none of them hidden by the first.
//!
//! Invariant: a handshake with a certificate that isn't trusted succeeds, so that it can be described; whoever sends a
//! password has to ask [`Seen::is_trusted`] first.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, HandshakeKind, RootCertStore,
    SignatureScheme,
};
use tokio_rustls::TlsConnector;

use super::connect::Wire;
use super::report::Verdict;
use crate::certificates::{self, ENDS_SOON, Facts};

/// Makes connections private, all in one TLS session's memory.
pub(super) struct Trust {
    connector: TlsConnector,
    name: ServerName<'static>,
    witness: Arc<Witness>,
}

/// The facts of one handshake.
pub(super) struct Handshake {
    /// Such as "TLS 1.3, TLS13_AES_256_GCM_SHA384".
    pub spoken: String,
    /// True if an earlier session was resumed.
    pub resumed: bool,
}

/// A certificate that a server showed.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    own: CertificateDer<'static>,
    /// The library's verdict; the first fault only.
    fault: Option<rustls::Error>,
}

/// Looks at certificates and lets them pass.
#[derive(Debug)]
struct Witness {
    /// None: no authority is known at all.
    verifier: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<Seen>>,
}

impl Trust {
    /// For a server that is called `host`. Trusted are the system's authorities and those in the file `more`.
    pub fn new(host: &str, more: Option<&Path>) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host} is neither a DNS name nor an address"))?;
        let mut roots = match more {
            Some(file) => certificates::client_authorities(file)
                .map_err(|error| format!("--ca {}: {error}", file.display()))?,
            None => RootCertStore::empty(),
        };
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = certificates::provider();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let witness = Arc::new(Witness {
            // without any authority the builder refuses, and nothing is trusted
            verifier: verifier.build().ok(),
            provider: Arc::clone(&provider),
            seen: Mutex::new(None),
        });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        Ok(Trust {
            connector: TlsConnector::from(Arc::new(config)),
            name,
            witness,
        })
    }

    /// The handshake, over any wire.
    pub async fn wrap(&self, wire: Wire) -> io::Result<(Wire, Handshake)> {
        let stream = self.connector.connect(self.name.clone(), wire).await?;
        let (_, session) = stream.get_ref();
        let version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS",
        };
        let suite = session.negotiated_cipher_suite();
        let suite = suite.map_or_else(String::new, |suite| format!(", {:?}", suite.suite()));
        let handshake = Handshake {
            spoken: format!("{version}{suite}"),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        };
        Ok((Box::new(stream), handshake))
    }

    /// The certificate of the last handshake that showed one; resumed sessions show none.
    pub fn seen(&self) -> Option<Seen> {
        self.witness.seen.lock().clone()
    }
}

impl Seen {
    /// True if a careful client goes on.
    pub fn is_trusted(&self) -> bool {
        self.fault.is_none()
    }

    /// True if both are one certificate, whatever was found of it.
    pub fn is_same(&self, other: &Seen) -> bool {
        self.own == other.own
    }

    /// Everything that is to be said of it to somebody who connects to `host`. With `insecure` faults are warnings.
    pub fn verdict(&self, host: &str, insecure: bool) -> Verdict {
        let Some(facts) = certificates::facts(&self.own) else {
            return Verdict::failed("the certificate cannot be read", RENEW);
        };
        let covers = certificates::covers(&self.own, host);
        let mut verdict = judge(&facts, covers, self.fault.as_ref(), host, SystemTime::now());
        if insecure && verdict.outcome == super::Outcome::Failed {
            verdict.outcome = super::Outcome::Warning;
        }
        verdict
    }
}

/// The verdict on a certificate.
fn judge(
    facts: &Facts,
    covers: bool,
    fault: Option<&rustls::Error>,
    host: &str,
    now: SystemTime,
) -> Verdict {
    let names = match facts.names.as_slice() {
        [] => "no name".to_owned(),
        few if few.len() <= 4 => few.join(", "),
        [first, ..] => format!("{first} and {} more", facts.names.len() - 1),
    };
    let until = humantime::format_rfc3339_seconds(facts.until);
    let about = format!(
        "for {names}, issued by {}, valid until {until}",
        facts.issuer
    );
    let mut faults = Vec::new();
    let mut fixes = Vec::new();
    let is_current = facts.from <= now && now <= facts.until;
    if facts.until < now {
        faults.push("it has expired".to_owned());
        fixes.push(RENEW.to_owned());
    } else if facts.from > now {
        faults.push("it is not valid yet".to_owned());
        fixes.push("check the clocks of both sides".to_owned());
    }
    if !covers {
        faults.push(format!("it is not made out to {host}"));
        fixes.push(format!(
            "let clients connect to a name in the certificate, or get one for {host}"
        ));
    }
    match fault {
        // told above already, unless it is another certificate's
        Some(rustls::Error::InvalidCertificate(error)) if is_of_time(error) && !is_current => {}
        Some(rustls::Error::InvalidCertificate(error)) if is_of_time(error) => {
            faults.push("a certificate of its chain has expired or is not valid yet".to_owned());
            fixes.push(
                "put the authority's current intermediate certificates into tls.cert, and check the clocks of both sides"
                    .to_owned(),
            );
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) if !covers => {}
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            faults.push("no authority that is trusted here vouches for it".to_owned());
            fixes.push(
                "if its authority is your own, name it with --ca FILE and give it to your clients; if not, \
                 see that tls.cert holds the intermediate certificates, too"
                    .to_owned(),
            );
        }
        Some(other) => {
            faults.push(other.to_string());
            fixes.push(RENEW.to_owned());
        }
        None => {}
    }
    let left = facts.until.duration_since(now).unwrap_or_default();
    if !faults.is_empty() {
        let finding = format!("{}: {about}", faults.join(", and "));
        Verdict::failed(finding, fixes.join("; "))
    } else if left < ENDS_SOON {
        let days = left.as_secs() / 86_400;
        Verdict::warning(format!("{days} days are left: {about}"), RENEW)
    } else {
        Verdict::ok(about)
    }
}

fn is_of_time(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fault = match &self.verifier {
            Some(verifier) => verifier
                .verify_server_cert(own, others, name, ocsp, now)
                .err(),
            None => Some(CertificateError::UnknownIssuer.into()),
        };
        let seen = Seen {
            own: own.clone().into_owned(),
            fault,
        };
        *self.seen.lock() = Some(seen);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

pub(super) const RENEW: &str =
    "renew the certificate; the gateway takes changed files over by itself (reload.interval)";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::Outcome;

    const DAY: Duration = Duration::from_secs(86_400);

    fn judged(days_left: u32, covers: bool, fault: Option<CertificateError>) -> Verdict {
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let facts = Facts {
            names: vec!["ftp.example.com".to_owned()],
            issuer: "CN=R3".to_owned(),
            from: now - 10 * DAY,
            until: now - 5 * DAY + days_left * DAY,
        };
        let fault = fault.map(rustls::Error::from);
        judge(&facts, covers, fault.as_ref(), "ftp.example.org", now)
    }

    #[test]
    fn all_faults_of_a_certificate_are_reported_at_once() {
        assert_eq!(judged(95, true, None).outcome, Outcome::Ok);
        let soon = judged(12, true, None);
        assert_eq!(soon.outcome, Outcome::Warning);
        assert!(soon.finding.starts_with("7 days are left"), "{soon:?}");
        let bad = judged(1, false, Some(CertificateError::UnknownIssuer));
        assert_eq!(bad.outcome, Outcome::Failed);
        for words in ["expired", "not made out to ftp.example.org", "no authority"] {
            assert!(bad.finding.contains(words), "{bad:?}");
        }
        let bad = judged(95, true, Some(CertificateError::Revoked));
        assert_eq!(bad.outcome, Outcome::Failed);
    }

    #[test]
    fn what_is_not_trusted_is_never_fine() {
        for fault in [
            CertificateError::Expired,
            CertificateError::NotValidYet,
            CertificateError::NotValidForName,
        ] {
            let bad = judged(95, true, Some(fault.clone()));
            assert_eq!(bad.outcome, Outcome::Failed, "{fault:?}");
        }
        // its own is good, an intermediate one isn't
        for covers in [true, false] {
            let bad = judged(95, covers, Some(CertificateError::Expired));
            assert!(bad.finding.contains("of its chain has expired"), "{bad:?}");
        }
        let own = judged(1, true, Some(CertificateError::Expired));
        assert!(!own.finding.contains("chain"), "{own:?}");
    }
}
