//! Where the store is, and how requests name the bucket.

use strum::{Display, EnumString, VariantNames};

use super::provider::Provider;
use crate::config::endpoint::Endpoint;
use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed};
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("storage.region", Text, Derived("`us-east-1`; cos: required unless it is in the endpoint"),
        "The bucket's region, such as `ap-guangzhou`."),
    key("storage.endpoint", Text, Derived("cos: `https://cos.<region>.myqcloud.com`; s3: Amazon's; embedded: a free loopback port"),
        "URL of the store without the bucket; with `embedded` a loopback URL such as `http://127.0.0.1:9000`, so that other S3 tools can look in."),
    key("storage.addressing", Choice(&["auto", "virtual", "path", "custom"]), Is("auto"),
        "How requests name the bucket: in the host name, in the path, or not at all where `storage.endpoint` is the bucket's own domain (`custom`); `auto` knows COS and Amazon (virtual) and takes path for other endpoints."),
    key("storage.list_version", Choice(ListVersion::VARIANTS), Derived("`v2`; cos: `v1`"),
        "The S3 operation that lists keys: ListObjects (`v1`, the one that Tencent documents) or ListObjectsV2."),
];

/// The place of the bucket's name in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, Display)]
#[strum(serialize_all = "snake_case")]
pub enum Addressing {
    /// `https://bucket.host/key`
    Virtual,
    /// `https://host/bucket/key`
    Path,
    /// `https://host/key`: the host is the bucket's own domain.
    Custom,
}

/// Which of the two S3 operations lists keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "snake_case")]
pub enum ListVersion {
    /// ListObjects, with a marker.
    V1,
    /// ListObjectsV2, with a continuation token.
    V2,
}

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

pub(super) fn region(
    read: &mut Reader,
    provider: Option<Provider>,
    endpoint: Option<&Endpoint>,
) -> String {
    const KEY: &str = "storage.region";
    if let Some(region) = read.optional(KEY, region_name) {
        return region;
    }
    if !read.is_valid(KEY) {
        return String::new();
    }
    let region = match provider {
        Some(Provider::Cos) => match endpoint {
            Some(endpoint) => cos_region(read, endpoint),
            None if read.is_valid("storage.endpoint") => {
                return read.require(
                    KEY,
                    "the bucket's region, such as ap-guangzhou (or storage.endpoint)",
                );
            }
            None => return String::new(),
        },
        Some(Provider::S3 | Provider::Embedded) | None => DEFAULT_REGION.to_string(),
    };
    read.record_effective(KEY, &region);
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

pub(super) fn endpoint(read: &mut Reader, provider: Option<Provider>) -> Option<Endpoint> {
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

/// The embedded store has no access control worth the name: it stays on this machine.
fn embedded_endpoint(endpoint: Endpoint) -> Parsed<Endpoint> {
    let is_loopback = endpoint.ip().is_some_and(|ip| ip.is_loopback());
    if is_loopback && endpoint.port.is_some() && !endpoint.is_tls && !endpoint.has_path {
        Ok(endpoint)
    } else {
        Err(
            "the embedded store listens on this machine only; write http://127.0.0.1:PORT, \
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

pub(super) fn cos_url(
    read: &mut Reader,
    provider: Option<Provider>,
    region: &str,
) -> Option<String> {
    // Where region or endpoint were refused, there is nothing to make a URL of.
    let is_cos =
        provider == Some(Provider::Cos) && !region.is_empty() && read.is_valid("storage.endpoint");
    is_cos.then(|| {
        let url = cos_endpoint_of(region);
        read.record_effective("storage.endpoint", &url);
        url
    })
}

pub(super) fn addressing(
    read: &mut Reader,
    provider: Option<Provider>,
    endpoint: Option<&Endpoint>,
) -> Addressing {
    const KEY: &str = "storage.addressing";
    let chosen = read.value(KEY, |text| match text {
        "auto" => Ok(None),
        _ => parse::choice_or(
            text,
            "write auto, virtual (bucket in the host name), path (bucket in the path) or custom \
             (storage.endpoint is the bucket's own domain)",
        )
        .map(Some),
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
            read.warn(KEY, "the embedded store is always addressed by path");
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
        (_, None) => read.record_effective(KEY, &fitting.to_string()),
    }
    chosen.unwrap_or(fitting)
}

/// The addressing that `storage.addressing: auto` makes of an endpoint.
pub(crate) fn fitting_addressing(provider: Provider, endpoint: Option<&Endpoint>) -> Addressing {
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

/// True if the store at an endpoint may refuse the SDK's own checksums.
pub(crate) fn checksums_when_required(provider: Provider, endpoint: Option<&Endpoint>) -> bool {
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

pub(super) fn list_version(read: &mut Reader, provider: Option<Provider>) -> ListVersion {
    const KEY: &str = "storage.list_version";
    let given = read.optional(KEY, |text| {
        parse::choice_or(text, "write v1 (ListObjects) or v2 (ListObjectsV2)")
    });
    given.unwrap_or_else(|| {
        let version = match provider {
            // Tencent documents V1 only.
            Some(Provider::Cos) => ListVersion::V1,
            Some(Provider::S3 | Provider::Embedded) | None => ListVersion::V2,
        };
        if read.is_valid(KEY) && provider.is_some() {
            read.record_effective(KEY, &version.to_string());
        }
        version
    })
}

/// A region, of whatever vendor.
pub(crate) fn region_name(text: &str) -> Parsed<String> {
    let is_name = text.len() <= 64
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if is_name {
        Ok(text.to_string())
    } else {
        Err("a region is a short name; write one such as ap-guangzhou or us-east-1".into())
    }
}

/// The region that SDKs sign for where a store has no regions.
const DEFAULT_REGION: &str = "us-east-1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_a_short_name() {
        assert!(region_name("ap-guangzhou").is_ok());
        for text in ["ap guangzhou", "https://x", "a.b", &"x".repeat(65)] {
            assert!(region_name(text).is_err(), "{text}");
        }
    }
}
