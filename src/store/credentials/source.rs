//! The answers of Tencent's sources of credentials: credentials, or the reason why there are none.

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::Credentials;

use super::http;

/// Why a source handed out nothing; the text is for the operator and holds no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
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
pub(super) fn issued(
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
