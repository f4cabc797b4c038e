//! The SDK's configuration, and what follows from where a store is.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::config::endpoint::{Endpoint, EndpointFuture, Params, ResolveEndpoint};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, IdentityCache, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, StalledStreamProtectionConfig,
};

use crate::config::{self, Addressing, Provider};
use crate::http_client::TlsSetupError;
use crate::store::credentials::{self, Renewed};
use crate::store::integrity::Method;
use crate::store::progress::WatchedClient;
use crate::store::retry;

/// The client's settings for the gateway's own store; those of users' stores are made from them.
///
/// Besides, the credentials that can be asked for anew.
pub(super) async fn config(
    storage: &config::Storage,
) -> Result<(Builder, Option<Renewed>), TlsSetupError> {
    let chain = credentials::aws_chain(storage).await;
    let mut builder = match (storage.provider, &chain) {
        // AWS's chain comes with the other settings of the standard variables and files. Only here: an AWS_ENDPOINT_URL
        // that happens to be set must not send the embedded store's or COS's requests elsewhere.
        (Provider::S3, Some(chain)) => Builder::from(chain),
        _ => Builder::new().behavior_version(BehaviorVersion::latest()),
    };
    let (provider, renewed) = credentials::provider(storage, chain.as_ref());
    if let Some(provider) = provider {
        builder = builder.credentials_provider(provider);
    }
    if let Some(endpoint) = &storage.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    if storage.checksums_when_required {
        builder = fewer_checksums(builder);
    }
    let builder = builder
        // what hands out credentials keeps them itself, and must hear when the store no longer takes them
        .identity_cache(IdentityCache::no_cache())
        .http_client(WatchedClient::new(storage)?)
        // the client below watches bodies, for as long as the settings say; the SDK gives a silent one up after 20 s
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // downloads are compared in verify.rs, which knows what is a whole object
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_partition(retry::partition())
        .retry_classifier(retry::Classifier)
        .region(Region::new(storage.region.clone()))
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(storage.retry.max_attempts)
                .with_initial_backoff(FIRST_BACKOFF)
                .with_max_backoff(storage.retry.max_backoff),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(storage.connect_timeout)
                .read_timeout(storage.request_timeout)
                .operation_timeout(storage.retry.time_limit)
                .build(),
        );
    Ok((builder, renewed))
}

/// Sends every request to the domain of one bucket, whose name then stands neither in the host nor in the path.
#[derive(Debug)]
struct OwnDomain(String);

impl ResolveEndpoint for OwnDomain {
    fn resolve_endpoint<'a>(&'a self, _: &'a Params) -> EndpointFuture<'a> {
        let endpoint = Endpoint::builder().url(self.0.clone()).build();
        EndpointFuture::ready(Ok(endpoint))
    }
}

/// The way the bucket is named. Not part of [`config`]: what is made from those settings may be addressed otherwise.
pub(super) fn addressed(
    builder: Builder,
    addressing: Addressing,
    endpoint: Option<&str>,
) -> Builder {
    match (addressing, endpoint) {
        (Addressing::Custom, Some(url)) => builder.endpoint_resolver(OwnDomain(url.to_owned())),
        _ => builder.force_path_style(matches!(addressing, Addressing::Path)),
    }
}

/// COS, OSS, R2 and others refuse the SDK's default checksums or ignore them.
fn fewer_checksums(builder: Builder) -> Builder {
    builder.request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
}

/// The common settings, for another region or endpoint.
pub(super) fn at_site(builder: Builder, site: &config::StoreLocation) -> Builder {
    let builder = builder.region(Region::new(site.region.clone()));
    let mut builder = addressed(builder, site.addressing, site.endpoint.as_deref());
    if let Some(endpoint) = &site.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    if site.checksums_when_required {
        fewer_checksums(builder)
    } else {
        // the SDK's own default, which the common store may not take
        builder.request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
    }
}

/// The method that the store is known to offer; `None` if that shows only with its first answer.
pub(super) fn integrity_method(
    provider: Provider,
    wanted: config::Integrity,
    checksums_when_required: bool,
) -> Option<Method> {
    match (wanted, provider) {
        (config::Integrity::Off, _) => Some(Method::Off),
        (_, Provider::Cos) => Some(Method::CosCrc64),
        (_, Provider::Embedded) => Some(Method::Crc64Nvme),
        // Amazon's own S3
        (_, Provider::S3) if !checksums_when_required => Some(Method::Crc64Nvme),
        (_, Provider::S3) => None,
    }
}

/// Hashing a body for the signature (SHA-256) takes as long as everything else that is done with it: 0.65 s of CPU time
/// per GiB, where a CRC-64 takes 0.09. What the hash adds to a checksum that store and gateway compare is protection
/// against somebody on the way who changes the body, for whom a CRC-64 is easily forged.
///
/// So `auto` leaves it out where nobody is on the way: over TLS, and to the loopback. Amazon's own clients do the same for
/// a request over HTTPS that carries a checksum, so S3 stores know it; Tencent documents no bodies without a hash, so COS
/// gets it. Over plain HTTP to another host bodies are hashed; whoever trusts that network says `never`, whoever trusts
/// no network `always`. With `storage.integrity: off` the hash is the only proof that is left, and stays.
pub(super) fn unsigned_payload(
    provider: Provider,
    (integrity, sign): (config::Integrity, config::SignPayload),
    endpoint: Option<&str>,
) -> bool {
    match sign {
        config::SignPayload::Always => false,
        config::SignPayload::Never => true,
        config::SignPayload::Auto => match provider {
            _ if integrity == config::Integrity::Off => false,
            Provider::Embedded => true,
            Provider::S3 => config::is_reached_in_private(endpoint),
            Provider::Cos => false,
        },
    }
}

/// True for Cloudflare R2, which takes no parts of different sizes
/// (<https://developers.cloudflare.com/r2/objects/upload-objects/#multipart-upload>).
pub(super) fn wants_parts_alike(endpoint: Option<&str>) -> bool {
    let host = endpoint.and_then(|endpoint| endpoint.parse::<hyper::Uri>().ok());
    let host = host.as_ref().and_then(|endpoint| endpoint.host());
    host.is_some_and(|host| host.ends_with(".r2.cloudflarestorage.com"))
}

/// The first retry comes after a random time up to this, each further one after up to twice the last.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves_bodies_unsigned(settings: &[(&str, &str)]) -> bool {
        let common = [("ACCESS_KEY_ID", "k"), ("SECRET_ACCESS_KEY", "s")];
        let env = common.iter().chain(settings).map(|(key, value)| {
            let value = (*value).to_owned();
            (format!("COSGATE_STORAGE__{key}"), value)
        });
        let hash = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$tgvYt/vSZXKDaTUrjH0ahw";
        let users = format!("[{{name: u, password_hash: '{hash}'}}]");
        let env = env.chain([("COSGATE_USERS".to_owned(), users)]);
        let loaded = crate::config::load_from(None, env).expect("valid");
        let storage = loaded.config.storage;
        let wanted = (storage.integrity, storage.sign_payload);
        unsigned_payload(storage.provider, wanted, storage.endpoint.as_deref())
    }

    #[test]
    fn one_store_wants_parts_that_are_alike() {
        for endpoint in [
            "https://a.r2.cloudflarestorage.com",
            "https://a.eu.r2.cloudflarestorage.com:443/",
        ] {
            assert!(wants_parts_alike(Some(endpoint)), "{endpoint}");
        }
        for endpoint in ["https://cos.example", "http://127.0.0.1:8333", "?"] {
            assert!(!wants_parts_alike(Some(endpoint)), "{endpoint}");
        }
        assert!(!wants_parts_alike(None));
    }

    #[test]
    fn bodies_are_hashed_where_somebody_could_change_them_on_the_way() {
        let s3 = |endpoint| [("PROVIDER", "s3"), ("BUCKET", "b"), ("ENDPOINT", endpoint)];
        for endpoint in [
            "http://minio.example.com:9000",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
        ] {
            assert!(!leaves_bodies_unsigned(&s3(endpoint)), "{endpoint}");
        }
        for endpoint in [
            "https://s3.example.com",
            "http://127.0.0.1:9000",
            "http://[::1]:9000",
            "http://localhost:9000",
        ] {
            assert!(leaves_bodies_unsigned(&s3(endpoint)), "{endpoint}");
            let always = [&s3(endpoint)[..], &[("SIGN_PAYLOAD", "always")]].concat();
            assert!(!leaves_bodies_unsigned(&always), "{endpoint}");
            let no_other_proof = [&s3(endpoint)[..], &[("INTEGRITY", "off")]].concat();
            assert!(!leaves_bodies_unsigned(&no_other_proof), "{endpoint}");
        }
        let plain = s3("http://10.0.0.1");
        let never = [&plain[..], &[("SIGN_PAYLOAD", "never")]].concat();
        assert!(leaves_bodies_unsigned(&never));
        let cos = [
            ("PROVIDER", "cos"),
            ("BUCKET", "files-1250000000"),
            ("REGION", "ap-guangzhou"),
        ];
        assert!(!leaves_bodies_unsigned(&cos));
        assert!(leaves_bodies_unsigned(&[]), "the embedded store");
    }
}
