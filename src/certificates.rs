//! Certificates: read from PEM files and checked before anything uses them.
//!
//! Invariant: a [`Pair`] is whole. Its key fits its certificate, and the certificate was valid when it was read; so a
//! reload that finds half a pair, or the old key beside the new certificate, is an error and never a broken listener.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate, X509Version};

use crate::reload;

/// A certificate chain, its key, and when it is valid.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The chain and the key that fits it.
    pub certified: Arc<CertifiedKey>,
    /// `notBefore` and `notAfter` of the server's own certificate.
    pub validity: Validity,
}

/// A certificate with less time left is warned of, by doctor and on the status page; the chart's alert says the same.
/// Authorities renew a month before the end; whoever is later than this has forgotten.
pub const ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub from: SystemTime,
    /// Until then.
    pub until: SystemTime,
}

impl Validity {
    /// The time that is left at `now`.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.until.duration_since(now).unwrap_or_default()
    }

    /// Why it is not valid at `now`, if it isn't.
    pub fn fault(&self, now: SystemTime) -> Option<String> {
        let at = humantime::format_rfc3339_seconds;
        if now > self.until {
            let until = at(self.until);
            Some(format!("the certificate has expired ({until}); renew it"))
        } else if now < self.from {
            let from = at(self.from);
            Some(format!(
                "the certificate is valid from {from} on; check the clock, or take another one"
            ))
        } else {
            None
        }
    }
}

/// Which of the files is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The certificate chain.
    Certificate,
    /// The private key.
    Key,
    /// The authorities of client certificates.
    ClientAuthorities,
}

/// A file can't be used; the text says why and how to fix it, and never shows what is in a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{advice}")]
pub struct CertificateError {
    /// The file at fault.
    pub part: Part,
    /// The fault, and its remedy.
    pub advice: String,
}

impl CertificateError {
    fn new(part: Part, advice: impl Into<String>) -> Self {
        CertificateError {
            part,
            advice: advice.into(),
        }
    }
}

impl Pair {
    /// Reads a chain and a key from files.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let chain = contents(Part::Certificate, certificate)?;
        Pair::from_pem(&chain, &contents(Part::Key, key)?)
    }

    /// A chain and a key, both PEM, held one against the other.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = certificates(Part::Certificate, chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            CertificateError::new(
                Part::Key,
                "there is no private key in the file; write one in PEM form (PKCS#8, PKCS#1 or SEC1) without a passphrase",
            )
        })?;
        Pair::new(chain, key)
    }

    /// A chain, the server's own certificate first, and its key.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        let own = chain
            .first()
            .ok_or_else(|| CertificateError::new(Part::Certificate, NO_CERTIFICATE))?;
        let validity = validity(own)?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CertificateError::new(
                Part::Key,
                "the key is not that of the first certificate in tls.cert; take both from the same pair, \
                 the server's own certificate before those of its authorities",
            ),
            rustls::Error::InvalidCertificate(reason) => CertificateError::new(
                Part::Certificate,
                format!("the first certificate can't be used ({reason}); have another one issued"),
            ),
            error => CertificateError::new(
                Part::Key,
                format!("the key can't be used ({error}); take an RSA (2048 bits or more), ECDSA or Ed25519 key"),
            ),
        })?;
        Ok(Pair {
            certified: Arc::new(certified),
            validity,
        })
    }

    /// A new pair that no authority vouches for, valid for [`SELF_SIGNED_FOR`] for these names and addresses.
    pub fn self_signed(names: Vec<String>) -> Result<Self, CertificateError> {
        let failed = |error: rcgen::Error| {
            CertificateError::new(
                Part::Certificate,
                format!("no certificate could be made: {error}"),
            )
        };
        let mut parameters = rcgen::CertificateParams::new(names).map_err(failed)?;
        let now = SystemTime::now();
        parameters.not_before = (now - CLOCK_LAG).into();
        parameters.not_after = (now + SELF_SIGNED_FOR).into();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, "cosgate self-signed");
        let key = rcgen::KeyPair::generate().map_err(failed)?;
        let certificate = parameters.self_signed(&key).map_err(failed)?;
        Pair::new(vec![certificate.der().clone()], key.into())
    }
}

/// The authorities whose client certificates are taken.
pub fn client_authorities(file: &Path) -> Result<RootCertStore, CertificateError> {
    authorities_from_pem(&contents(Part::ClientAuthorities, file)?)
}

/// The same from the contents of the file.
pub fn authorities_from_pem(pem: &[u8]) -> Result<RootCertStore, CertificateError> {
    const PART: Part = Part::ClientAuthorities;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(PART, pem)? {
        roots.add(certificate).map_err(|error| {
            CertificateError::new(
                PART,
                format!("a certificate in the file can't be used: {error}"),
            )
        })?;
    }
    Ok(roots)
}

/// The common name of a certificate's subject, as users are matched against it; none if it has none.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// The facts of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The DNS names and addresses that it is made out to.
    pub names: Vec<String>,
    /// Its issuer.
    pub issuer: String,
    /// `notBefore`
    pub from: SystemTime,
    /// `notAfter`
    pub until: SystemTime,
}

/// The facts of a certificate; none if it can't be read.
pub fn facts(certificate: &CertificateDer<'_>) -> Option<Facts> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    let names = alternatives
        .iter()
        .flat_map(|found| &found.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|ip| IpAddr::from(ip).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|ip| IpAddr::from(ip).to_string()),
        },
        _ => None,
    });
    let validity = parsed.validity();
    Some(Facts {
        names: names.collect(),
        issuer: parsed.issuer().to_string(),
        from: system_time(validity.not_before),
        until: system_time(validity.not_after),
    })
}

/// True if clients that connect to `host`, a name or an address, find it in the certificate.
pub fn covers(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let (Ok(parsed), Ok(name)) = (
        ParsedCertificate::try_from(certificate),
        ServerName::try_from(host),
    ) else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}

/// The one implementation of cryptography in this program.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// When the certificate is valid, which is now.
fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, CertificateError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| {
        CertificateError::new(
            Part::Certificate,
            format!("the first certificate cannot be read: {error}"),
        )
    })?;
    if parsed.version() != X509Version::V3 {
        return Err(CertificateError::new(
            Part::Certificate,
            "the first certificate is of X.509 version 1, which has no subjectAltName and which clients refuse; make one of \
             version 3 (openssl req -x509 -addext subjectAltName=DNS:NAME, or openssl x509 -req with -extfile)",
        ));
    }
    let stamps = parsed.validity();
    let validity = Validity {
        from: system_time(stamps.not_before),
        until: system_time(stamps.not_after),
    };
    match validity.fault(SystemTime::now()) {
        Some(advice) => Err(CertificateError::new(Part::Certificate, advice)),
        None => Ok(validity),
    }
}

fn system_time(stamp: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(stamp.timestamp()).unwrap_or(0))
}

fn certificates(part: Part, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(CertificateError::new(part, NO_CERTIFICATE)),
        Err(error) => Err(CertificateError::new(
            part,
            format!("this is no PEM file: {error}"),
        )),
    }
}

/// The bytes of a file.
pub fn contents(part: Part, file: &Path) -> Result<Vec<u8>, CertificateError> {
    reload::read_bounded(file).map_err(|reason| {
        let advice = format!("the file {reason}; check the path, the mount and its rights");
        CertificateError::new(part, advice)
    })
}

const NO_CERTIFICATE: &str = "there is no certificate in the file; write the server's own certificate and those of its authorities in PEM form";

/// Clocks of cameras and scanners are often a little behind.
const CLOCK_LAG: Duration = Duration::from_secs(24 * 3600);

/// For trials only; each start makes a new one.
pub const SELF_SIGNED_FOR: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Files {
        _directory: tempfile::TempDir,
        certificate: PathBuf,
        key: PathBuf,
    }

    /// A pair as files, valid from `from` to `until`, in days from now.
    fn files(from: i64, until: i64) -> Files {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut parameters =
            rcgen::CertificateParams::new(vec!["ftp.example.com".to_owned()]).expect("a name");
        let now = time::OffsetDateTime::now_utc();
        parameters.not_before = now + time::Duration::days(from);
        parameters.not_after = now + time::Duration::days(until);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("signs");
        let files = Files {
            certificate: directory.path().join("tls.crt"),
            key: directory.path().join("tls.key"),
            _directory: directory,
        };
        std::fs::write(&files.certificate, certificate.pem()).expect("writes");
        std::fs::write(&files.key, key.serialize_pem()).expect("writes");
        files
    }

    fn refused(certificate: &Path, key: &Path, part: Part, advice: &str) {
        let error = Pair::read(certificate, key).expect_err(advice);
        assert_eq!(error.part, part, "{error}");
        assert!(error.advice.contains(advice), "{error}");
        assert!(!error.advice.contains("PRIVATE"), "{error}");
    }

    #[test]
    fn a_sound_pair_is_read_with_its_expiry() {
        let files = files(-1, 30);
        let pair = Pair::read(&files.certificate, &files.key).expect("a pair");
        let left = pair
            .validity
            .until
            .duration_since(SystemTime::now())
            .expect("in the future");
        assert!(left > Duration::from_secs(29 * 86_400));
    }

    #[test]
    fn each_fault_names_the_file_and_the_remedy() {
        let (good, other) = (files(-1, 30), files(-1, 30));
        refused(&good.certificate, &other.key, Part::Key, "same pair");
        refused(&good.key, &good.key, Part::Certificate, "no certificate");
        refused(
            &good.certificate,
            &good.certificate,
            Part::Key,
            "no private key",
        );
        let missing = good.key.with_extension("missing");
        refused(&good.certificate, &missing, Part::Key, "cannot be read");
        let expired = files(-30, -1);
        refused(
            &expired.certificate,
            &expired.key,
            Part::Certificate,
            "expired",
        );
        let early = files(1, 30);
        refused(
            &early.certificate,
            &early.key,
            Part::Certificate,
            "valid from",
        );
        std::fs::write(&good.key, b"rubbish").expect("writes");
        refused(&good.certificate, &good.key, Part::Key, "no private key");
    }

    #[test]
    fn a_certificate_of_version_1_is_not_blamed_on_the_key() {
        // openssl x509 -req -signkey KEY makes one when it is given no extensions
        let old = "-----BEGIN CERTIFICATE-----\n\
             MIIBFzCBvwIUW2n7LruvVpIyxGPKUiww2XHpdDswCgYIKoZIzj0EAwIwDjEMMAoG\n\
             A1UEAwwDb2xkMCAXDTI2MTEyODA0MzcxOVoYDzIxMjYxMTA0MDQzNzE5WjAOMQww\n\
             CgYDVQQDDANvbGQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQXT8hrzktrra0X\n\
             7TTJi8KpT3pg6e/597w5oeqa+V+uP2Ek8Pbixfa+yxy4kgNdlQyiiJYatvzZM0do\n\
             7DcfxFVfMAoGCCqGSM49BAMCA0cAMEQCIDCNRVPGEGr1WqA2XpB8628cKdwdw/7k\n\
             GuIbG/Q6GJUjAiAKoqqjeie0DLfwnpSAyEJhCg3eP3+jdlzox+yt3lfOdQ==\n\
             -----END CERTIFICATE-----\n";
        let good = files(-1, 30);
        std::fs::write(&good.certificate, old).expect("writes");
        refused(&good.certificate, &good.key, Part::Certificate, "version 1");
    }

    #[test]
    fn a_self_signed_pair_is_a_sound_one() {
        let pair = Pair::self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
            .expect("a pair");
        let name = common_name(&pair.certified.cert[0]);
        assert_eq!(name.as_deref(), Some("cosgate self-signed"));
        let own = &pair.certified.cert[0];
        let facts = facts(own).expect("it is read");
        assert_eq!(facts.names, ["localhost", "127.0.0.1"]);
        assert_eq!(facts.issuer, "CN=cosgate self-signed");
        assert_eq!(facts.until, pair.validity.until);
        assert!(covers(own, "localhost") && covers(own, "127.0.0.1"));
        assert!(!covers(own, "127.0.0.2") && !covers(own, "ftp.example.com"));
    }
}
