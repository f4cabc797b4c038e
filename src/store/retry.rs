//! Which failed requests are sent again, and how many retries the store gets to see in all.
//!
//! The SDK retries what Amazon's services answer. Here it learns what other stores answer (429, an error in the body of a
//! 200), and what passes if something is done about it: credentials that the store no longer takes are asked for anew, a
//! body that arrived damaged is sent once more.
//!
//! The SDK's own bound on retries is one bucket of tokens per process and region: one store that fails takes the retries
//! of all others away, and 50 sessions empty it within a second. Each store and tenant has a [`Quota`] of its own
//! instead, large enough for every session to make all its attempts at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeSerializationInterceptorContextRef,
    BeforeTransmitInterceptorContextMut, FinalizerInterceptorContextRef, InterceptorContext,
};
use aws_sdk_s3::config::retry::{
    ClassifyRetry, RetryAction, RetryConfig, RetryPartition, TokenBucket,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{Error, Output};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_runtime_api::client::retries::classifiers::RetryClassifierPriority;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use aws_smithy_types::date_time::Format;
use aws_smithy_types::retry::ErrorKind;
use parking_lot::Mutex;
use tracing::debug;

use crate::metrics::Requests;
use crate::store::credentials::Renewed;
use crate::store::http_status::HttpStatus as _;
use crate::store::progress::Progress;

/// Codes that say "later", whatever the status: Amazon's, COS's, Google's, MinIO's and SeaweedFS's.
pub(super) const THROTTLING_CODES: [&str; 9] = [
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "TooManyRequests",
    "TooManyRequestsException",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "RequestThrottled",
];

/// Codes of failures that are the store's own and pass. They come with 5xx, or in the body of a 200
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>, "200 OK response containing an error").
pub(super) const TRANSIENT_CODES: [&str; 6] = [
    "InternalError",
    "InternalServerError",
    "ServiceUnavailable",
    "ServerBusy",
    "RequestTimeout",
    "IncompleteBody",
];

/// Codes for credentials that were good once, or may become good.
pub(super) const CREDENTIAL_CODES: [&str; 5] = [
    "ExpiredToken",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidSecurity",
    "InvalidAccessKeyId",
];

/// Codes for a body that is not what its checksum says.
pub(super) const DAMAGE_CODES: [&str; 3] = [
    "BadDigest",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
];

/// The quota is full again after this time: sessions that fail all the time and begin anew keep their attempts as long as
/// they are a part of those that may be.
const REFILL: Duration = Duration::from_secs(5);

/// A code stands at the beginning of an error's body.
const ERROR_HEAD_BYTES: usize = 4096;

/// The meaning of a failed attempt for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// Too many requests.
    Throttled,
    /// The store, or the way to it.
    Transient,
    /// The body was damaged on its way.
    Damaged,
    /// The store doesn't take the credentials.
    Credentials,
    /// It was signed with another time than the store's.
    Clock,
    /// It would fail again.
    Final,
}

impl Failure {
    /// `None` for a success.
    fn of(
        outcome: Option<Result<&Output, &OrchestratorError<Error>>>,
        response: Option<&HttpResponse>,
    ) -> Option<Self> {
        let Some(Err(error)) = outcome else {
            return None;
        };
        let Some(response) = response else {
            let passes = error.is_timeout_error()
                || error.is_response_error()
                || error.as_connector_error().is_some();
            return Some(if passes { Self::Transient } else { Self::Final });
        };
        let status = response.status().as_u16();
        let code = code(response).unwrap_or_default();
        let is = |codes: &[&str]| codes.contains(&code);
        Some(match status {
            429 => Self::Throttled,
            _ if is(&THROTTLING_CODES) => Self::Throttled,
            _ if is(&CREDENTIAL_CODES) => Self::Credentials,
            _ if is(&DAMAGE_CODES) => Self::Damaged,
            _ if is(&TRANSIENT_CODES) => Self::Transient,
            401 | 403 if response.extension::<SignedAtAnotherTime>().is_some() => Self::Clock,
            408 | 500 | 502 | 503 | 504 => Self::Transient,
            // an answer that can't be read, or broke off
            200..300 if code.is_empty() => Self::Transient,
            _ if error.is_timeout_error() || error.is_response_error() => Self::Transient,
            _ => Self::Final,
        })
    }
}

/// The code of an S3 error.
fn code(response: &HttpResponse) -> Option<&str> {
    let body = response.body().bytes()?;
    let head = &body[..body.len().min(ERROR_HEAD_BYTES)];
    let find = |text: &[u8], what: &[u8]| text.windows(what.len()).position(|at| at == what);
    find(head, b"<Error")?;
    let begin = find(head, b"<Code>")? + b"<Code>".len();
    let end = begin + find(&head[begin..], b"</Code>")?;
    std::str::from_utf8(&head[begin..end]).ok().map(str::trim)
}

/// True for an answer that says that nothing was done: a 4xx, an operation that isn't known, a disk that is full, or "too
/// many requests" in the store's own words. A 503 without them may be a proxy's that lost the store's answer.
pub(super) fn is_refusal(response: &HttpResponse) -> bool {
    match response.status().as_u16() {
        408 => false,
        400..=499 | 501 | 505 | 507 => true,
        _ => code(response).is_some_and(|code| THROTTLING_CODES.contains(&code)),
    }
}

/// Classifies for the SDK what may be sent again.
#[derive(Debug)]
pub(super) struct Classifier;

impl ClassifyRetry for Classifier {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match Failure::of(context.output_or_error(), context.response()) {
            Some(Failure::Throttled) => RetryAction::throttling_error(),
            Some(Failure::Transient) => RetryAction::transient_error(),
            Some(Failure::Damaged | Failure::Credentials | Failure::Clock) => {
                RetryAction::retryable_error(ErrorKind::ClientError)
            }
            Some(Failure::Final) | None => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "Classifier"
    }

    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}

/// The SDK's bucket, out of the way: [`Quota`] takes its place.
pub(super) fn partition() -> RetryPartition {
    RetryPartition::custom("cosgate")
        .token_bucket(TokenBucket::unlimited())
        .build()
}

/// The retries that one store gets to see: a bucket of tokens that refills with time.
#[derive(Debug)]
pub(super) struct Quota {
    capacity: f64,
    state: Mutex<(f64, Instant)>,
}

impl Quota {
    /// For `sessions`, each with up to `requests` at a time of up to `attempts` each.
    pub fn new(sessions: usize, requests: usize, attempts: u32) -> Self {
        let retries = attempts.saturating_sub(1).max(1);
        let capacity = sessions as f64 * requests as f64 * f64::from(retries);
        Quota {
            capacity,
            state: Mutex::new((capacity, Instant::now())),
        }
    }

    fn take(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let (tokens, at) = *state;
        let refilled = now.duration_since(at).as_secs_f64() / REFILL.as_secs_f64() * self.capacity;
        let tokens = (tokens + refilled).min(self.capacity);
        let taken = tokens >= 1.0;
        *state = (if taken { tokens - 1.0 } else { tokens }, now);
        taken
    }
}

/// Decides after each attempt whether there is another one, and does what makes it worthwhile.
#[derive(Debug)]
pub(super) struct Retries {
    quota: Quota,
    renewed: Option<Renewed>,
    requests: Requests,
    /// Time for all attempts in which nothing moves.
    time_limit: Duration,
}

/// The attempts for one request already.
#[derive(Debug, Clone, Default)]
struct Tried(Arc<Mutex<Done>>);

#[derive(Debug, Default)]
struct Done {
    sent_again: bool,
    renewed: bool,
    signed_again: bool,
    /// Of the credentials that signed the last attempt.
    access_key_id: Option<String>,
    /// `x-amz-date` of the last attempt.
    signed_at: Option<String>,
}

/// Marks an answer whose `Date` is another time than its request was signed with.
///
/// The SDK signs with the time that the last answer had. So the first requests after a clock was set right, or after one
/// answer with a wrong date, are refused; the refusal has the right time, and the next attempt is signed with it.
#[derive(Debug, Clone, Copy)]
struct SignedAtAnotherTime;

/// Stores refuse what differs by 15 minutes, some by five.
const TOLERATED_SKEW_SECONDS: u64 = 4 * 60;

/// The value of `x-amz-date`, such as `20261129T071019Z`.
fn signing_time(value: &str) -> Option<DateTime> {
    let (date, time) = value.split_once('T')?;
    let text = format!(
        "{}-{}-{}T{}:{}:{}",
        date.get(0..4)?,
        date.get(4..6)?,
        date.get(6..8)?,
        time.get(0..2)?,
        time.get(2..4)?,
        time.get(4..7)?,
    );
    DateTime::from_str(&text, Format::DateTime).ok()
}

impl Storable for Tried {
    type Storer = StoreReplace<Self>;
}

impl Retries {
    pub fn new(
        quota: Quota,
        renewed: Option<Renewed>,
        requests: Requests,
        time_limit: Duration,
    ) -> Self {
        Retries {
            quota,
            renewed,
            requests,
            time_limit,
        }
    }

    fn is_worthwhile(&self, failure: Failure, config: &ConfigBag) -> bool {
        let Some(Tried(done)) = config.load::<Tried>() else {
            return true;
        };
        let mut done = done.lock();
        match failure {
            Failure::Throttled | Failure::Transient => {
                !config.load::<Progress>().is_some_and(Progress::is_over)
            }
            Failure::Damaged => !std::mem::replace(&mut done.sent_again, true),
            Failure::Clock => !std::mem::replace(&mut done.signed_again, true),
            Failure::Credentials => {
                !std::mem::replace(&mut done.renewed, true)
                    && self.renewed.as_ref().is_some_and(|renewed| {
                        renewed.reject(done.access_key_id.as_deref().unwrap_or_default())
                    })
            }
            Failure::Final => false,
        }
    }
}

impl Intercept for Retries {
    fn name(&self) -> &'static str {
        "Retries"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let state = config.interceptor_state();
        state.store_put(Tried::default());
        state.store_put(Progress::new(self.time_limit));
        Ok(())
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        if let Some(Tried(done)) = config.load::<Tried>() {
            let mut done = done.lock();
            let headers = request.headers();
            done.signed_at = headers.get("x-amz-date").map(str::to_owned);
            if self.renewed.is_some() {
                done.access_key_id = headers
                    .get("authorization")
                    .and_then(|value| value.split_once("Credential=")?.1.split_once('/'))
                    .map(|(id, _)| id.to_owned());
            }
        }
        if request
            .body()
            .content_length()
            .is_none_or(|bytes| bytes > 0)
            && let Some(progress) = config.load::<Progress>()
        {
            request.add_extension(progress.clone());
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if !matches!(response.status().as_u16(), 401 | 403) {
            return Ok(());
        }
        let signed_at = config
            .load::<Tried>()
            .and_then(|Tried(done)| signing_time(done.lock().signed_at.as_deref()?));
        if let (Some(date), Some(signed_at)) = (response.date(), signed_at)
            && date.secs().abs_diff(signed_at.secs()) > TOLERATED_SKEW_SECONDS
        {
            response.add_extension(SignedAtAnotherTime);
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(failure) = Failure::of(context.output_or_error(), context.response()) else {
            return Ok(());
        };
        let (Some(retry), Some(attempts)) = (
            config.load::<RetryConfig>(),
            config.load::<RequestAttempts>(),
        ) else {
            return Ok(());
        };
        let attempts = attempts.attempts();
        if failure == Failure::Final || attempts >= retry.max_attempts() {
            return Ok(());
        }
        let mut again = self.is_worthwhile(failure, config);
        if again && !self.quota.take(Instant::now()) {
            self.requests.retry_refused();
            again = false;
        }
        if !again {
            debug!(?failure, attempts, "there is no further attempt");
            // the SDK asks nobody but its classifiers, which don't know what was tried; its count of attempts it heeds
            let retry = retry.clone().with_max_attempts(attempts);
            config.interceptor_state().store_put(retry);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    #[test]
    fn a_quota_lasts_for_all_sessions_at_once_and_refills_with_time() {
        let quota = Quota::new(10, 4, 4);
        let now = Instant::now();
        let taken = (0..1000).filter(|_| quota.take(now)).count();
        assert_eq!(taken, 10 * 4 * 3);
        assert!(!quota.take(now));
        let later = now + REFILL / 2;
        let taken = (0..1000).filter(|_| quota.take(later)).count();
        assert!((59..=60).contains(&taken), "{taken}");
        let much_later = later + REFILL * 100;
        let taken = (0..1000).filter(|_| quota.take(much_later)).count();
        assert_eq!(taken, 120, "it never holds more than at first");
    }

    #[test]
    fn a_signing_time_is_read_and_nothing_else() {
        let read = signing_time("20261129T071019Z").expect("a time");
        assert_eq!(read.secs(), 1_795_936_219);
        for other in [
            "",
            "T",
            "20261129T07",
            "2026-11-29T07:10:19Z",
            "é0261129T071019Z",
        ] {
            assert_eq!(signing_time(other), None, "{other}");
        }
    }

    #[test]
    fn codes_are_found_in_errors_only() {
        let of = |body: &'static str| {
            let response =
                HttpResponse::new(200.try_into().expect("a status"), SdkBody::from(body));
            code(&response).map(str::to_owned)
        };
        let error = "<?xml version=\"1.0\"?>\n<Error xmlns=\"x\"><Code>SlowDown</Code></Error>";
        assert_eq!(of(error).as_deref(), Some("SlowDown"));
        for other in [
            "",
            "<Code>x</Code>",
            "<Error><Code>",
            "<Error></Error>",
            "\u{ff}",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
