//! A double of what hands out temporary credentials: Tencent's token service and metadata service, AWS's token service,
//! and the endpoint of a container. It checks every header and field, and what it issues expires within seconds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::sigv4;

pub const ROLE: &str = "cosgate-cos";
pub const ROLE_ARN: &str = "qcs::cam::uin/100000000001:roleName/cosgate-cos";
pub const PROVIDER_ID: &str = "cls-abcd1234";
pub const CONTAINER_TOKEN: &str = "container-authorization-1f7c9b";

/// Hosts the services, all on one address.
pub struct Cloud {
    pub address: SocketAddr,
    pub issuer: Arc<Issuer>,
}

/// The issued credentials, and the roles that may get them.
pub struct Issuer {
    lifetime: Duration,
    issued: Mutex<Vec<Issued>>,
    /// The web identity token that is good now.
    pub identity: Mutex<String>,
    /// Requests for credentials that were not as they have to be.
    pub complaints: Mutex<Vec<String>>,
    /// Answer this many requests with throttling first.
    pub throttle: AtomicUsize,
    /// Requests to the store with credentials that are not good.
    pub refused: AtomicUsize,
}

#[derive(Clone)]
struct Issued {
    id: String,
    secret: String,
    token: String,
    /// Seconds since 1970.
    expires: u64,
}

impl Cloud {
    pub async fn start(lifetime: Duration) -> Self {
        let issuer = Arc::new(Issuer {
            lifetime,
            issued: Mutex::default(),
            identity: Mutex::new("eyJhbGci.eyJwb2Qi.first-web-identity".to_owned()),
            complaints: Mutex::default(),
            throttle: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        });
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&issuer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        Cloud { address, issuer }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// Clocks differ: real stores take a token a little longer, too, and a busy machine must not fail a scenario.
const GRACE: u64 = 2;

impl Issuer {
    /// The number of times that credentials were issued.
    pub fn issued(&self) -> usize {
        self.issued.lock().expect("no panic").len()
    }

    /// Everything of what was issued that must not be seen.
    pub fn secrets(&self) -> Vec<String> {
        let issued = self.issued.lock().expect("no panic");
        let all = issued
            .iter()
            .flat_map(|it| [it.id.clone(), it.secret.clone(), it.token.clone()]);
        all.collect()
    }

    /// Nothing that was issued up to now is good any more, before its time.
    pub fn revoke(&self) {
        for it in self.issued.lock().expect("no panic").iter_mut() {
            it.expires = 0;
        }
    }

    fn issue(&self) -> Issued {
        let mut issued = self.issued.lock().expect("no panic");
        let nth = issued.len() + 1;
        let random = getrandom::u64().expect("random numbers");
        let fresh = Issued {
            id: format!("AKIDtmp{nth}x{random:x}"),
            secret: format!("tmpsecret{nth}x{random:x}"),
            token: format!("tmptoken{nth}x{random:x}"),
            expires: now() + self.lifetime.as_secs(),
        };
        issued.push(fresh.clone());
        fresh
    }

    /// The answer of a store to a request with these headers, if it is not to be served.
    pub fn refusal(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<&'static str> {
        let id = sigv4::key_id(headers).unwrap_or_default().to_owned();
        let known = self
            .issued
            .lock()
            .expect("no panic")
            .iter()
            .find(|it| it.id == id)
            .cloned();
        let token = headers
            .get("x-amz-security-token")
            .and_then(|value| value.to_str().ok());
        let code = match known {
            None => Some("InvalidAccessKeyId"),
            Some(it) if token != Some(it.token.as_str()) => Some("InvalidToken"),
            Some(it) if now() > it.expires + GRACE => Some("ExpiredToken"),
            Some(it) if !sigv4::is_signed_with(&it.secret, method, uri, headers, body) => {
                Some("SignatureDoesNotMatch")
            }
            Some(_) => None,
        };
        if code.is_some() {
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
        code
    }

    fn complain(&self, what: String) -> Response {
        self.complaints.lock().expect("no panic").push(what);
        StatusCode::BAD_REQUEST.into_response()
    }
}

async fn answer(
    State(issuer): State<Arc<Issuer>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = (method.as_str(), uri.path());
    match asked {
        ("POST", "/") if headers.contains_key("x-tc-action") => tencent(&issuer, &headers, &body),
        ("POST", "/") => aws(&issuer, &body),
        ("GET", "/latest/meta-data/cam/security-credentials/") => {
            format!("{ROLE}\n").into_response()
        }
        ("GET", path)
            if path.strip_prefix("/latest/meta-data/cam/security-credentials/") == Some(ROLE) =>
        {
            let it = issuer.issue();
            let Issued {
                id,
                secret,
                token,
                expires,
            } = &it;
            format!(r#"{{"TmpSecretId":"{id}","TmpSecretKey":"{secret}","ExpiredTime":{expires},"Expiration":"2030-01-01T00:00:00Z","Token":"{token}","Code":"Success"}}"#).into_response()
        }
        ("GET", "/container") => {
            let authorization = headers
                .get("authorization")
                .and_then(|value| value.to_str().ok());
            if authorization != Some(CONTAINER_TOKEN) {
                return issuer.complain(format!("authorization {authorization:?}"));
            }
            let it = issuer.issue();
            let expiration = iso(it.expires);
            format!(r#"{{"AccessKeyId":"{}","SecretAccessKey":"{}","Token":"{}","Expiration":"{expiration}"}}"#, it.id, it.secret, it.token).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `AssumeRoleWithWebIdentity` as Tencent has it.
fn tencent(issuer: &Issuer, headers: &HeaderMap, body: &[u8]) -> Response {
    let mut given: BTreeMap<&str, &str> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII")))
        .collect();
    let timestamp = given
        .remove("x-tc-timestamp")
        .and_then(|text| text.parse::<u64>().ok());
    if timestamp.is_none_or(|time| time.abs_diff(now()) >= 300) {
        return issuer.complain(format!("timestamp {timestamp:?}"));
    }
    for name in ["host", "content-length"] {
        given.remove(name);
    }
    let wanted = BTreeMap::from([
        ("authorization", "SKIP"),
        ("content-type", "application/json"),
        ("x-tc-action", "AssumeRoleWithWebIdentity"),
        ("x-tc-region", "ap-shanghai"),
        ("x-tc-version", "2018-08-13"),
    ]);
    if given != wanted {
        return issuer.complain(format!("headers {given:?}"));
    }
    let identity = issuer.identity.lock().expect("no panic").clone();
    let fields: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    let wanted = serde_json::json!({
        "ProviderId": PROVIDER_ID,
        "WebIdentityToken": identity,
        "RoleArn": ROLE_ARN,
        "RoleSessionName": "cosgate-gw-0",
        "DurationSeconds": 7200,
    });
    if fields["WebIdentityToken"] != wanted["WebIdentityToken"] {
        // a real one that tells too much
        let message = format!(
            "token {} is not good",
            fields["WebIdentityToken"].as_str().unwrap_or_default()
        );
        let error = serde_json::json!({"Response": {"Error": {"Code": "InvalidParameter.WebIdentityTokenError", "Message": message}, "RequestId": "r"}});
        return error.to_string().into_response();
    }
    if fields != wanted {
        return issuer.complain(format!("fields {fields}"));
    }
    let throttled = issuer
        .throttle
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        });
    if throttled.is_ok() {
        return r#"{"Response":{"Error":{"Code":"RequestLimitExceeded","Message":"later"},"RequestId":"r"}}"#.into_response();
    }
    let it = issuer.issue();
    serde_json::json!({"Response": {
        "Credentials": {"TmpSecretId": it.id, "TmpSecretKey": it.secret, "Token": it.token},
        "ExpiredTime": it.expires,
        "Expiration": iso(it.expires),
        "RequestId": "r",
    }})
    .to_string()
    .into_response()
}

/// `AssumeRoleWithWebIdentity` as AWS has it.
fn aws(issuer: &Issuer, body: &[u8]) -> Response {
    let body = std::str::from_utf8(body).expect("ASCII");
    let fields: BTreeMap<&str, &str> = body
        .split('&')
        .filter_map(|field| field.split_once('='))
        .collect();
    let identity = issuer.identity.lock().expect("no panic").clone();
    let wanted = [
        ("Action", "AssumeRoleWithWebIdentity"),
        (
            "RoleArn",
            "arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fcosgate",
        ),
        ("RoleSessionName", "gw-0"),
        ("Version", "2011-06-15"),
        ("WebIdentityToken", identity.as_str()),
    ];
    if fields != BTreeMap::from(wanted) {
        return issuer.complain(format!("fields {fields:?}"));
    }
    let it = issuer.issue();
    let xml = format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>\
         <Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
         <Expiration>{}</Expiration></Credentials><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/cosgate/gw-0</Arn><AssumedRoleId>id</AssumedRoleId></AssumedRoleUser>\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
        it.id,
        it.secret,
        it.token,
        iso(it.expires)
    );
    ([("content-type", "text/xml")], xml).into_response()
}

/// RFC 3339.
fn iso(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}
