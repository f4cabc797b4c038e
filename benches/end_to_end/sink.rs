//! The sink: an S3 server that throws every body away and makes up every body that it serves.
//!
//! It runs in a process of its own. So its CPU time and memory are counted apart, it shares no allocator and no runtime
//! with a client, and the direct client and the gateway reach it in the same way, over TCP. It gets its orders on its
//! standard input, and ends when that closes: nothing stays behind, however the benchmark ends.
//!
//! It doesn't check signatures, or compute a checksum of what it throws away. A checksum that a client sends, as
//! a header or as a trailer, is believed and echoed, and the CRC-64/NVME of a whole object is combined from those of its
//! parts, as a real store would answer. So a client's own comparison costs the client what it costs elsewhere, and the
//! store nothing. The ETag is the MD5 if the client sent Content-MD5 or the sink was started with `--etag md5`, and
//! otherwise a tag that no client takes for one.
//!
//! HTTP and HTTPS come in at the same port: a first byte of 0x16 begins a TLS handshake (RFC 8446, section 5.1).

mod answer;
mod received;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64_simd::STANDARD;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum, checksum_combine};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use self::answer::{BLOCK, Content, acknowledged, error, insert, reply, xml};
use self::received::{Received, content_bytes, md5_etag, sent_checksums, swallow, text};
use crate::objects::{Object, Objects, Part, Query};
use crate::wire::Cipher;

const CRC64NVME: &str = "x-amz-checksum-crc64nvme";

struct Sink {
    objects: Mutex<Objects>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    latency: Mutex<Duration>,
    md5_etags: bool,
    block: Bytes,
}

/// Serves until standard input closes; what shows its certificate is at `certificate` then. Prints its port first, then one line per command:
///
/// - `object KEY SIZE`: from now on there is such an object
/// - `generate PREFIX COUNT SIZE`: so many objects below a prefix
/// - `latency MICROSECONDS`: each answer waits for so long
/// - `counts`: requests by operation since the last time, as `Operation=COUNT ...`
pub fn run(port: u16, md5_etags: bool, cipher: Cipher, certificate: &Path) -> io::Result<()> {
    let acceptor = acceptor(cipher, certificate)?;
    let sink = Arc::new(Sink {
        objects: Mutex::default(),
        counts: Mutex::default(),
        latency: Mutex::default(),
        md5_etags,
        block: crate::pattern(BLOCK).into(),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port)))?;
    println!("{}", listener.local_addr()?.port());
    runtime.spawn(accept(listener, acceptor, Arc::clone(&sink)));
    for line in io::stdin().lock().lines() {
        println!("{}", sink.obey(&line?));
        io::stdout().flush()?;
    }
    runtime.shutdown_background();
    Ok(())
}

/// TLS with a certificate that is made now and written to a file, so that it can be trusted.
fn acceptor(cipher: Cipher, certificate: &Path) -> io::Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
    let made = made.map_err(io::Error::other)?;
    std::fs::write(certificate, made.cert.pem())?;
    let config = ServerConfig::builder_with_provider(cipher.provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|config| {
            let chain = vec![made.cert.der().clone()];
            let config = config.with_no_client_auth();
            config.with_single_cert(chain, made.signing_key.into())
        });
    Ok(TlsAcceptor::from(Arc::new(
        config.map_err(io::Error::other)?,
    )))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, sink: Arc<Sink>) {
    while let Ok((socket, _)) = listener.accept().await {
        // an answer is a small write behind a large read: Nagle against delayed ACK would cost 40 ms
        let _ = socket.set_nodelay(true);
        let (sink, acceptor) = (Arc::clone(&sink), acceptor.clone());
        tokio::spawn(async move {
            // a client that goes away in the middle is its own affair
            if is_tls(&socket).await {
                if let Ok(socket) = acceptor.accept(socket).await {
                    serve(socket, sink).await;
                }
            } else {
                serve(socket, sink).await;
            }
        });
    }
}

async fn is_tls(socket: &TcpStream) -> bool {
    let mut first = [0];
    socket.peek(&mut first).await.is_ok() && first[0] == 0x16
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin, sink: Arc<Sink>) {
    let answer = service_fn(move |request| answer(Arc::clone(&sink), request));
    let serving = hyper::server::conn::http1::Builder::new()
        .max_buf_size(BLOCK)
        .serve_connection(TokioIo::new(socket), answer);
    let _ = serving.await;
}

async fn answer(
    sink: Arc<Sink>,
    request: Request<Incoming>,
) -> Result<Response<Content>, Infallible> {
    let call = Call::of(&request);
    *lock(&sink.counts).entry(call.operation()).or_default() += 1;
    let (head, body) = request.into_parts();
    let received = match swallow(body, sink.md5_etags).await {
        Ok(received) => received,
        Err(_) => return Ok(error(StatusCode::BAD_REQUEST, "IncompleteBody")),
    };
    let latency = *lock(&sink.latency);
    if latency > Duration::ZERO {
        tokio::time::sleep(latency).await;
    }
    Ok(sink.answer(&call, &head.headers, received))
}

/// One request, as far as it says which operation is meant.
struct Call {
    method: Method,
    bucket: String,
    key: String,
    query: BTreeMap<String, String>,
    copy: bool,
}

impl Call {
    fn of<B>(request: &Request<B>) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let path = request.uri().path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let query = request.uri().query().unwrap_or_default().split('&');
        let query = query.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Call {
            method: request.method().clone(),
            bucket: decode(bucket),
            key: decode(key),
            query: query
                .map(|(name, value)| (decode(name), decode(value)))
                .collect(),
            copy: request.headers().contains_key("x-amz-copy-source"),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.query.contains_key(name)
    }

    fn text(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// The operation's name in S3's documentation.
    fn operation(&self) -> &'static str {
        match (self.method.as_str(), self.key.is_empty()) {
            ("HEAD", true) => "HeadBucket",
            ("HEAD", false) => "HeadObject",
            ("GET", true) if self.has("location") => "GetBucketLocation",
            ("GET", true) if self.has("versioning") => "GetBucketVersioning",
            ("GET", true) if self.has("uploads") => "ListMultipartUploads",
            ("GET", true) if self.text("list-type") == "2" => "ListObjectsV2",
            ("GET", true) => "ListObjects",
            ("GET", false) => "GetObject",
            ("PUT", true) => "CreateBucket",
            ("PUT", false) if self.has("partNumber") && self.copy => "UploadPartCopy",
            ("PUT", false) if self.has("partNumber") => "UploadPart",
            ("PUT", false) if self.copy => "CopyObject",
            ("PUT", false) => "PutObject",
            ("POST", false) if self.has("uploads") => "CreateMultipartUpload",
            ("POST", false) if self.has("uploadId") => "CompleteMultipartUpload",
            ("DELETE", false) if self.has("uploadId") => "AbortMultipartUpload",
            ("DELETE", false) => "DeleteObject",
            _ => "Other",
        }
    }
}

impl Sink {
    /// One command of the benchmark.
    fn obey(&self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["object", key, size] => {
                let object = self.made(size);
                lock(&self.objects).put(key.to_owned(), object);
                String::new()
            }
            ["generate", prefix, count, size] => {
                let object = self.made(size);
                let mut objects = lock(&self.objects);
                for number in 0..count.parse::<u64>().unwrap_or_default() {
                    objects.put(crate::small_key(prefix, number), object.clone());
                }
                String::new()
            }
            ["latency", microseconds] => {
                *lock(&self.latency) =
                    Duration::from_micros(microseconds.parse().unwrap_or_default());
                String::new()
            }
            ["counts"] => {
                let counts = std::mem::take(&mut *lock(&self.counts));
                counts
                    .iter()
                    .fold(String::new(), |mut line, (name, count)| {
                        let _ = write!(line, "{name}={count} ");
                        line
                    })
            }
            _ => "what?".to_owned(),
        }
    }

    /// An object that nobody stored, with the checksum of what is served of it.
    fn made(&self, size: &str) -> Object {
        let mut object = Object::of_size(size.parse().unwrap_or_default());
        let (blocks, rest) = (object.size / BLOCK as u64, object.size % BLOCK as u64);
        let of_block = checksum(CrcAlgorithm::Crc64Nvme, &self.block);
        let of_rest = checksum(CrcAlgorithm::Crc64Nvme, &self.block[..rest as usize]);
        let after =
            |whole, part, bytes| checksum_combine(CrcAlgorithm::Crc64Nvme, whole, part, bytes);
        let crc = (0..blocks).fold(0, |whole, _| after(whole, of_block, BLOCK as u64));
        object.checksums = crc64nvme_of_whole(after(crc, of_rest, rest));
        object
    }

    fn answer(&self, call: &Call, headers: &HeaderMap, received: Received) -> Response<Content> {
        match call.operation() {
            "HeadBucket" | "CreateBucket" => reply(StatusCode::OK, ""),
            "GetBucketLocation" => xml("<LocationConstraint/>"),
            "GetBucketVersioning" => xml("<VersioningConfiguration/>"),
            "ListMultipartUploads" => xml(
                "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>",
            ),
            "ListObjects" | "ListObjectsV2" => self.list(call),
            "GetObject" | "HeadObject" => self.read(call, headers),
            "PutObject" => self.put(call, headers, &received),
            "CopyObject" | "UploadPartCopy" => self.copy(call, headers),
            "UploadPart" => self.put_part(call, headers, &received),
            "CreateMultipartUpload" => self.begin(call, headers),
            "CompleteMultipartUpload" => self.complete(call, headers),
            "AbortMultipartUpload" => match lock(&self.objects).abort(call.text("uploadId")) {
                true => reply(StatusCode::NO_CONTENT, ""),
                false => error(StatusCode::NOT_FOUND, "NoSuchUpload"),
            },
            "DeleteObject" => {
                lock(&self.objects).remove(&call.key);
                reply(StatusCode::NO_CONTENT, "")
            }
            _ => error(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        }
    }

    /// A store that knows the algorithm that a client will use for its parts says so.
    fn begin(&self, call: &Call, headers: &HeaderMap) -> Response<Content> {
        let id = lock(&self.objects).begin_upload();
        let mut answer = xml(&format!(
            "<InitiateMultipartUploadResult><Bucket>{}</Bucket><Key/><UploadId>{id}</UploadId>\
             </InitiateMultipartUploadResult>",
            call.bucket
        ));
        for name in ["x-amz-checksum-algorithm", "x-amz-checksum-type"] {
            if let Some(value) = text(headers, name) {
                insert(answer.headers_mut(), name, value);
            }
        }
        answer
    }

    fn list(&self, call: &Call) -> Response<Content> {
        let v2 = call.text("list-type") == "2";
        let token = match v2 {
            true => call.text("continuation-token"),
            false => call.text("marker"),
        };
        let query = Query {
            bucket: &call.bucket,
            prefix: call.text("prefix"),
            delimiter: call.text("delimiter"),
            after: if token.is_empty() {
                call.text("start-after")
            } else {
                token
            },
            max: call
                .text("max-keys")
                .parse()
                .map_or(1000, |max: usize| max.min(1000)),
            v2,
        };
        xml(&lock(&self.objects).list(&query))
    }

    fn read(&self, call: &Call, headers: &HeaderMap) -> Response<Content> {
        let Some(object) = lock(&self.objects).get(&call.key).cloned() else {
            return error(StatusCode::NOT_FOUND, "NoSuchKey");
        };
        if text(headers, "if-match").is_some_and(|etag| etag != object.etag) {
            return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        let range = text(headers, "range").map(|range| bounds(range, object.size));
        let (start, end) = match range {
            None => (0, object.size),
            Some(Some(range)) => range,
            Some(None) => return error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"),
        };
        let mut answer = Response::new(Content::Block {
            block: self.block.clone(),
            position: start,
            end: if call.method == Method::HEAD {
                start
            } else {
                end
            },
        });
        let told = answer.headers_mut();
        if range.is_some() {
            let range = format!("bytes {start}-{}/{}", end.saturating_sub(1), object.size);
            insert(told, "content-range", &range);
        }
        if end - start == object.size {
            for (name, value) in &object.checksums {
                insert(told, name, value);
            }
        }
        insert(told, "content-length", &(end - start).to_string());
        insert(told, "accept-ranges", "bytes");
        insert(told, "content-type", "application/octet-stream");
        insert(told, "etag", &object.etag);
        insert(told, "last-modified", "Thu, 01 Jan 2026 00:00:00 GMT");
        if range.is_some() {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        answer
    }

    fn put(&self, call: &Call, headers: &HeaderMap, received: &Received) -> Response<Content> {
        let mut object = Object::of_size(content_bytes(headers, received));
        object.checksums = sent_checksums(headers, received);
        if let Some(etag) = md5_etag(headers, received) {
            object.etag = etag;
        }
        let answer = acknowledged(&object.etag, &object.checksums);
        lock(&self.objects).put(call.key.clone(), object);
        answer
    }

    fn put_part(&self, call: &Call, headers: &HeaderMap, received: &Received) -> Response<Content> {
        let size = content_bytes(headers, received);
        let checksums = sent_checksums(headers, received);
        let crc64nvme = checksums.iter().find(|(name, _)| name == CRC64NVME);
        let part = Part {
            size,
            crc64nvme: crc64nvme.and_then(|(_, value)| crc_of(value)),
        };
        let number = call.text("partNumber").parse().unwrap_or_default();
        if !lock(&self.objects).put_part(call.text("uploadId"), number, part) {
            return error(StatusCode::NOT_FOUND, "NoSuchUpload");
        }
        let etag = md5_etag(headers, received).unwrap_or_else(|| Object::of_size(size).etag);
        acknowledged(&etag, &checksums)
    }

    fn complete(&self, call: &Call, headers: &HeaderMap) -> Response<Content> {
        let mut objects = lock(&self.objects);
        let Some((mut object, combined)) = objects.complete(call.text("uploadId")) else {
            return error(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        let mut told = String::new();
        let sent = text(headers, CRC64NVME).and_then(crc_of);
        if let (Some(sent), Some(combined)) = (sent, combined)
            && sent != combined
        {
            return error(StatusCode::BAD_REQUEST, "BadDigest");
        }
        if let Some(crc) = combined.or(sent) {
            object.checksums = crc64nvme_of_whole(crc);
            let (_, crc) = &object.checksums[0];
            told = format!(
                "<ChecksumCRC64NVME>{crc}</ChecksumCRC64NVME><ChecksumType>FULL_OBJECT</ChecksumType>"
            );
        }
        let answer = xml(&format!(
            "<CompleteMultipartUploadResult><Location/><Bucket>{}</Bucket><Key/><ETag>{}</ETag>{told}\
             </CompleteMultipartUploadResult>",
            call.bucket,
            object.etag.replace('"', "&quot;")
        ));
        objects.put(call.key.clone(), object);
        answer
    }

    fn copy(&self, call: &Call, headers: &HeaderMap) -> Response<Content> {
        let source = text(headers, "x-amz-copy-source").unwrap_or_default();
        let source = percent_decode_str(source.trim_start_matches('/')).decode_utf8_lossy();
        let key = source.split_once('/').map_or("", |(_, key)| key);
        let mut objects = lock(&self.objects);
        let Some(object) = objects.get(key).cloned() else {
            return error(StatusCode::NOT_FOUND, "NoSuchKey");
        };
        let etag = object.etag.replace('"', "&quot;");
        if call.has("partNumber") {
            let range = text(headers, "x-amz-copy-source-range");
            let (start, end) = range
                .and_then(|range| bounds(range, object.size))
                .unwrap_or((0, object.size));
            let part = Part {
                size: end - start,
                crc64nvme: None,
            };
            let number = call.text("partNumber").parse().unwrap_or_default();
            objects.put_part(call.text("uploadId"), number, part);
            return xml(&format!(
                "<CopyPartResult><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{etag}</ETag></CopyPartResult>"
            ));
        }
        objects.put(call.key.clone(), object);
        xml(&format!(
            "<CopyObjectResult><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{etag}</ETag></CopyObjectResult>"
        ))
    }
}

/// The headers that tell the checksum of a whole object.
fn crc64nvme_of_whole(crc: u64) -> Vec<(String, String)> {
    let crc = STANDARD.encode_to_string(crc.to_be_bytes());
    vec![
        (CRC64NVME.to_owned(), crc),
        ("x-amz-checksum-type".to_owned(), "FULL_OBJECT".to_owned()),
    ]
}

fn crc_of(base64: &str) -> Option<u64> {
    let bytes = STANDARD.decode_to_vec(base64).ok()?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// `bytes=FROM-TO` or `bytes=FROM-`, as a half-open range; `None` if it lies behind the end.
fn bounds(range: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    if from.is_empty() {
        return Some((size.saturating_sub(to.parse().ok()?), size));
    }
    let from = from.parse().ok()?;
    let to = to.parse().map_or(size, |to: u64| (to + 1).min(size));
    (from < to).then_some((from, to))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
