//! The source of credentials for the store, and how they are renewed before they expire.
//!
//! ```text
//! the SDK's signer ──> Renewed ──> tke: token file ──> Tencent's security token service
//!                       │    └───> cvm: metadata service
//!                       │    └───> AWS's own chain
//!                       └ keeps what is still valid: renews in the background, outlives failures, and asks again when
//!                         the store takes them no longer
//! ```
//!
//! Invariants: a request waits for a source only while there are no valid credentials at all; however many transfers run,
//! a source is asked once at a time; nothing that authenticates stands in an error or a log line.

mod cvm;
mod http;
mod renewed;
mod source;
#[cfg(test)]
mod tests;
mod tke;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use secrecy::ExposeSecret;

pub(super) use self::renewed::Renewed;
use crate::config::{self, CredentialSource};

/// The signer of the requests of one store; none leaves the SDK without.
///
/// Besides, what can be asked for others than the store has had; fixed keys can't.
pub(super) fn provider(
    storage: &config::Storage,
    chain: Option<&SdkConfig>,
) -> (Option<SharedCredentialsProvider>, Option<Renewed>) {
    if let Some(keys) = &storage.credentials {
        return (Some(SharedCredentialsProvider::new(fixed(keys))), None);
    }
    let renewed = renewed(storage, chain);
    let provider = renewed.clone().map(SharedCredentialsProvider::new);
    (provider, renewed)
}

fn renewed(storage: &config::Storage, chain: Option<&SdkConfig>) -> Option<Renewed> {
    Some(match &storage.credential_source {
        CredentialSource::Static => return None,
        CredentialSource::Aws => Renewed::new(
            "AWS's chain of credentials",
            chain?.credentials_provider()?,
            CHAIN_TIME,
        ),
        CredentialSource::Tke(identity) => Renewed::new(
            "TKE pod identity",
            tke::PodIdentity::new(identity.clone()),
            SOURCE_TIME,
        ),
        CredentialSource::Cvm(role) => Renewed::new(
            "CVM role",
            cvm::InstanceRole::new(role.clone()),
            SOURCE_TIME,
        ),
    })
}

/// AWS's shared configuration (environment and profile), where its chain is what hands out credentials.
pub(super) async fn aws_chain(storage: &config::Storage) -> Option<SdkConfig> {
    if storage.credentials.is_some() || storage.credential_source != CredentialSource::Aws {
        return None;
    }
    // With a region the loader asks nobody for one: a metadata service that isn't there would hold up the start.
    let loader =
        aws_config::defaults(BehaviorVersion::latest()).region(Region::new(storage.region.clone()));
    Some(loader.load().await)
}

pub(super) fn fixed(keys: &config::StaticCredentials) -> Credentials {
    Credentials::new(
        keys.access_key_id.clone(),
        keys.secret_access_key.expose_secret().to_owned(),
        keys.session_token
            .as_ref()
            .map(|token| token.expose_secret().to_owned()),
        None,
        "configuration",
    )
}

/// The longest time for one of Tencent's sources, all attempts together.
const SOURCE_TIME: Duration = Duration::from_secs(15);

/// The same for AWS's chain, which may ask a token service and then a metadata service, each several times.
const CHAIN_TIME: Duration = Duration::from_secs(30);
