//! Checks the signature of a request as a store does.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>

use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use sha2::{Digest, Sha256};

/// The key id that `headers` name.
pub fn key_id(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get("authorization")?.to_str().ok()?;
    authorization.split("Credential=").nth(1)?.split('/').next()
}

/// True if the request was signed with `secret`, and its body is the one that was signed.
pub fn is_signed_with(
    secret: &str,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = text("authorization").unwrap_or_default();
    let field = |name: &str| {
        let rest = authorization.split(name).nth(1).unwrap_or_default();
        rest.split(',').next().unwrap_or_default()
    };
    let (scope, signed) = (field("Credential="), field("SignedHeaders="));
    let scope = scope.split_once('/').map_or("", |(_, scope)| scope);
    let payload = text("x-amz-content-sha256").unwrap_or_default();
    let signature = signature(secret, method, uri, headers, (scope, signed));
    let body_is_signed = payload == "UNSIGNED-PAYLOAD" || payload == hex(&Sha256::digest(body));
    body_is_signed && field("Signature=") == signature
}

/// Signs what `headers` have, in the name of a client that signed for another one: with its time, region and no hash of a body.
pub fn sign(
    (key_id, secret): (&str, &str),
    method: &Method,
    uri: &Uri,
    headers: &mut HeaderMap,
    region: &str,
) {
    headers.insert(
        "x-amz-content-sha256",
        HeaderValue::from_static("UNSIGNED-PAYLOAD"),
    );
    let mut signed: Vec<&str> = headers.keys().map(|name| name.as_str()).collect();
    signed.sort_unstable();
    let signed = signed.join(";");
    let day = headers["x-amz-date"].to_str().expect("ASCII")[..8].to_owned();
    let scope = format!("{day}/{region}/s3/aws4_request");
    let signature = signature(secret, method, uri, headers, (&scope, &signed));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={signed}, Signature={signature}"
    );
    let authorization = HeaderValue::from_str(&authorization).expect("ASCII");
    headers.insert("authorization", authorization);
}

/// The signature over the `signed` headers, for a scope.
fn signature(
    secret: &str,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    (scope, signed): (&str, &str),
) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut parameters: Vec<String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| match parameter.contains('=') {
            true => parameter.to_owned(),
            false => format!("{parameter}="),
        })
        .collect();
    parameters.sort();
    let lines: String = signed
        .split(';')
        .map(|name| format!("{name}:{}\n", text(name).unwrap_or_default().trim()))
        .collect();
    let payload = text("x-amz-content-sha256").unwrap_or_default();
    let canonical = format!(
        "{method}\n{}\n{}\n{lines}\n{signed}\n{payload}",
        uri.path(),
        parameters.join("&")
    );
    let time = text("x-amz-date").unwrap_or_default();
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        hex(&Sha256::digest(canonical))
    );
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = hmac(&key, part.as_bytes());
    }
    hex(&hmac(&key, to_sign.as_bytes()))
}

/// HMAC-SHA-256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    match key.len() > 64 {
        true => block[..32].copy_from_slice(&Sha256::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message);
    let outer = Sha256::new().chain_update(pad(0x5c));
    outer.chain_update(inner.finalize()).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
