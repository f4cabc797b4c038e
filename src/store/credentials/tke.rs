//! TKE pod identity: the pod's token for temporary credentials of a CAM role.
//!
//! The exchange is Tencent's own: `AssumeRoleWithWebIdentity` of the security token service, unsigned.
//! <https://www.tencentcloud.com/document/api/1150/49454>

use std::time::{SystemTime, UNIX_EPOCH};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials};
use http_body_util::Full;
use hyper::Request;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::http::{Answer, Http, HttpError, HttpRequest, words};
use super::source::{SourceError, issued};
use crate::config::TkeIdentity;

/// Exchanges the pod's token each time it is asked.
#[derive(Debug)]
pub(super) struct PodIdentity {
    identity: TkeIdentity,
    http: Http,
}

impl PodIdentity {
    pub fn new(identity: TkeIdentity) -> Self {
        PodIdentity {
            identity,
            http: Http::new(),
        }
    }

    async fn exchange(&self) -> Result<Credentials, SourceError> {
        let TkeIdentity {
            region,
            provider_id,
            role_arn,
            session_name,
            sts_endpoint: url,
            ..
        } = &self.identity;
        // The kubelet replaces the file: what was read last time may have expired.
        let token = self.token().await?;
        let body = serde_json::json!({
            "ProviderId": provider_id,
            "WebIdentityToken": token,
            "RoleArn": role_arn,
            "RoleSessionName": session_name,
            "DurationSeconds": SESSION_SECONDS,
        })
        .to_string();
        let request = || request(url, region, &body);
        let answer = self.http.ask(request, is_passing).await;
        let answer = answer.map_err(|source| SourceError::Unreachable {
            url: url.clone(),
            fix: "the pod needs a way to it on port 443 (network policy, NAT), or set storage.sts_endpoint",
            source,
        })?;
        read(url, &token, &answer)
    }

    async fn token(&self) -> Result<String, SourceError> {
        let path = &self.identity.token_file;
        let failed = |reason: String| SourceError::Token {
            path: path.display().to_string(),
            reason,
        };
        let mut bytes = Vec::new();
        let file = tokio::fs::File::open(path).await;
        let mut file = file
            .map_err(|error| failed(error.to_string()))?
            .take(MAX_TOKEN + 1);
        let read = file.read_to_end(&mut bytes).await;
        read.map_err(|error| failed(error.to_string()))?;
        if bytes.len() as u64 > MAX_TOKEN {
            return Err(failed(format!("it has more than {MAX_TOKEN} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| failed("it is no text".to_owned()))?;
        match text.trim() {
            "" => Err(failed("it is empty".to_owned())),
            token => Ok(token.to_owned()),
        }
    }
}

impl ProvideCredentials for PodIdentity {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.exchange().await.map_err(CredentialsError::from)
        })
    }
}

fn request(url: &str, region: &str, body: &str) -> Result<HttpRequest, HttpError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |time| time.as_secs());
    Request::post(format!("{url}/"))
        .header("content-type", "application/json")
        .header("x-tc-action", ACTION)
        .header("x-tc-version", VERSION)
        .header("x-tc-region", region)
        .header("x-tc-timestamp", now)
        // the token is the proof: there are no keys yet that could sign
        .header("authorization", "SKIP")
        .body(Full::from(body.to_owned()))
        .map_err(|error| HttpError::Address(error.to_string()))
}

/// Tencent answers errors with 200, too.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "Response")]
    response: Response,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Response {
    credentials: Option<Issued>,
    expired_time: Option<u64>,
    error: Option<Error>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Issued {
    tmp_secret_id: Option<String>,
    tmp_secret_key: Option<String>,
    token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Error {
    code: String,
    #[serde(default)]
    message: String,
}

/// Throttled, or the service's own trouble.
fn is_passing(answer: &Answer) -> bool {
    let code = parse(&answer.body).and_then(|response| response.error);
    answer.status == 429
        || code.is_some_and(|error| {
            [
                "RequestLimitExceeded",
                "InternalError",
                "ResourceUnavailable",
            ]
            .iter()
            .any(|passing| error.code.starts_with(passing))
        })
}

fn parse(body: &[u8]) -> Option<Response> {
    // serde's own words quote what they could not read
    serde_json::from_slice::<Envelope>(body)
        .ok()
        .map(|envelope| envelope.response)
}

fn read(url: &str, token: &str, answer: &Answer) -> Result<Credentials, SourceError> {
    let Some(response) = parse(&answer.body) else {
        return Err(SourceError::Answer {
            url: url.to_owned(),
            what: format!(
                "status {} and a body that is none of Tencent's; check storage.sts_endpoint",
                answer.status
            ),
        });
    };
    if let Some(error) = response.error {
        return Err(SourceError::Refused {
            url: url.to_owned(),
            fix: fix(&error.code),
            code: words(&error.code, token),
            message: words(&error.message, token),
        });
    }
    let issued_here = response.credentials.as_ref();
    issued(
        url,
        "TKE pod identity",
        issued_here.and_then(|it| it.tmp_secret_id.as_deref()),
        issued_here.and_then(|it| it.tmp_secret_key.as_deref()),
        issued_here.and_then(|it| it.token.as_deref()),
        response.expired_time,
    )
}

/// The remedies for the codes that an operator meets while setting it up.
fn fix(code: &str) -> &'static str {
    let is = |prefix: &str| code.starts_with(prefix);
    if is("InvalidParameter.WebIdentityTokenError") || is("InvalidParameter.OIDCtokenError") {
        "; the token is not one of this cluster's OIDC provider, or its audience is not sts.cloud.tencent.com"
    } else if is("InternalError.GetRoleError") || is("ResourceNotFound.RoleNotFound") {
        "; check TKE_ROLE_ARN: the role does not exist"
    } else if is("AuthFailure") || is("UnauthorizedOperation") || is("FailedOperation") {
        "; the role's trust policy must name the cluster's OIDC provider and the token's audience"
    } else if is("RequestLimitExceeded") {
        "; the next attempt follows by itself"
    } else {
        ""
    }
}

const ACTION: &str = "AssumeRoleWithWebIdentity";
const VERSION: &str = "2018-08-13";

/// Tencent's default, and what every role allows.
const SESSION_SECONDS: u32 = 7200;

/// Tokens of service accounts have 1 to 2 KiB.
const MAX_TOKEN: u64 = 64 * 1024;
