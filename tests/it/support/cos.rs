//! A double of Tencent COS: it keeps objects in memory and answers with COS's own checksum header, right or wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use crc_fast::{CrcAlgorithm, checksum};
use md5::{Digest, Md5};

use super::cloud::Issuer;

pub struct CosDouble {
    pub address: SocketAddr,
    pub state: Arc<CosState>,
}

#[derive(Default)]
pub struct CosState {
    pub objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// By upload and number.
    parts: Mutex<BTreeMap<(String, u32), Vec<u8>>>,
    /// Multipart uploads begun, completed and aborted.
    pub uploads: Mutex<[usize; 3]>,
    /// Answer with checksums of something else.
    pub lie: AtomicBool,
    /// Copy the whole object into a part, whatever range is asked for.
    pub ignores_ranges: AtomicBool,
    /// Answer without the checksum, as stores do that only speak COS's language.
    pub omits_crc: AtomicBool,
    /// Answer to parts with the ETag of something else.
    pub wrong_etags: AtomicBool,
    /// `x-amz-meta-cosgate-id` of objects by key, and of multipart uploads by id.
    marks: Mutex<BTreeMap<String, String>>,
    /// Headers of the last write.
    pub last_headers: Mutex<HeaderMap>,
    /// The answer of GetBucketVersioning.
    pub versioning: Mutex<Option<&'static str>>,
    /// Whose credentials are taken; none: everybody is served.
    pub guard: Mutex<Option<Arc<Issuer>>>,
}

impl CosDouble {
    pub async fn start() -> Self {
        let state = Arc::new(CosState::default());
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&state));
        let app = app.layer(axum::extract::DefaultBodyLimit::disable());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        CosDouble { address, state }
    }
}

impl CosState {
    fn mark(&self, of: String, headers: &HeaderMap) {
        let mark = headers.get("x-amz-meta-cosgate-id").expect("a mark");
        let mark = mark.to_str().expect("ASCII").to_owned();
        self.marks.lock().expect("not poisoned").insert(of, mark);
    }

    fn mark_of(&self, of: &str) -> String {
        let marks = self.marks.lock().expect("not poisoned");
        marks.get(of).cloned().unwrap_or_default()
    }
}

async fn answer(
    state: State<Arc<CosState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let omits_crc = state.omits_crc.load(Ordering::SeqCst);
    let mut response = answer_whole(state, method, uri, headers, body).await;
    if omits_crc {
        response.headers_mut().remove("x-cos-hash-crc64ecma");
    }
    response
}

async fn answer_whole(
    State(state): State<Arc<CosState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let guard = state.guard.lock().expect("not poisoned").clone();
    if let Some(code) = guard.and_then(|it| it.refusal(&method, &uri, &headers, &body)) {
        let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
        return (StatusCode::FORBIDDEN, xml(&body)).into_response();
    }
    let key = uri.path().to_owned();
    for header in headers.keys() {
        // COS refuses trailers and ignores these; a client that sends them relies on what isn't there
        assert!(!header.as_str().starts_with("x-amz-checksum"), "{header}");
    }
    if matches!(method.as_str(), "PUT" | "POST") {
        // documented as required, for requests without a body, too
        assert!(headers.contains_key("content-length"), "{method} {uri}");
    }
    let encoding = headers
        .get("content-encoding")
        .map(|value| value.to_str().expect("ASCII").to_owned());
    assert_ne!(encoding.as_deref(), Some("aws-chunked"));
    let crc = |bytes: &[u8]| {
        let crc = checksum(CrcAlgorithm::Crc64Xz, bytes);
        if state.lie.load(Ordering::SeqCst) {
            crc ^ 1
        } else {
            crc
        }
        .to_string()
    };
    let parameters: Vec<&str> = uri.query().unwrap_or_default().split('&').collect();
    let begins = parameters
        .iter()
        .any(|parameter| matches!(*parameter, "uploads" | "uploads="));
    let number = parameters
        .iter()
        .find_map(|parameter| parameter.strip_prefix("partNumber="));
    let upload = parameters
        .iter()
        .find_map(|parameter| parameter.strip_prefix("uploadId="));
    let upload = upload.unwrap_or_default().to_owned();
    if method == Method::GET && parameters.iter().any(|it| it.starts_with("versioning")) {
        let status = *state.versioning.lock().expect("not poisoned");
        let status = status.map_or_else(String::new, |status| format!("<Status>{status}</Status>"));
        return xml(&format!(
            "<VersioningConfiguration>{status}</VersioningConfiguration>"
        ));
    }
    let named = !upload.is_empty();
    match (method.as_str(), begins, number, named) {
        ("POST", true, ..) => {
            let mut uploads = state.uploads.lock().expect("not poisoned");
            uploads[0] += 1;
            let nth = uploads[0];
            state.mark(format!("u{nth}"), &headers);
            xml(&format!(
                "<InitiateMultipartUploadResult><UploadId>u{nth}</UploadId></InitiateMultipartUploadResult>",
            ))
        }
        ("PUT", _, Some(number), _) if headers.contains_key("x-amz-copy-source") => {
            let Some(range) = copied(&state, &headers) else {
                return StatusCode::NOT_FOUND.into_response();
            };
            let etag = hex(&range);
            let number = number.parse().expect("a number");
            let mut parts = state.parts.lock().expect("not poisoned");
            parts.insert((upload, number), range);
            xml(&format!(
                "<CopyPartResult><ETag>\"{etag}\"</ETag></CopyPartResult>"
            ))
        }
        ("GET", _, _, true) => {
            let parts = state.parts.lock().expect("not poisoned");
            let listed = parts.iter().filter(|((of, _), _)| *of == upload);
            let listed: String = listed
                .map(|((_, number), part)| {
                    let (etag, bytes) = (hex(part), part.len());
                    format!("<Part><PartNumber>{number}</PartNumber><ETag>\"{etag}\"</ETag><Size>{bytes}</Size></Part>")
                })
                .collect();
            xml(&format!(
                "<ListPartsResult><IsTruncated>false</IsTruncated>{listed}</ListPartsResult>"
            ))
        }
        ("PUT", _, Some(number), _) => {
            let wrong = state.wrong_etags.load(Ordering::SeqCst);
            let etag = hex(if wrong { b"something else" } else { &body });
            let answer = [
                ("x-cos-hash-crc64ecma", crc(&body)),
                ("etag", format!("\"{etag}\"")),
            ];
            state
                .parts
                .lock()
                .expect("not poisoned")
                .insert((upload, number.parse().expect("a number")), body.to_vec());
            answer.into_response()
        }
        ("POST", _, _, true) => {
            state.uploads.lock().expect("not poisoned")[1] += 1;
            let mut parts = state.parts.lock().expect("not poisoned");
            let whole = parts.extract_if(.., |(of, _), _| *of == upload);
            let whole: Vec<u8> = whole.flat_map(|(_, part)| part).collect();
            let header = [("x-cos-hash-crc64ecma", crc(&whole))];
            let mark = state.mark_of(&upload);
            state
                .marks
                .lock()
                .expect("not poisoned")
                .insert(key.clone(), mark);
            state
                .objects
                .lock()
                .expect("not poisoned")
                .insert(key, whole);
            let body = "<CompleteMultipartUploadResult><ETag>\"x-1\"</ETag></CompleteMultipartUploadResult>";
            (header, xml(body)).into_response()
        }
        ("DELETE", _, _, true) => {
            state.uploads.lock().expect("not poisoned")[2] += 1;
            StatusCode::NO_CONTENT.into_response()
        }
        ("DELETE", ..) => {
            state.objects.lock().expect("not poisoned").remove(&key);
            StatusCode::NO_CONTENT.into_response()
        }
        ("PUT", ..) => {
            let md5 = headers
                .get("content-md5")
                .expect("COS looks at it before the object is visible");
            assert_eq!(
                md5.to_str().expect("ASCII"),
                base64_simd::STANDARD.encode_to_string(Md5::digest(&body))
            );
            let mut objects = state.objects.lock().expect("not poisoned");
            if headers.contains_key("x-cos-forbid-overwrite") && objects.contains_key(&key) {
                let body = "<Error><Code>FileAlreadyExists</Code></Error>";
                return (StatusCode::CONFLICT, xml(body)).into_response();
            }
            let etag = format!("\"{}\"", hex(&body));
            let answer = [("x-cos-hash-crc64ecma", crc(&body)), ("etag", etag)];
            state.mark(key.clone(), &headers);
            objects.insert(key, body.to_vec());
            *state.last_headers.lock().expect("not poisoned") = headers;
            answer.into_response()
        }
        ("HEAD", ..) => match state.objects.lock().expect("not poisoned").get(&key) {
            Some(bytes) => [
                ("content-length", bytes.len().to_string()),
                ("etag", format!("\"{}\"", hex(bytes))),
                ("x-cos-hash-crc64ecma", crc(bytes)),
                ("x-amz-meta-cosgate-id", state.mark_of(&key)),
            ]
            .into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        ("GET", ..) => match state.objects.lock().expect("not poisoned").get(&key) {
            Some(bytes) => part_of(bytes, &headers, crc(bytes)),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        _ => StatusCode::NOT_IMPLEMENTED.into_response(),
    }
}

/// The source of UploadPartCopy.
fn copied(state: &CosState, headers: &HeaderMap) -> Option<Vec<u8>> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let source = text("x-amz-copy-source")?;
    let (_bucket, key) = source.split_once('/')?;
    let objects = state.objects.lock().expect("not poisoned");
    // by path, as an address without a name is asked, or by the bucket's own name
    let by_path = objects.get(&format!("/{source}"));
    let bytes = by_path.or_else(|| objects.get(&format!("/{key}")))?;
    let range = text("x-amz-copy-source-range")?.strip_prefix("bytes=")?;
    let (from, to) = range.split_once('-')?;
    let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
    if state.ignores_ranges.load(Ordering::SeqCst) {
        return Some(bytes.clone());
    }
    Some(bytes.get(from..=to)?.to_vec())
}

/// The range that is asked for, `bytes=FROM-TO` or `bytes=FROM-`, or all.
fn part_of(bytes: &[u8], headers: &HeaderMap, crc: String) -> Response {
    let etag = ("etag", format!("\"{}\"", hex(bytes)));
    let range = headers.get("range").and_then(|value| value.to_str().ok());
    let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((from, to)) = range else {
        return ([etag, ("x-cos-hash-crc64ecma", crc)], bytes.to_vec()).into_response();
    };
    let last = bytes.len() - 1;
    let from: usize = from.parse().expect("a number");
    let to = to.parse().map_or(last, |to: usize| to.min(last));
    let content_range = format!("bytes {from}-{to}/{}", bytes.len());
    // that of the whole object, as with each of COS's answers
    let headers = [
        etag,
        ("content-range", content_range),
        ("x-cos-hash-crc64ecma", crc),
    ];
    (
        StatusCode::PARTIAL_CONTENT,
        headers,
        bytes[from..=to].to_vec(),
    )
        .into_response()
}

fn hex(bytes: &[u8]) -> String {
    Md5::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn xml(body: &str) -> Response {
    (
        [("content-type", "application/xml")],
        format!("<?xml version=\"1.0\"?>{body}"),
    )
        .into_response()
}
