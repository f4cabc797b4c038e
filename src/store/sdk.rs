//! The SDK's configuration, and what follows from where a store is.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Config, Region, RequestChecksumCalculation,
    ResponseChecksumValidation,
};

use crate::config::{self, Addressing, Provider};
use crate::store::credentials;
use crate::store::integrity::Method;

/// The client's settings for the gateway's own store; those of users' stores are made from them.
pub(super) async fn config(storage: &config::Storage) -> Config {
    let chain = credentials::aws_chain(storage).await;
    let mut builder = match (storage.provider, &chain) {
        // AWS's chain comes with the other settings of the standard variables and files. Only here: an AWS_ENDPOINT_URL
        // that happens to be set must not send the embedded store's or COS's requests elsewhere.
        (Provider::S3, Some(chain)) => Builder::from(chain),
        _ => Builder::new().behavior_version(BehaviorVersion::latest()),
    };
    if let Some(provider) = credentials::provider(storage, chain.as_ref()) {
        builder = builder.credentials_provider(provider);
    }
    if let Some(endpoint) = &storage.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    if storage.checksums_when_required {
        builder = fewer_checksums(builder);
    }
    builder
        .identity_cache(credentials::cache())
        .region(Region::new(storage.region.clone()))
        .force_path_style(matches!(storage.addressing, Addressing::Path))
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
        )
        .build()
}

/// COS, OSS, R2 and others refuse the SDK's default checksums or ignore them.
fn fewer_checksums(builder: Builder) -> Builder {
    builder
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
}

/// The common settings, for another region or endpoint.
pub(super) fn at_site(builder: Builder, site: &config::Site) -> Builder {
    let mut builder = builder
        .region(Region::new(site.region.clone()))
        .force_path_style(matches!(site.addressing, Addressing::Path));
    if let Some(endpoint) = &site.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    if site.checksums_when_required {
        fewer_checksums(builder)
    } else {
        // the SDK's own default, which the common store may not take
        builder
            .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
            .response_checksum_validation(ResponseChecksumValidation::WhenSupported)
    }
}

/// What the store is known to offer; `None` if that shows only with its first answer.
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

/// Hashing a body for the signature takes as long as everything else that is done with it. Where TLS or the loopback
/// protects the body and a checksum proves it, the signature may leave it out; only stores that document it get that by
/// themselves.
pub(super) fn unsigned_payload(
    provider: Provider,
    wanted: config::SignPayload,
    endpoint: Option<&str>,
    checksums_when_required: bool,
) -> bool {
    let encrypted = endpoint.is_none_or(|endpoint| endpoint.starts_with("https://"));
    match wanted {
        config::SignPayload::Always => false,
        config::SignPayload::Never => true,
        config::SignPayload::Auto => match provider {
            Provider::Embedded => true,
            Provider::S3 => encrypted && !checksums_when_required,
            Provider::Cos => false,
        },
    }
}

/// The first retry comes after a random time up to this, each further one after up to twice the last.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
