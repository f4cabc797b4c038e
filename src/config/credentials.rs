//! Which of the sources of credentials serves the store.
//!
//! Nothing is probed here: what `auto` means follows from what is set, so that a start never waits for a metadata service
//! that isn't there, and two starts of one configuration never differ.

use std::path::PathBuf;

use super::endpoint::Endpoint;
use super::parse::Parsed;
use super::reader::Reader;
use super::storage::{ID, SECRET, TOKEN, require};
use super::{CredentialSource, CvmRole, Provider, TkeIdentity};

/// Reads `storage.credentials` and what belongs to it; `has_keys` tells that a key pair is set.
pub(super) fn resolve(
    read: &mut Reader,
    provider: Option<Provider>,
    has_keys: bool,
    region: &str,
) -> CredentialSource {
    let wanted = read.value(SOURCE, wanted);
    let cvm = CvmRole {
        name: read.optional(CVM_ROLE, role),
        metadata_endpoint: url(read, METADATA_ENDPOINT, METADATA_URL, false),
    };
    let sts_endpoint = url(read, STS_ENDPOINT, STS_URL, true);
    if provider == Some(Provider::Embedded) && !matches!(wanted, Wanted::Auto | Wanted::Static) {
        read.warn(
            SOURCE,
            "the built-in store makes its own keys; remove this, or set storage.provider",
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
        .all(|key| read.is_sound(key));
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
    if wanted == Wanted::Auto && read.is_sound(SOURCE) && provider.is_some() {
        read.settle(SOURCE, &source.to_string());
    }
    unused(read, &source);
    source
}

/// Values of `storage.credentials`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Auto,
    Static,
    Aws,
    Tke,
    Cvm,
}

fn wanted(text: &str) -> Parsed<Wanted> {
    match text {
        "auto" => Ok(Wanted::Auto),
        "static" => Ok(Wanted::Static),
        "aws" => Ok(Wanted::Aws),
        "tke" => Ok(Wanted::Tke),
        "cvm" => Ok(Wanted::Cvm),
        _ => Err(
            "write auto, static (keys that are set), aws (AWS's chain), \
                  tke (Tencent's pod identity) or cvm (the role of a CVM)"
                .into(),
        ),
    }
}

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
    read.surrounding(TKE_ROLE_ARN).is_some() && read.surrounding(TKE_TOKEN_FILE).is_some()
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
        require(read, ID, &id);
    } else {
        require(read, ID, id);
    }
    require(read, SECRET, secret);
}

/// The pod's identity; none after it was reported as missing.
fn tke(read: &mut Reader, region: &str, sts_endpoint: String) -> Option<TkeIdentity> {
    let missing: Vec<&str> = [TKE_PROVIDER_ID, TKE_ROLE_ARN, TKE_TOKEN_FILE]
        .into_iter()
        .filter(|name| read.surrounding(name).is_none())
        .collect();
    if !missing.is_empty() && read.is_sound(SOURCE) {
        let advice = format!(
            "{} not set: TKE puts that into pods whose service account has a CAM role \
             (annotation tke.cloud.tencent.com/role-arn); see \"Credentials\" in the guide",
            missing.join(", ") + if missing.len() == 1 { " is" } else { " are" }
        );
        read.refuse(SOURCE, advice);
    }
    Some(TkeIdentity {
        region: read
            .surrounding(TKE_REGION)
            .unwrap_or_else(|| region.to_owned()),
        provider_id: read.surrounding(TKE_PROVIDER_ID)?,
        role_arn: read.surrounding(TKE_ROLE_ARN)?,
        token_file: PathBuf::from(read.surrounding(TKE_TOKEN_FILE)?),
        session_name: session_name(read.surrounding("HOSTNAME").as_deref()),
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

/// Whether CAM would take `text` as the name of a role; it goes into a URL.
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
