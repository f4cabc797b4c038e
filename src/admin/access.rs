//! Access to the status page: it shows names of users and files, so not everybody who reaches the port.
//!
//! - With `admin.token`: who sends it, as `Authorization: Bearer` or as the password of HTTP Basic with any user name, which
//!   is what a browser can ask for.
//! - Without it, only where the port is bound to a loopback address. A web page in a browser on this host must not read it
//!   either, by a name of its own that leads to 127.0.0.1 (DNS rebinding); so `Host` has to be an address or `localhost`.
//! - Otherwise nobody; the answer says what to set.

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::config;

/// The rule in force.
#[derive(Debug)]
pub enum Access {
    /// `admin.status` is off.
    Off,
    /// Everybody could come, and there is no token.
    Unprotected,
    /// Clients on this host.
    Local,
    /// Clients with the token of this digest.
    Token([u8; 32]),
}

/// A header that is longer than any with a good token is not looked at.
const MAX_HEADER: usize = 1024;

impl Access {
    /// For a port that is bound to `bound`.
    pub fn new(config: &config::Admin, bound: IpAddr) -> Self {
        match &config.token {
            _ if !config.status => Access::Off,
            Some(token) => Access::Token(digest(token)),
            None if bound.is_loopback() => Access::Local,
            None => Access::Unprotected,
        }
    }

    /// Lets a request in, or says why not.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match self {
            Access::Off => Err(Refused::Off),
            Access::Unprotected => Err(Refused::Unprotected),
            Access::Local if is_local(headers) => Ok(()),
            Access::Local => Err(Refused::WrongHost),
            Access::Token(wanted) => {
                let given = headers.get(AUTHORIZATION).and_then(given);
                // digests have one length, so not even that of the token shows in the time this takes
                match given.map(|token| digest(&token).ct_eq(wanted).into()) {
                    Some(true) => Ok(()),
                    Some(false) => Err(Refused::WrongToken),
                    None => Err(Refused::Token),
                }
            }
        }
    }
}

/// Why somebody doesn't see the page; the text is the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// See [`Access::Off`].
    #[error("The status page is off (admin.status). /livez, /readyz and /metrics are here.")]
    Off,
    /// See [`Access::Unprotected`].
    #[error(
        "The status page is off: it shows names of users and files, and admin.listen can be reached from other machines. \
         Set admin.token (COSGATE_ADMIN__TOKEN, or COSGATE_ADMIN__TOKEN_FILE with a file's name) and ask with it. \
         /livez, /readyz and /metrics are here."
    )]
    Unprotected,
    /// See [`Access::Local`].
    #[error(
        "The status page is for this host only, as http://localhost or by its address. Set admin.token to reach it by \
         another name."
    )]
    WrongHost,
    /// See [`Access::Token`].
    #[error(
        "The status page wants admin.token: as the password of any user name, or as Authorization: Bearer."
    )]
    Token,
    /// Somebody guesses, or has an old one.
    #[error("This is not admin.token.")]
    WrongToken,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self {
            Refused::Off => StatusCode::NOT_FOUND,
            Refused::Unprotected | Refused::WrongHost => StatusCode::FORBIDDEN,
            Refused::Token | Refused::WrongToken => StatusCode::UNAUTHORIZED,
        };
        let mut answer = (status, format!("{self}\n")).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = "Basic realm=\"cosgate status\", charset=\"UTF-8\"";
            let headers = answer.headers_mut();
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
        answer
    }
}

/// The token in the header, if there is one.
fn given(header: &HeaderValue) -> Option<SecretString> {
    let text = header
        .to_str()
        .ok()
        .filter(|text| text.len() <= MAX_HEADER)?;
    let (scheme, value) = text.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(SecretString::from(value));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    // RFC 7617: base64 of `user:password`
    let decoded = base64_simd::STANDARD.decode_to_vec(value).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (_, password) = decoded.split_once(':')?;
    Some(SecretString::from(password))
}

fn digest(token: &SecretString) -> [u8; 32] {
    Sha256::digest(token.expose_secret().as_bytes()).into()
}

fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        // a browser always sends one
        return true;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost")
        || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn access(status: bool, token: Option<&str>, bound: &str) -> Access {
        let config = config::Admin {
            listen: None,
            status,
            token: token.map(SecretString::from),
            store_outage: config::StoreOutage::Note,
        };
        Access::new(&config, bound.parse().expect("an address"))
    }

    /// The status of the answer to a request with this header; 200 is the page.
    fn answer(access: &Access, name: &'static str, value: &str) -> u16 {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("a header"));
        access.check(&headers).map_or_else(
            |refused| refused.into_response().status().as_u16(),
            |()| 200,
        )
    }

    #[test]
    fn the_token_comes_as_bearer_or_as_basic_password_and_no_other_way() {
        let access = access(true, Some(TOKEN), "0.0.0.0");
        let basic = |pair: &str| {
            let encoded = base64_simd::STANDARD.encode_to_string(pair);
            format!("Basic {encoded}")
        };
        for (value, status) in [
            (format!("Bearer {TOKEN}"), 200),
            (format!("bearer  {TOKEN}"), 200),
            (basic(&format!("anybody:{TOKEN}")), 200),
            (basic(&format!(":{TOKEN}")), 200),
            (basic(TOKEN), 401),
            (basic(&format!("{TOKEN}:")), 401),
            (format!("Bearer {TOKEN}0"), 401),
            (format!("Bearer {}", &TOKEN[1..]), 401),
            ("Bearer ".to_owned(), 401),
            ("Basic %%%".to_owned(), 401),
            (TOKEN.to_owned(), 401),
            (format!("Bearer {TOKEN}{}", " ".repeat(2000)), 401),
        ] {
            assert_eq!(answer(&access, "authorization", &value), status, "{value}");
        }
        assert_eq!(answer(&access, "host", "localhost"), 401);
    }

    #[test]
    fn without_a_token_the_page_is_for_this_host_only() {
        let local = access(true, None, "127.0.0.1");
        for (host, status) in [
            ("localhost:8080", 200),
            ("127.0.0.1", 200),
            ("[::1]:8080", 200),
            ("rebinding.example:8080", 403),
            ("localhost.example", 403),
        ] {
            assert_eq!(answer(&local, "host", host), status, "{host}");
        }
        for bound in ["0.0.0.0", "10.0.0.7", "::"] {
            let open = access(true, None, bound);
            assert_eq!(answer(&open, "host", "localhost"), 403, "{bound}");
        }
        let off = access(false, Some(TOKEN), "127.0.0.1");
        let bearer = format!("Bearer {TOKEN}");
        assert_eq!(answer(&off, "authorization", &bearer), 404);
    }
}
