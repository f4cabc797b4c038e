//! The `storage` section, and what each kind of store needs.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use secrecy::SecretString;

use super::endpoint::Endpoint;
use super::parse::{self, Parsed};
use super::reader::Reader;
use super::{Addressing, ListVersion, Provider, Retry, StaticCredentials, Storage};
use super::{credentials as sources, keys, names};

/// True if nobody else can change what travels to the store: TLS, or the loopback. Without an endpoint it is Amazon's,
/// over HTTPS.
pub fn is_reached_in_private(endpoint: Option<&str>) -> bool {
    endpoint.is_none_or(|url| {
        Endpoint::parse(url).is_ok_and(|endpoint| {
            let is_loopback = endpoint.ip().is_some_and(|ip| ip.is_loopback());
            endpoint.is_tls || is_loopback || endpoint.host == "localhost"
        })
    })
}

/// What a store takes.
pub(super) struct Limits {
    /// The store's name in messages.
    pub store: &'static str,
    pub object_bytes: u64,
    /// `object_bytes` as the vendor writes it.
    pub object_text: &'static str,
    pub part_bytes: RangeInclusive<u64>,
    pub key_bytes: usize,
}

impl Limits {
    pub fn of(provider: Provider) -> Self {
        match provider {
            // Tencent's own 48.82 TB is 10,000 parts of 5 GB, which is true for powers of 1024
            // only; so its MB, GB and TB are MiB, GiB and TiB. [Tencent docs 436/14518, 436/7750]
            Provider::Cos => Self {
                store: "Tencent COS",
                object_bytes: TIB * 4882 / 100,
                object_text: "48.82 TiB",
                part_bytes: MIB..=5 * GIB,
                key_bytes: 850,
            },
            // Amazon's limits; the built-in store keeps them, so that trials find what breaks them.
            Provider::S3 | Provider::Embedded => Self {
                store: "S3",
                object_bytes: 5 * TIB,
                object_text: "5 TiB",
                part_bytes: 5 * MIB..=5 * GIB,
                key_bytes: 1024,
            },
        }
    }
}

/// Reads the section.
pub(super) fn resolve(read: &mut Reader) -> Storage {
    let provider = read.value("storage.provider", parse::provider);
    // What depends on the provider is not judged when the provider itself is unknown.
    let known = read.is_sound("storage.provider").then_some(provider);
    let endpoint = endpoint(read, known);
    let region = region(read, known, endpoint.as_ref());
    let addressing = addressing(read, known, endpoint.as_ref());
    let limits = Limits::of(provider);
    let url = endpoint.as_ref().map(|endpoint| endpoint.url.clone());
    let url = url.or_else(|| cos_url(read, known, &region));
    let credentials = credentials(read);
    Storage {
        provider,
        bucket: bucket(read, known),
        prefix: prefix(read, limits.key_bytes),
        addressing,
        list_version: list_version(read, known),
        checksums_when_required: checksums_when_required(provider, endpoint.as_ref()),
        credential_source: sources::resolve(read, known, credentials.is_some(), &region),
        region,
        endpoint: url,
        credentials,
        data_dir: data_dir(read, known),
        send_trace_context: read.value("storage.send_trace_context", parse::switch),
        connect_timeout: read.duration("storage.connect_timeout"),
        request_timeout: read.duration("storage.request_timeout"),
        retry: Retry {
            max_attempts: u32::try_from(read.count("storage.retry.max_attempts"))
                .unwrap_or(u32::MAX),
            max_backoff: read.duration("storage.retry.max_backoff"),
            time_limit: read.duration("storage.retry.time_limit"),
        },
        integrity: read.value("storage.integrity", parse::integrity),
        sign_payload: read.value("storage.sign_payload", parse::sign_payload),
        max_key_bytes: limits.key_bytes,
        part_bytes: limits.part_bytes,
    }
}

fn bucket(read: &mut Reader, provider: Option<Provider>) -> String {
    const KEY: &str = "storage.bucket";
    let given = read.optional(KEY, |text| names::bucket(text, provider));
    match (given, provider) {
        (Some(name), _) => name,
        (None, Some(Provider::Embedded)) if read.is_sound(KEY) => {
            read.settle(KEY, EMBEDDED_BUCKET);
            EMBEDDED_BUCKET.to_string()
        }
        (None, Some(Provider::S3)) => require(read, KEY, "the bucket's name, such as files"),
        (None, Some(Provider::Cos)) => require(
            read,
            KEY,
            "the bucket's name with the APPID, such as files-1250000000",
        ),
        (None, Some(Provider::Embedded) | None) => String::new(),
    }
}

fn prefix(read: &mut Reader, max_key_bytes: usize) -> String {
    let parsed = read.optional("storage.prefix", |text| {
        let prefix: String = parse::segments(text)?
            .iter()
            .map(|part| format!("{part}/"))
            .collect();
        if prefix.len() < max_key_bytes {
            Ok(prefix)
        } else {
            Err(format!(
                "the store takes keys of {max_key_bytes} bytes, and this leaves none \
                 for names; shorten it"
            ))
        }
    });
    if let Some(prefix) = &parsed {
        read.settle("storage.prefix", prefix);
    }
    parsed.unwrap_or_default()
}

fn region(read: &mut Reader, provider: Option<Provider>, endpoint: Option<&Endpoint>) -> String {
    const KEY: &str = "storage.region";
    if let Some(region) = read.optional(KEY, names::region) {
        return region;
    }
    if !read.is_sound(KEY) {
        return String::new();
    }
    let region = match provider {
        Some(Provider::Cos) => match endpoint {
            Some(endpoint) => cos_region(read, endpoint),
            None if read.is_sound("storage.endpoint") => {
                return require(
                    read,
                    KEY,
                    "the bucket's region, such as ap-guangzhou (or storage.endpoint)",
                );
            }
            None => return String::new(),
        },
        Some(Provider::S3 | Provider::Embedded) | None => DEFAULT_REGION.to_string(),
    };
    read.settle(KEY, &region);
    region
}

fn cos_region(read: &mut Reader, endpoint: &Endpoint) -> String {
    endpoint
        .tencent_region()
        .map(str::to_string)
        .unwrap_or_else(|| {
            read.warn(
                "storage.endpoint",
                "the region cannot be told from it; \
                 if the store answers 403 SignatureDoesNotMatch, set storage.region",
            );
            DEFAULT_REGION.to_string()
        })
}

fn endpoint(read: &mut Reader, provider: Option<Provider>) -> Option<Endpoint> {
    const KEY: &str = "storage.endpoint";
    let endpoint = read.optional(KEY, |text| {
        let endpoint = Endpoint::parse(text)?;
        match provider {
            Some(Provider::Embedded) => embedded_endpoint(endpoint),
            Some(Provider::Cos) => cos_endpoint(endpoint),
            Some(Provider::S3) | None => Ok(endpoint),
        }
    })?;
    let is_cloud = endpoint.is_tencent() || endpoint.is_amazon();
    if is_cloud && !endpoint.is_tls {
        read.warn(
            KEY,
            "with http, files travel unencrypted to the store; https:// protects them",
        );
    }
    if endpoint.is_tencent() && provider == Some(Provider::S3) {
        read.warn(
            KEY,
            "this is Tencent COS; storage.provider: cos knows its limits and peculiarities",
        );
    }
    Some(endpoint)
}

/// The built-in store has no access control worth the name: it stays on this machine.
fn embedded_endpoint(endpoint: Endpoint) -> Parsed<Endpoint> {
    let is_loopback = endpoint.ip().is_some_and(|ip| ip.is_loopback());
    if is_loopback && endpoint.port.is_some() && !endpoint.is_tls && !endpoint.has_path {
        Ok(endpoint)
    } else {
        Err(
            "the built-in store listens on this machine only; write http://127.0.0.1:PORT, \
             or set storage.provider to s3 or cos for another store"
                .into(),
        )
    }
}

pub(crate) fn cos_endpoint(endpoint: Endpoint) -> Parsed<Endpoint> {
    if let Some(host) = endpoint.without_tencent_bucket() {
        Err(format!(
            "the bucket does not belong here (see storage.bucket); write https://{host}"
        ))
    } else if endpoint.has_path {
        Err("the endpoint of COS has no path; \
             write the host alone (see storage.bucket, storage.prefix)"
            .into())
    } else {
        Ok(endpoint)
    }
}

fn cos_url(read: &mut Reader, provider: Option<Provider>, region: &str) -> Option<String> {
    // Where region or endpoint were refused, there is nothing to make a URL of.
    let is_cos =
        provider == Some(Provider::Cos) && !region.is_empty() && read.is_sound("storage.endpoint");
    is_cos.then(|| {
        let url = cos_endpoint_of(region);
        read.settle("storage.endpoint", &url);
        url
    })
}

fn addressing(
    read: &mut Reader,
    provider: Option<Provider>,
    endpoint: Option<&Endpoint>,
) -> Addressing {
    const KEY: &str = "storage.addressing";
    let chosen = read.value(KEY, |text| match text {
        "auto" => Ok(None),
        "virtual" => Ok(Some(Addressing::Virtual)),
        "path" => Ok(Some(Addressing::Path)),
        "custom" => Ok(Some(Addressing::Custom)),
        _ => Err(
            "write auto, virtual (bucket in the host name), path (bucket in the path) or custom \
             (storage.endpoint is the bucket's own domain)"
                .to_string(),
        ),
    });
    let fitting = provider.map_or(Addressing::Path, |provider| {
        fitting_addressing(provider, endpoint)
    });
    let is_tencent = endpoint.is_none_or(Endpoint::is_tencent);
    match (provider, chosen) {
        (Some(Provider::Cos), Some(Addressing::Path)) if is_tencent => {
            read.refuse(
                KEY,
                "COS answers 403 PathStyleDomainForbidden to path addressing; \
                 remove the key, or write virtual",
            );
        }
        (Some(Provider::Cos), Some(Addressing::Path)) => {
            read.warn(
                KEY,
                "COS itself refuses path addressing (403 PathStyleDomainForbidden)",
            );
        }
        (Some(Provider::Embedded), Some(Addressing::Virtual | Addressing::Custom)) => {
            read.warn(KEY, "the built-in store is always addressed by path");
            return Addressing::Path;
        }
        (Some(_), Some(Addressing::Custom))
            if endpoint.is_none_or(|it| it.is_tencent() || it.is_amazon()) =>
        {
            read.refuse(
                KEY,
                "the domain of the bucket is missing; set storage.endpoint to it, such as https://files.example.com",
            );
        }
        (Some(_), Some(Addressing::Virtual))
            if endpoint.is_some_and(|endpoint| endpoint.ip().is_some()) =>
        {
            read.refuse(
                KEY,
                "a bucket cannot be put in front of an IP address; \
                 write path, or an endpoint with a name",
            );
        }
        (_, Some(_)) => {}
        (_, None) => read.settle(KEY, &fitting.to_string()),
    }
    chosen.unwrap_or(fitting)
}

/// What `storage.addressing: auto` makes of an endpoint.
pub(super) fn fitting_addressing(provider: Provider, endpoint: Option<&Endpoint>) -> Addressing {
    let is_virtual = match provider {
        // A bucket cannot be put in front of an IP address; COS itself never has one.
        Provider::Cos => endpoint.is_none_or(|endpoint| endpoint.ip().is_none()),
        Provider::S3 => endpoint.is_none_or(Endpoint::wants_virtual_addressing),
        Provider::Embedded => false,
    };
    if is_virtual {
        Addressing::Virtual
    } else {
        Addressing::Path
    }
}

/// Whether the store at an endpoint may refuse the SDK's own checksums.
pub(super) fn checksums_when_required(provider: Provider, endpoint: Option<&Endpoint>) -> bool {
    match provider {
        Provider::Cos => true,
        Provider::S3 => endpoint.is_some_and(|endpoint| !endpoint.is_amazon()),
        Provider::Embedded => false,
    }
}

/// Where the buckets of a region of COS are.
pub(crate) fn cos_endpoint_of(region: &str) -> String {
    format!("https://cos.{region}.myqcloud.com")
}

fn list_version(read: &mut Reader, provider: Option<Provider>) -> ListVersion {
    const KEY: &str = "storage.list_version";
    let given = read.optional(KEY, |text| match text {
        "v1" => Ok(ListVersion::V1),
        "v2" => Ok(ListVersion::V2),
        _ => Err("write v1 (ListObjects) or v2 (ListObjectsV2)".to_string()),
    });
    given.unwrap_or_else(|| {
        let version = match provider {
            // Tencent documents V1 only.
            Some(Provider::Cos) => ListVersion::V1,
            Some(Provider::S3 | Provider::Embedded) | None => ListVersion::V2,
        };
        if read.is_sound(KEY) && provider.is_some() {
            read.settle(KEY, &version.to_string());
        }
        version
    })
}

fn credentials(read: &mut Reader) -> Option<StaticCredentials> {
    let access_key_id = read.optional(ID, parse::credential);
    let secret_access_key = read
        .optional(SECRET, parse::credential)
        .map(SecretString::from);
    let session_token = read
        .optional(TOKEN, parse::credential)
        .map(SecretString::from);
    let is_sound = [ID, SECRET, TOKEN].iter().all(|key| read.is_sound(key));
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
        (Some(_), None) => pair(read, SECRET, ID),
        (None, Some(_)) => pair(read, ID, SECRET),
        (None, None) if session_token.is_some() => {
            let advice =
                format!("a session token goes with {ID} and {SECRET}; set them too, or remove it");
            read.refuse(TOKEN, advice);
        }
        (None, None) => {}
    }
    None
}

fn pair(read: &mut Reader, missing: &'static str, given: &str) {
    let variable = keys::variable(missing);
    read.refuse(
        missing,
        format!(
            "{given} is set without it; set {variable} (or {variable}_FILE), or remove {given}"
        ),
    );
}

fn data_dir(read: &mut Reader, provider: Option<Provider>) -> PathBuf {
    const KEY: &str = "storage.data_dir";
    let data_dir = read.value(KEY, |text| {
        if text.contains('\0') {
            Err("a path has no NUL; remove it".to_string())
        } else {
            Ok(PathBuf::from(text))
        }
    });
    if matches!(provider, Some(Provider::S3 | Provider::Cos)) && read.is_set(KEY) {
        read.warn(
            KEY,
            "only the built-in store (storage.provider: embedded) uses it; remove it",
        );
    }
    data_dir
}

/// Reports a key that is missing, unless it is so because it was refused.
pub(super) fn require(read: &mut Reader, key: &'static str, what: &str) -> String {
    if read.is_sound(key) {
        let variable = keys::variable(key);
        read.refuse(
            key,
            format!("this is required; set it (or {variable}) to {what}"),
        );
    }
    String::new()
}

pub(super) const ID: &str = "storage.access_key_id";
pub(super) const SECRET: &str = "storage.secret_access_key";
pub(super) const TOKEN: &str = "storage.session_token";
const EMBEDDED_BUCKET: &str = "cosgate";
/// What SDKs sign for where a store has no regions.
const DEFAULT_REGION: &str = "us-east-1";
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
