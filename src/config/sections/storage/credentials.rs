//! Keys for the store, and which of the sources of credentials serves it.
//!
//! Nothing is probed here: what `auto` means follows from what is set, so that a start never waits for a metadata service
//! that isn't there, and two starts of one configuration never differ.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use strum::{Display, EnumString, VariantNames};

use super::provider::Provider;
use crate::config::endpoint::Endpoint;
use crate::config::keys::{self, row::*};
use crate::config::parse::{self, Parsed};
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("storage.credentials", Choice(Wanted::VARIANTS), Is("auto"),
        "Where the keys come from: set below (`static`), AWS's chain of environment, profile, web identity, container and instance role (`aws`), Tencent's pod identity (`tke`) or instance role (`cvm`); `auto` takes keys that are set, else with `cos` a pod identity or `storage.cvm_role`, with `s3` AWS's chain."),
    key("storage.access_key_id", Secret, Unset,
        "Access key (Tencent: SecretId)."),
    key("storage.secret_access_key", Secret, Unset,
        "Secret key (Tencent: SecretKey); goes with `storage.access_key_id`."),
    key("storage.session_token", Secret, Unset,
        "Session token of temporary credentials, which are not renewed."),
    key("storage.cvm_role", Text, Derived("asked of the metadata service"),
        "The CAM role that is bound to this CVM (`cvm`)."),
    key("storage.sts_endpoint", Text, Derived("`https://sts.tencentcloudapi.com`"),
        "URL of Tencent's security token service (`tke`), for private clouds; plain http on loopback only."),
    key("storage.metadata_endpoint", Text, Derived("`http://metadata.tencentyun.com`"),
        "URL of the CVM's metadata service (`cvm`)."),
];

/// A fixed key pair.
#[derive(Clone)]
pub struct StaticCredentials {
    /// Tencent calls it SecretId.
    pub access_key_id: String,
    /// Tencent calls it SecretKey.
    pub secret_access_key: SecretString,
    /// Comes with temporary credentials only.
    pub session_token: Option<SecretString>,
}

impl StaticCredentials {
    /// True if both are the same keys.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        fn token(keys: &StaticCredentials) -> Option<&str> {
            let token = keys.session_token.as_ref();
            token.map(|token| token.expose_secret())
        }
        self.access_key_id == other.access_key_id
            && self.secret_access_key.expose_secret() == other.secret_access_key.expose_secret()
            && token(self) == token(other)
    }
}

impl fmt::Debug for StaticCredentials {
    // The key id authenticates nobody by itself, but it names an account: it stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticCredentials").finish_non_exhaustive()
    }
}

/// The source of credentials for the store.
#[derive(Debug, Clone, PartialEq, Eq, Display)]
#[strum(serialize_all = "snake_case")]
pub enum CredentialSource {
    /// Nobody: they are set, or the embedded store makes its own.
    Static,
    /// AWS's chain: environment, profile, web identity, container, instance role.
    Aws,
    /// Tencent's security token service, for the identity of this pod.
    Tke(TkeIdentity),
    /// The metadata service of this CVM, for the role that is bound to it.
    Cvm(CvmRole),
}

/// The identity that TKE put into this pod's environment, and where it is exchanged for credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TkeIdentity {
    /// Region that the token service is asked for.
    pub region: String,
    /// The cluster's OIDC provider in CAM.
    pub provider_id: String,
    /// The role to assume.
    pub role_arn: String,
    /// File with the pod's token; replaced by the kubelet before the token expires.
    pub token_file: PathBuf,
    /// The way the session is named in CAM's audit log; 2 to 128 bytes of `[A-Za-z0-9_=,.@-]`.
    pub session_name: String,
    /// URL of the token service, without a slash at the end; https, or loopback.
    pub sts_endpoint: String,
}

/// The role of this CVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CvmRole {
    /// The role's name; none: the metadata service knows it.
    pub name: Option<String>,
    /// URL of the metadata service, without a slash at the end.
    pub metadata_endpoint: String,
}

/// Reads the key pair; none: none is set.
pub(super) fn pair(read: &mut Reader) -> Option<StaticCredentials> {
    let access_key_id = read.optional(ID, parse::credential);
    let secret_access_key = read
        .optional(SECRET, parse::credential)
        .map(SecretString::from);
    let session_token = read
        .optional(TOKEN, parse::credential)
        .map(SecretString::from);
    let is_sound = [ID, SECRET, TOKEN].iter().all(|key| read.is_valid(key));
    match (access_key_id, secret_access_key) {
        (Some(access_key_id), Some(secret_access_key)) => {
            return Some(StaticCredentials {
                access_key_id,
                secret_access_key,
                session_token,
            });
        }
        // One of them may be absent only because it was refused.
        _ if !is_sound => {}
        (Some(_), None) => missing_half(read, SECRET, ID),
        (None, Some(_)) => missing_half(read, ID, SECRET),
        (None, None) if session_token.is_some() => {
            let advice =
                format!("a session token goes with {ID} and {SECRET}; set them too, or remove it");
            read.refuse(TOKEN, advice);
        }
        (None, None) => {}
    }
    None
}

fn missing_half(read: &mut Reader, missing: &'static str, given: &str) {
    let variable = keys::variable(missing);
    read.refuse(
        missing,
        format!(
            "{given} is set without it; set {variable} (or {variable}_FILE), or remove {given}"
        ),
    );
}

/// Reads `storage.credentials` and what belongs to it; `has_keys`: a key pair is set.
pub(super) fn source(
    read: &mut Reader,
    provider: Option<Provider>,
    has_keys: bool,
    region: &str,
) -> CredentialSource {
    let wanted = read.value(SOURCE, |text| parse::choice_or(text, WANTED));
    let cvm = CvmRole {
        name: read.optional(CVM_ROLE, role),
        metadata_endpoint: url(read, METADATA_ENDPOINT, METADATA_URL, false),
    };
    let sts_endpoint = url(read, STS_ENDPOINT, STS_URL, true);
    if provider == Some(Provider::Embedded) && !matches!(wanted, Wanted::Auto | Wanted::Static) {
        read.warn(
            SOURCE,
            "the embedded store makes its own keys; remove this, or set storage.provider",
        );
    }
    let source = match wanted {
        _ if provider == Some(Provider::Embedded) => Wanted::Static,
        Wanted::Auto => auto(read, provider, has_keys),
        other => other,
    };
    // A key that was refused is not one that is missing.
    let are_sound = [SOURCE, ID, SECRET, TOKEN]
        .iter()
        .all(|key| read.is_valid(key));
    if has_keys && source != Wanted::Static && are_sound {
        let advice = format!("{ID} and {SECRET} are set too; remove them, or write static");
        read.refuse(SOURCE, advice);
    }
    let source = match source {
        Wanted::Aws => CredentialSource::Aws,
        Wanted::Cvm => CredentialSource::Cvm(cvm),
        Wanted::Tke => {
            tke(read, region, sts_endpoint).map_or(CredentialSource::Static, CredentialSource::Tke)
        }
        Wanted::Auto | Wanted::Static => {
            if !has_keys && are_sound && provider.is_some_and(|it| it != Provider::Embedded) {
                missing_keys(read, provider, wanted);
            }
            CredentialSource::Static
        }
    };
    if wanted == Wanted::Auto && read.is_valid(SOURCE) && provider.is_some() {
        read.record_effective(SOURCE, &source.to_string());
    }
    unused(read, &source);
    source
}

/// Values of `storage.credentials`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
enum Wanted {
    Auto,
    Static,
    Aws,
    Tke,
    Cvm,
}

const ID: &str = "storage.access_key_id";

const SECRET: &str = "storage.secret_access_key";

const TOKEN: &str = "storage.session_token";
fn auto(read: &Reader, provider: Option<Provider>, has_keys: bool) -> Wanted {
    match provider {
        _ if has_keys => Wanted::Static,
        Some(Provider::S3) => Wanted::Aws,
        Some(Provider::Cos) if has_tke(read) => Wanted::Tke,
        Some(Provider::Cos) if read.is_set(CVM_ROLE) => Wanted::Cvm,
        Some(Provider::Cos | Provider::Embedded) | None => Wanted::Static,
    }
}

fn has_tke(read: &Reader) -> bool {
    read.platform_env(TKE_ROLE_ARN).is_some() && read.platform_env(TKE_TOKEN_FILE).is_some()
}

fn missing_keys(read: &mut Reader, provider: Option<Provider>, wanted: Wanted) {
    let (id, secret) = match provider {
        Some(Provider::Cos) => (
            "the SecretId of Tencent Cloud",
            "the SecretKey that goes with it",
        ),
        _ => ("the access key", "the secret key that goes with it"),
    };
    if wanted == Wanted::Auto {
        let id =
            format!("{id}; without keys set {SOURCE} to tke (pod identity) or cvm (role of a CVM)");
        read.require(ID, &id);
    } else {
        read.require(ID, id);
    }
    read.require(SECRET, secret);
}

/// The pod's identity; none after it was reported as missing.
fn tke(read: &mut Reader, region: &str, sts_endpoint: String) -> Option<TkeIdentity> {
    let missing: Vec<&str> = [TKE_PROVIDER_ID, TKE_ROLE_ARN, TKE_TOKEN_FILE]
        .into_iter()
        .filter(|name| read.platform_env(name).is_none())
        .collect();
    if !missing.is_empty() && read.is_valid(SOURCE) {
        let advice = format!(
            "{} not set: TKE puts that into pods whose service account has a CAM role \
             (annotation tke.cloud.tencent.com/role-arn); see \"Credentials\" in the guide",
            missing.join(", ") + if missing.len() == 1 { " is" } else { " are" }
        );
        read.refuse(SOURCE, advice);
    }
    Some(TkeIdentity {
        region: read
            .platform_env(TKE_REGION)
            .unwrap_or_else(|| region.to_owned()),
        provider_id: read.platform_env(TKE_PROVIDER_ID)?,
        role_arn: read.platform_env(TKE_ROLE_ARN)?,
        token_file: PathBuf::from(read.platform_env(TKE_TOKEN_FILE)?),
        session_name: session_name(read.platform_env("HOSTNAME").as_deref()),
        sts_endpoint,
    })
}

/// `cosgate-<pod>`, in the letters that CAM takes.
fn session_name(pod: Option<&str>) -> String {
    let sound = |c: &char| c.is_ascii_alphanumeric() || "_=,.@-".contains(*c);
    let pod: String = pod.unwrap_or_default().chars().filter(sound).collect();
    let name = format!("cosgate-{pod}");
    name.trim_end_matches('-')
        .chars()
        .take(MAX_SESSION_NAME)
        .collect()
}

/// A service's URL; `is_secret` if what is sent and answered must not be seen on the way.
fn url(read: &mut Reader, key: &'static str, usual: &str, is_secret: bool) -> String {
    let given = read.optional(key, |text| {
        let endpoint = Endpoint::parse(text)?;
        let is_loopback =
            endpoint.host == "localhost" || endpoint.ip().is_some_and(|ip| ip.is_loopback());
        if endpoint.has_path {
            Err(format!(
                "this has a path; write the host alone, as in {usual}"
            ))
        } else if is_secret && !endpoint.is_tls && !is_loopback {
            Err("tokens and keys would travel unencrypted; write https://".to_string())
        } else {
            Ok(endpoint.url)
        }
    });
    given.unwrap_or_else(|| usual.to_owned())
}

fn role(text: &str) -> Parsed<String> {
    if is_role_name(text) {
        Ok(text.to_owned())
    } else {
        Err(
            "this is no name of a CAM role; write the name alone, not its ARN, such as cosgate-cos"
                .into(),
        )
    }
}

/// True if CAM would take `text` as the name of a role; it goes into a URL.
pub(crate) fn is_role_name(text: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    (1..=128).contains(&text.len()) && text.chars().all(sound) && !text.starts_with('.')
}

fn unused(read: &mut Reader, source: &CredentialSource) {
    let (is_tke, is_cvm) = match source {
        CredentialSource::Tke(_) => (true, false),
        CredentialSource::Cvm(_) => (false, true),
        CredentialSource::Static | CredentialSource::Aws => (false, false),
    };
    for (key, used, user) in [
        (STS_ENDPOINT, is_tke, "tke"),
        (CVM_ROLE, is_cvm, "cvm"),
        (METADATA_ENDPOINT, is_cvm, "cvm"),
    ] {
        if !used && read.is_set(key) {
            read.warn(
                key,
                &format!("only storage.credentials: {user} uses it; remove it"),
            );
        }
    }
}

const WANTED: &str = "write auto, static (keys that are set), aws (AWS's chain), tke (Tencent's pod identity) or cvm (the \
    role of a CVM)";
const SOURCE: &str = "storage.credentials";

const CVM_ROLE: &str = "storage.cvm_role";

const STS_ENDPOINT: &str = "storage.sts_endpoint";

const METADATA_ENDPOINT: &str = "storage.metadata_endpoint";

const STS_URL: &str = "https://sts.tencentcloudapi.com";

const METADATA_URL: &str = "http://metadata.tencentyun.com";

const TKE_PROVIDER_ID: &str = "TKE_PROVIDER_ID";

const TKE_REGION: &str = "TKE_REGION";

const TKE_ROLE_ARN: &str = "TKE_ROLE_ARN";

const TKE_TOKEN_FILE: &str = "TKE_WEB_IDENTITY_TOKEN_FILE";

/// CAM takes 2 to 128 letters.
const MAX_SESSION_NAME: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_after_the_pod_in_letters_that_cam_takes() {
        assert_eq!(session_name(Some("gw-7d9f-x2")), "cosgate-gw-7d9f-x2");
        assert_eq!(session_name(None), "cosgate");
        assert_eq!(session_name(Some("a b/ü")), "cosgate-ab");
        assert_eq!(session_name(Some(&"x".repeat(300))).len(), 128);
    }

    #[test]
    fn a_role_name_cannot_leave_its_place_in_the_url() {
        assert!(is_role_name("cosgate-cos"));
        for bad in ["", "a/b", "..", "a?b", "a b", "qcs::cam::uin/1:roleName/x"] {
            assert!(!is_role_name(bad), "{bad}");
        }
    }
}
