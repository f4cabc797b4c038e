//! One small question over HTTP, with every bound that it needs: time, size, attempts.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use tokio::time::{sleep, timeout};

use crate::chain::Chain;
use crate::http_client::{self, HttpClient};

/// A request, whole.
pub(super) type HttpRequest = hyper::Request<Full<Bytes>>;

/// Asks services of the cloud; never through a proxy, which would see what they answer.
#[derive(Debug)]
pub(super) struct Http(HttpClient);

/// The answer.
pub(super) struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// At most [`MAX_ANSWER`] bytes.
    pub body: Vec<u8>,
}

/// No answer. The text is the whole chain of causes, and holds nothing of question or answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0}")]
    Transport(String),
    #[error("nothing came within {ATTEMPT_TIME:?}")]
    Time,
    #[error("the answer is larger than {MAX_ANSWER} bytes")]
    Size,
    #[error("the address is wrong: {0}")]
    Address(String),
    #[error("status {0}")]
    Status(u16),
}

impl Http {
    /// A client with a pool of its own; no connection is made.
    pub fn new() -> Self {
        let client = http_client::client_with_connect_timeout(CONNECT_TIME);
        Http(client.expect("aws-lc-rs has the default versions of TLS"))
    }

    /// The answer to `request`, made anew for each attempt; `again` says which answers pass with time.
    pub async fn ask(
        &self,
        request: impl Fn() -> Result<HttpRequest, HttpError>,
        again: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, HttpError> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let answer = match timeout(ATTEMPT_TIME, self.once(request()?)).await {
                Ok(answer) => answer,
                Err(_) => Err(HttpError::Time),
            };
            let is_last = attempt == ATTEMPTS;
            match answer {
                Ok(answer) if is_last && answer.status >= 500 => {
                    return Err(HttpError::Status(answer.status));
                }
                Ok(answer) if is_last || !again(&answer) && answer.status < 500 => {
                    return Ok(answer);
                }
                Err(error) if is_last || matches!(error, HttpError::Size) => return Err(error),
                Ok(_) | Err(_) => {}
            }
            sleep(jittered(pause)).await;
            pause *= 4;
        }
        unreachable!("the last attempt returns")
    }

    async fn once(&self, request: HttpRequest) -> Result<Answer, HttpError> {
        let answered = self.0.request(request).await;
        let response = answered.map_err(|error| HttpError::Transport(Chain(&error).to_string()))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => HttpError::Size,
            false => HttpError::Transport(Chain(&*error).to_string()),
        })?;
        let body = body.to_bytes().to_vec();
        Ok(Answer { status, body })
    }
}

/// Half to all of `pause`: many gateways that start at once don't ask at once.
fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

/// A service's message, on one line, bounded, and without `secret` or a part of it.
pub(super) fn words(text: &str, secret: &str) -> String {
    let mut text = text.to_owned();
    // a JSON Web Token is three parts between dots, each of which says something
    for part in std::iter::once(secret).chain(secret.split('.')) {
        if part.len() >= 8 {
            text = text.replace(part, "***");
        }
    }
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_WORDS)
        .collect();
    line.trim().to_owned()
}

/// A metadata service is on the same host, a token service in the same region.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// Connecting, asking and being answered.
const ATTEMPT_TIME: Duration = Duration::from_secs(4);

/// With the pauses between them within the time that a source has in all.
const ATTEMPTS: u32 = 3;

/// The pause after the first attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Tokens have a few KiB.
const MAX_ANSWER: usize = 64 * 1024;

/// The longest error text that goes into a log line, in characters.
const MAX_WORDS: usize = 300;

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn what_a_service_says_is_one_line_without_the_token() {
        let token = "eyJhbGciOiJS.eyJzdWIiOiJz.c2lnbmF0dXJl";
        let text = format!("bad\r\ntoken {token} and eyJzdWIiOiJz");
        assert_eq!(words(&text, token), "bad  token *** and ***");
        assert_eq!(words(&"x".repeat(9000), token).len(), 300);
    }
}
