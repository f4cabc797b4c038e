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
#[cfg(test)]
mod tests;
mod tke;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::provider::error::CredentialsError;
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

/// Why a source handed out nothing; the text is for the operator and holds no secret.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    /// The pod's token can't be read.
    #[error(
        "the pod's token file {path}: {reason}; is the volume of the service account's token mounted?"
    )]
    Token {
        /// From `TKE_WEB_IDENTITY_TOKEN_FILE`.
        path: String,
        /// Why not.
        reason: String,
    },
    /// No answer, after all attempts.
    #[error("{url} does not answer; {fix}")]
    Unreachable {
        /// The URL that was asked.
        url: String,
        /// The remedy.
        fix: &'static str,
        /// The last attempt's error.
        #[source]
        source: http::HttpError,
    },
    /// The token service said no.
    #[error("{url} refused: {code}: {message}{fix}")]
    Refused {
        /// The URL that was asked.
        url: String,
        /// Tencent's own error code.
        code: String,
        /// Tencent's words.
        message: String,
        /// The remedy, after a semicolon, where it is known.
        fix: &'static str,
    },
    /// The metadata service knows of no role.
    #[error(
        "{url} answers 404: no CAM role{role} is bound to this CVM; bind one in the CVM console, and check storage.cvm_role"
    )]
    NoRole {
        /// The URL that was asked.
        url: String,
        /// The role's name after a space, if one was asked for.
        role: String,
    },
    /// An answer that is none.
    #[error("{url} answers with {what}")]
    Answer {
        /// The URL that was asked.
        url: String,
        /// Its fault.
        what: String,
    },
}

impl From<SourceError> for CredentialsError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Token { .. } => CredentialsError::invalid_configuration(error),
            other => CredentialsError::provider_error(other),
        }
    }
}

/// Credentials as both of Tencent's services write them, or the reason why they are none.
fn issued(
    url: &str,
    name: &'static str,
    id: Option<&str>,
    secret: Option<&str>,
    token: Option<&str>,
    expires: Option<u64>,
) -> Result<Credentials, SourceError> {
    let answer = |what: String| SourceError::Answer {
        url: url.to_owned(),
        what,
    };
    let given = |name: &str, value: Option<&str>| match value {
        // They go into headers: a line break would only show as a wrong signature.
        Some(value) if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(value.to_owned())
        }
        Some(_) => Err(answer(format!("a {name} that is none"))),
        None => Err(answer(format!("no {name}"))),
    };
    let expiry = expires
        .and_then(|seconds| std::time::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .ok_or_else(|| answer("no ExpiredTime".to_owned()))?;
    if expiry <= std::time::SystemTime::now() {
        return Err(answer(
            "credentials that have expired already; is this machine's clock right?".to_owned(),
        ));
    }
    Ok(Credentials::new(
        given("TmpSecretId", id)?,
        given("TmpSecretKey", secret)?,
        Some(given("Token", token)?),
        Some(expiry),
        name,
    ))
}

/// The longest time for one of Tencent's sources, all attempts together.
const SOURCE_TIME: Duration = Duration::from_secs(15);

/// The same for AWS's chain, which may ask a token service and then a metadata service, each several times.
const CHAIN_TIME: Duration = Duration::from_secs(30);
