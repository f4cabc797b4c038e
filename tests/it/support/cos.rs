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

pub struct CosDouble {
    pub address: SocketAddr,
    pub state: Arc<CosState>,
}

#[derive(Default)]
pub struct CosState {
    pub objects: Mutex<BTreeMap<String, Vec<u8>>>,
    parts: Mutex<BTreeMap<u32, Vec<u8>>>,
    /// Multipart uploads begun, completed and aborted.
    pub uploads: Mutex<[usize; 3]>,
    /// Answer with checksums of something else.
    pub lie: AtomicBool,
    /// Headers of the last write.
    pub last_headers: Mutex<HeaderMap>,
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

async fn answer(
    State(state): State<Arc<CosState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let key = uri.path().to_owned();
    for header in headers.keys() {
        // COS refuses trailers and ignores these; a client that sends them relies on what isn't there
        assert!(!header.as_str().starts_with("x-amz-checksum"), "{header}");
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
    let named = parameters
        .iter()
        .any(|parameter| parameter.starts_with("uploadId="));
    match (method.as_str(), begins, number, named) {
        ("POST", true, ..) => {
            state.uploads.lock().expect("not poisoned")[0] += 1;
            xml(
                "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>",
            )
        }
        ("PUT", _, Some(number), _) => {
            let etag = hex(&body);
            let answer = [
                ("x-cos-hash-crc64ecma", crc(&body)),
                ("etag", format!("\"{etag}\"")),
            ];
            state
                .parts
                .lock()
                .expect("not poisoned")
                .insert(number.parse().expect("a number"), body.to_vec());
            answer.into_response()
        }
        ("POST", _, _, true) => {
            state.uploads.lock().expect("not poisoned")[1] += 1;
            let whole = std::mem::take(&mut *state.parts.lock().expect("not poisoned"));
            let whole: Vec<u8> = whole.into_values().flatten().collect();
            let header = [("x-cos-hash-crc64ecma", crc(&whole))];
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
            objects.insert(key, body.to_vec());
            *state.last_headers.lock().expect("not poisoned") = headers;
            answer.into_response()
        }
        ("HEAD", ..) => match state.objects.lock().expect("not poisoned").get(&key) {
            Some(bytes) => [
                ("content-length", bytes.len().to_string()),
                ("etag", format!("\"{}\"", hex(bytes))),
                ("x-cos-hash-crc64ecma", crc(bytes)),
            ]
            .into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        _ => StatusCode::NOT_IMPLEMENTED.into_response(),
    }
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
