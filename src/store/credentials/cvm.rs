//! The CAM role of a CVM: temporary credentials from its metadata service.
//!
//! <https://www.tencentcloud.com/document/product/213/4934>

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials};
use http_body_util::Full;
use hyper::Request;
use serde::Deserialize;

use super::http::{Answer, Http, HttpError, words};
use super::source::{SourceError, issued};
use crate::config::{CvmRole, is_role_name};

/// Asks the metadata service each time it is asked.
#[derive(Debug)]
pub(super) struct InstanceRole {
    role: CvmRole,
    http: Http,
}

impl InstanceRole {
    pub fn new(role: CvmRole) -> Self {
        InstanceRole {
            role,
            http: Http::new(),
        }
    }

    async fn fetch(&self) -> Result<Credentials, SourceError> {
        let directory = format!("{}{PATH}", self.role.metadata_endpoint);
        // Asked each time: another role may be bound while the gateway runs.
        let name = match &self.role.name {
            Some(name) => name.clone(),
            None => self.bound(&directory).await?,
        };
        let url = format!("{directory}{name}");
        let answer = self.get(&url, &format!(" named {name}")).await?;
        read(&url, &answer)
    }

    /// The name of the role that is bound; a CVM has at most one.
    async fn bound(&self, directory: &str) -> Result<String, SourceError> {
        let answer = self.get(directory, "").await?;
        let text = String::from_utf8(answer.body).unwrap_or_default();
        let name = text.lines().map(|line| line.trim().trim_end_matches('/'));
        match name.into_iter().find(|name| !name.is_empty()) {
            Some(name) if is_role_name(name) => Ok(name.to_owned()),
            Some(_) => Err(SourceError::Answer {
                url: directory.to_owned(),
                what:
                    "no name of a role; set storage.cvm_role, and check storage.metadata_endpoint"
                        .to_owned(),
            }),
            None => Err(SourceError::NoRole {
                url: directory.to_owned(),
                role: String::new(),
            }),
        }
    }

    async fn get(&self, url: &str, role: &str) -> Result<Answer, SourceError> {
        let request = || {
            Request::get(url)
                .body(Full::default())
                .map_err(|error| HttpError::Address(error.to_string()))
        };
        let answer = self.http.ask(request, |answer| answer.status == 429).await;
        let answer = answer.map_err(|source| SourceError::Unreachable {
            url: url.to_owned(),
            fix: "only a CVM has this service; elsewhere set keys, or storage.credentials: tke",
            source,
        })?;
        match answer.status {
            200 => Ok(answer),
            404 => Err(SourceError::NoRole {
                url: url.to_owned(),
                role: role.to_owned(),
            }),
            status => Err(SourceError::Answer {
                url: url.to_owned(),
                what: format!("status {status}"),
            }),
        }
    }
}

impl ProvideCredentials for InstanceRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.fetch().await.map_err(CredentialsError::from)
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Issued {
    code: Option<String>,
    tmp_secret_id: Option<String>,
    tmp_secret_key: Option<String>,
    token: Option<String>,
    expired_time: Option<u64>,
}

fn read(url: &str, answer: &Answer) -> Result<Credentials, SourceError> {
    // serde's own words quote what they could not read
    let Ok(issued_here) = serde_json::from_slice::<Issued>(&answer.body) else {
        return Err(SourceError::Answer {
            url: url.to_owned(),
            what: "no credentials; check storage.metadata_endpoint".to_owned(),
        });
    };
    let code = issued_here.code.as_deref().unwrap_or_default();
    if code != "Success" {
        return Err(SourceError::Answer {
            url: url.to_owned(),
            what: format!("code {:?} in the place of Success", words(code, "")),
        });
    }
    issued(
        url,
        "CVM role",
        issued_here.tmp_secret_id.as_deref(),
        issued_here.tmp_secret_key.as_deref(),
        issued_here.token.as_deref(),
        issued_here.expired_time,
    )
}

const PATH: &str = "/latest/meta-data/cam/security-credentials/";
