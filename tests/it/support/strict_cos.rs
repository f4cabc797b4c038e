//! Tencent COS as its documents have it: it refuses what COS refuses, ignores what COS ignores, and answers as COS does, in front of
//! the embedded store, which has S3's operations by `s3s`. Documents: <https://www.tencentcloud.com/document/product/436>, numbers
//! 7749, 7750, 7746, 14518, 57456.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64_simd::STANDARD;
use cosgate::store::embedded::{EmbeddedStore, Options};
use crc_fast::{CrcAlgorithm, checksum};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use md5::{Digest, Md5};
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::sigv4;

pub const BUCKET: &str = "files-1250000000";
pub const REGION: &str = "ap-guangzhou";
/// The credentials that it takes.
pub const KEYS: (&str, &str) = ("AKIDEXAMPLE", "secret");

/// Bytes of a name.
const LONGEST_KEY: usize = 850;

pub struct StrictCos {
    pub address: SocketAddr,
    front: Arc<Front>,
    store: EmbeddedStore,
    _data: TempDir,
}

struct Front {
    http: Client<HttpConnector, Full<Bytes>>,
    /// The embedded store and its keys.
    store: String,
    keys: (String, String),
    /// `PUT /key MissingContentLength`, of all that were refused.
    refused: Mutex<Vec<String>>,
    /// Headers of requests that COS pays no heed to; a client that sends them relies on what isn't there.
    ignored: Mutex<Vec<String>>,
}

impl StrictCos {
    pub async fn start() -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let options = Options {
            data_dir: data.path().to_owned(),
            bucket: BUCKET.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            credentials: None,
        };
        let store = EmbeddedStore::start(options).await.expect("a store");
        let front = Arc::new(Front {
            http: Client::builder(TokioExecutor::new()).build_http(),
            store: store.endpoint(),
            keys: (
                store.access_key_id().to_owned(),
                store.secret_access_key().expose_secret().to_owned(),
            ),
            refused: Mutex::default(),
            ignored: Mutex::default(),
        });
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&front))
            .layer(DefaultBodyLimit::disable());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        StrictCos {
            address,
            front,
            store,
            _data: data,
        }
    }

    /// The settings of a gateway that uses it, at the bucket's own domain: at an address no name can be before it.
    pub fn settings(&self) -> Vec<String> {
        vec![
            "STORAGE__PROVIDER=cos".to_owned(),
            "STORAGE__ADDRESSING=custom".to_owned(),
            format!("STORAGE__BUCKET={BUCKET}"),
            format!("STORAGE__REGION={REGION}"),
            format!("STORAGE__ENDPOINT=http://{}", self.address),
            format!("STORAGE__ACCESS_KEY_ID={}", KEYS.0),
            format!("STORAGE__SECRET_ACCESS_KEY={}", KEYS.1),
            "STORAGE__RETRY__MAX_ATTEMPTS=1".to_owned(),
            "UPLOAD__MIN_PART_SIZE=5MiB".to_owned(),
        ]
    }

    /// The requests that were refused since the last call.
    pub fn take_refused(&self) -> Vec<String> {
        std::mem::take(&mut *self.front.refused.lock().expect("not poisoned"))
    }

    /// The headers that were ignored since the last call.
    pub fn take_ignored(&self) -> Vec<String> {
        std::mem::take(&mut *self.front.ignored.lock().expect("not poisoned"))
    }

    pub async fn stop(self) {
        self.store.stop().await;
    }
}

/// A request as it came.
struct Incoming<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    body: &'a Bytes,
}

impl Incoming<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn has_parameter(&self, name: &str) -> bool {
        let mut parameters = self.uri.query().unwrap_or_default().split('&');
        parameters.any(|it| it.split('=').next() == Some(name))
    }

    fn is(&self, method: &Method) -> bool {
        self.method == method
    }

    fn is_complete(&self) -> bool {
        self.is(&Method::POST) && self.has_parameter("uploadId")
    }

    /// True for a request that makes an object at its end.
    fn makes_an_object(&self) -> bool {
        let is_put = self.is(&Method::PUT) && !self.has_parameter("partNumber");
        (is_put && !self.has_parameter("tagging")) || self.is_complete()
    }

    /// Status and code of COS's refusal.
    fn refusal(&self) -> Option<(StatusCode, &'static str)> {
        let changes = self.is(&Method::PUT) || self.is(&Method::POST);
        let is_chunked = self.header("transfer-encoding").is_some();
        if is_chunked || (changes && self.header("content-length").is_none()) {
            return Some((StatusCode::LENGTH_REQUIRED, "MissingContentLength"));
        }
        let payload = self.header("x-amz-content-sha256").unwrap_or_default();
        let encoding = self.header("content-encoding").unwrap_or_default();
        let has_trailer = self.header("x-amz-trailer").is_some();
        if has_trailer || payload.starts_with("STREAMING") || encoding.contains("aws-chunked") {
            return Some((StatusCode::BAD_REQUEST, "InvalidRequest"));
        }
        let key_id = sigv4::key_id(self.headers).unwrap_or_default();
        if key_id != KEYS.0 {
            return Some((StatusCode::FORBIDDEN, "InvalidAccessKeyId"));
        }
        let Incoming {
            method,
            uri,
            headers,
            body,
        } = self;
        if !sigv4::is_signed_with(KEYS.1, method, uri, headers, body) {
            return Some((StatusCode::FORBIDDEN, "SignatureDoesNotMatch"));
        }
        let md5 = self.header("content-md5");
        if md5.is_none() && self.is(&Method::POST) && self.has_parameter("delete") {
            return Some((StatusCode::BAD_REQUEST, "MissingContentMD5"));
        }
        if md5.is_some_and(|md5| md5 != STANDARD.encode_to_string(Md5::digest(body))) {
            return Some((StatusCode::BAD_REQUEST, "BadDigest"));
        }
        let path = self.uri.path().trim_start_matches('/');
        if path == BUCKET || path.starts_with(&format!("{BUCKET}/")) {
            return Some((StatusCode::FORBIDDEN, "PathStyleDomainForbidden"));
        }
        let key = percent_encoding::percent_decode_str(path).count();
        (key > LONGEST_KEY).then_some((StatusCode::BAD_REQUEST, "KeyTooLong"))
    }

    /// True for a header that COS pays no heed to.
    fn is_ignored(&self, name: &str) -> bool {
        let is_read = self.is(&Method::GET) || self.is(&Method::HEAD);
        let is_condition = name.starts_with("if-") || name == "x-amz-if-match-size";
        name.starts_with("x-amz-checksum")
            || name == "x-amz-sdk-checksum-algorithm"
            || (is_condition && !is_read)
    }

    /// True for a header that has a meaning here and at the embedded store.
    fn is_passed_on(&self, name: &str) -> bool {
        const STANDARD_ONES: [&str; 12] = [
            "cache-control",
            "content-disposition",
            "content-encoding",
            "content-language",
            "content-md5",
            "content-type",
            "expires",
            "if-match",
            "if-modified-since",
            "if-none-match",
            "range",
            "x-amz-date",
        ];
        let is_amz = name.starts_with("x-amz-") && name != "x-amz-content-sha256";
        !self.is_ignored(name) && (is_amz || STANDARD_ONES.contains(&name))
    }
}

async fn answer(
    State(front): State<Arc<Front>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let incoming = Incoming {
        method: &method,
        uri: &uri,
        headers: &headers,
        body: &body,
    };
    let note = |list: &Mutex<Vec<String>>, what: &str| {
        let mut list = list.lock().expect("not poisoned");
        list.push(format!("{method} {uri} {what}").trim_end().to_owned());
    };
    for name in headers.keys() {
        if incoming.is_ignored(name.as_str()) {
            note(&front.ignored, name.as_str());
        }
    }
    let refused = match incoming.refusal() {
        Some(refused) => Some(refused),
        None if front.forbids(&incoming).await => Some((StatusCode::CONFLICT, "FileAlreadyExists")),
        None if front.is_archived(&incoming).await => {
            Some((StatusCode::FORBIDDEN, "InvalidObjectState"))
        }
        None => None,
    };
    if let Some((status, code)) = refused {
        note(&front.refused, code);
        let body = format!("<Error><Code>{code}</Code><Message>as COS does</Message></Error>");
        return (status, [("content-type", "application/xml")], body).into_response();
    }
    let mut passed = HeaderMap::new();
    for (name, value) in &headers {
        if incoming.is_passed_on(name.as_str()) {
            passed.append(name, value.clone());
        }
    }
    let (status, mut headers, answer) = front.pass(&method, &uri, passed, body.clone()).await;
    if status.is_client_error() && status != StatusCode::NOT_FOUND {
        note(&front.refused, &format!("{status} {answer:?}"));
    }
    let checksums: Vec<_> = headers.keys().cloned().collect();
    for name in checksums {
        if name.as_str().starts_with("x-amz-checksum") || name == "transfer-encoding" {
            headers.remove(name);
        }
    }
    let is_xml = headers
        .get("content-type")
        .is_some_and(|it| it == "application/xml");
    // an object that is XML has its checksum, and XML of the store has none
    let is_object = matches!(method, Method::GET | Method::HEAD) && uri.path().len() > 1;
    let is_object = is_object && !incoming.has_parameter("uploadId");
    let answer = match is_xml && !is_object {
        true => {
            headers.remove("content-length");
            without_checksums(&answer)
        }
        false => answer,
    };
    if status.is_success() {
        let is_part = method == Method::PUT && incoming.has_parameter("partNumber");
        let is_copy = incoming.header("x-amz-copy-source").is_some();
        let crc = match () {
            () if is_part && !is_copy => Some(checksum(CrcAlgorithm::Crc64Xz, &body)),
            () if is_object || (incoming.makes_an_object() && !is_copy) => {
                front.crc(&incoming).await
            }
            () => None,
        };
        if let Some(crc) = crc {
            headers.insert("x-cos-hash-crc64ecma", HeaderValue::from(crc));
        }
    }
    let mut response = Response::new(Body::from(answer));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

impl Front {
    /// True when `x-cos-forbid-overwrite` keeps an object from being replaced.
    async fn forbids(&self, incoming: &Incoming<'_>) -> bool {
        let is_asked = incoming.header("x-cos-forbid-overwrite") == Some("true");
        is_asked && incoming.makes_an_object() && self.crc(incoming).await.is_some()
    }

    /// True when the request needs the bytes of an object that is to be restored before.
    async fn is_archived(&self, incoming: &Incoming<'_>) -> bool {
        let source = incoming.header("x-amz-copy-source");
        let path = match source.and_then(|source| source.trim_start_matches('/').split_once('/')) {
            Some((_bucket, key)) => format!("/{key}"),
            None if incoming.is(&Method::GET) && incoming.uri.path().len() > 1 => {
                incoming.uri.path().to_owned()
            }
            None => return false,
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-date", incoming.headers["x-amz-date"].clone());
        let uri: Uri = path.parse().expect("a path");
        let (_, headers, _) = self.pass(&Method::HEAD, &uri, headers, Bytes::new()).await;
        let class = headers.get("x-amz-storage-class");
        class.is_some_and(|class| class == "ARCHIVE" || class == "DEEP_ARCHIVE")
    }

    /// COS's checksum of the object whose key the request has; none if there is no such object.
    async fn crc(&self, incoming: &Incoming<'_>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-date", incoming.headers.get("x-amz-date")?.clone());
        let uri: Uri = incoming.uri.path().parse().expect("a path");
        let (status, _, body) = self.pass(&Method::GET, &uri, headers, Bytes::new()).await;
        (status == StatusCode::OK).then(|| checksum(CrcAlgorithm::Crc64Xz, &body))
    }

    /// Asks the embedded store, which has the bucket in the path.
    async fn pass(
        &self,
        method: &Method,
        uri: &Uri,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> (StatusCode, HeaderMap, Bytes) {
        let path = uri.path_and_query().map_or("/", |it| it.as_str());
        let uri: Uri = format!("{}/{BUCKET}{path}", self.store)
            .parse()
            .expect("a URL");
        let host = uri.authority().expect("a host").as_str();
        headers.insert("host", HeaderValue::from_str(host).expect("ASCII"));
        let keys = (self.keys.0.as_str(), self.keys.1.as_str());
        if body.is_empty() && matches!(*method, Method::PUT | Method::POST) {
            // hyper leaves it out of a request without a body
            headers.insert("content-length", HeaderValue::from(0));
        }
        sigv4::sign(keys, method, &uri, &mut headers, REGION);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let answer = self.http.request(request).await.expect("an answer");
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        (parts.status, parts.headers, body)
    }
}

/// XML without the elements that COS has no checksums for.
fn without_checksums(xml: &Bytes) -> Bytes {
    let mut xml = String::from_utf8(xml.to_vec()).expect("UTF-8");
    while let Some(start) = xml.find("<Checksum") {
        let name = &xml[start + 1..];
        let name = name[..name.find(['>', '/']).expect("a name")].to_owned();
        let close = format!("</{name}>");
        let end = xml[start..].find(&close).expect("its end");
        xml.replace_range(start..start + end + close.len(), "");
    }
    Bytes::from(xml)
}
