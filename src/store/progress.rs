//! The longest time that a request may go on without a byte moving: the HTTP client below the SDK.
//!
//! The SDK bounds an attempt and a whole operation by fixed times. For a body that is either too short for a slow link or
//! too long for a store that accepts connections and stays silent. Here the bytes are watched instead:
//!
//! - an attempt in which no byte moves for the read timeout (`storage.request_timeout`) is given up;
//! - a request with a body in which nothing moved for `storage.retry.time_limit`, all attempts and the pauses between
//!   them together, is given up for good.
//!
//! Requests without a body need no such clock: the SDK's operation timeout is the same limit for them.

use std::borrow::Cow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::config::RuntimeComponents;
use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::error::{BoxError, ConnectorError};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, Sleep};

use crate::config;
use crate::http_client::{self, TlsSetupError};
use crate::store::connections::{Connections, Exchange};

/// Bytes of a request body that go to HTTP at a time: few enough that a slow link shows progress, many enough to cost no
/// CPU time.
const STEP: usize = 128 * 1024;

/// Bytes of a request body after which the other tasks of the thread have their turn: HTTP would go on for as long as the store takes
/// them. hyper asks once more before it lets go, so a turn has up to twice as many.
const TURN: usize = 512 * 1024;

/// A pause of this length between two steps of a body still counts as moving.
const MOVING: Duration = Duration::from_secs(2);

/// The clock of one request, over all its attempts. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    /// The most time in which nothing moves.
    limit: Duration,
    clock: Arc<Mutex<Clock>>,
}

#[derive(Debug)]
struct Clock {
    last: Instant,
    /// Time without progress up to `last`.
    silent: Duration,
}

impl Storable for Progress {
    type Storer = StoreReplace<Self>;
}

impl Progress {
    pub fn new(limit: Duration) -> Self {
        let clock = Clock {
            last: Instant::now(),
            silent: Duration::ZERO,
        };
        Progress {
            limit,
            clock: Arc::new(Mutex::new(clock)),
        }
    }

    /// True once nothing has moved for the limit.
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    fn lock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock()
    }

    fn left(&self) -> Duration {
        let clock = self.lock();
        let silent = clock.silent + clock.last.elapsed();
        self.limit.saturating_sub(silent)
    }

    /// Time since the last byte, or since the attempt began.
    fn since_last(&self) -> Duration {
        self.lock().last.elapsed()
    }

    fn begin_attempt(&self) {
        let mut clock = self.lock();
        let pause = clock.last.elapsed();
        clock.silent += pause;
        clock.last += pause;
    }

    fn moved(&self) {
        let mut clock = self.lock();
        let pause = clock.last.elapsed();
        if pause > MOVING {
            clock.silent += pause;
        }
        clock.last += pause;
    }
}

/// The store's connections with the bounds of this module. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct WatchedClient(Arc<Connections<Stepwise>>);

impl WatchedClient {
    /// Makes no connection.
    pub fn new(storage: &config::Storage) -> Result<Self, TlsSetupError> {
        let connections = Connections::new(
            http_client::tls(None)?,
            storage.connect_timeout,
            storage.request_timeout,
        );
        Ok(WatchedClient(Arc::new(connections)))
    }
}

impl HttpClient for WatchedClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Watched {
            connections: Arc::clone(&self.0),
            silence: settings.read_timeout(),
        })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        Some(ConnectorMetadata::new("hyper", Some(Cow::Borrowed("1.x"))))
    }
}

#[derive(Debug)]
struct Watched {
    connections: Arc<Connections<Stepwise>>,
    /// The most time without progress in one attempt.
    silence: Option<Duration>,
}

impl HttpConnector for Watched {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let silence = self.silence.unwrap_or(Duration::MAX);
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => {
                return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into())));
            }
        };
        let progress = request.extensions().get::<Progress>().cloned();
        let progress = progress.unwrap_or_else(|| Progress::new(Duration::MAX));
        progress.begin_attempt();
        let in_http = Arc::new(());
        let watch = Arc::downgrade(&in_http);
        let request = request.map(|body| Stepwise {
            body,
            step: Bytes::new(),
            in_turn: 0,
            progress: progress.clone(),
            _in_http: in_http,
        });
        let answer = self.connections.send(request, watch);
        HttpConnectorFuture::new(async move {
            let (answer, exchange) = head(answer, silence, &progress).await?;
            progress.moved();
            let answer = answer.map(|body| {
                SdkBody::from_body_1_x(Answered {
                    body,
                    silence,
                    patience: None,
                    _exchange: exchange,
                })
            });
            HttpResponse::try_from(answer)
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// The head of the answer, if something moves until it is there.
async fn head(
    answer: impl Future<Output = Result<(Response<Incoming>, Exchange), ConnectorError>>,
    silence: Duration,
    progress: &Progress,
) -> Result<(Response<Incoming>, Exchange), ConnectorError> {
    let mut answer = pin!(answer);
    loop {
        let (quiet, left) = (progress.since_last(), progress.left());
        if left.is_zero() {
            let limit = progress.limit;
            return Err(timeout(format!(
                "nothing moved for {limit:?} in all attempts (storage.retry.time_limit)"
            )));
        }
        let patience = silence.saturating_sub(quiet);
        if patience.is_zero() {
            return Err(silent(silence));
        }
        match tokio::time::timeout(patience.min(left), &mut answer).await {
            Ok(answer) => return answer,
            // bytes may have moved meanwhile
            Err(_) => continue,
        }
    }
}

fn silent(silence: Duration) -> ConnectorError {
    timeout(format!(
        "nothing moved for {silence:?} (storage.request_timeout)"
    ))
}

fn timeout(text: String) -> ConnectorError {
    ConnectorError::timeout(text.into())
}

/// The body of a request, which moves when HTTP takes a step of it.
pub(super) struct Stepwise {
    body: SdkBody,
    /// The rest of the last piece.
    step: Bytes,
    /// Bytes since other tasks had their turn.
    in_turn: usize,
    progress: Progress,
    /// Until HTTP has all of it.
    _in_http: Arc<()>,
}

impl Body for Stepwise {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.step.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => self.step = bytes,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return other,
            }
        }
        if self.in_turn >= TURN {
            self.in_turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.progress.moved();
        let bytes = self.step.len().min(STEP);
        self.in_turn += bytes;
        Poll::Ready(Some(Ok(Frame::data(self.step.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.step.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let step = self.step.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + step);
        }
        hint.set_lower(hint.lower() + step);
        hint
    }
}

/// The body of an answer, which fails if it stops while somebody waits for it. A reader who doesn't ask, since its client
/// is slow, lets no time pass.
struct Answered {
    body: Incoming,
    silence: Duration,
    /// Since when somebody waits.
    patience: Option<Pin<Box<Sleep>>>,
    _exchange: Exchange,
}

impl Body for Answered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.patience = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        if self.silence == Duration::MAX {
            return Poll::Pending;
        }
        let silence = self.silence;
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        match patience.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(silent(silence).into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_time_in_which_nothing_moves_is_counted_and_pauses_are_such_time() {
        let progress = Progress::new(Duration::from_secs(20));
        for _ in 0..100 {
            tokio::time::advance(Duration::from_secs(1)).await;
            progress.moved();
        }
        assert_eq!(progress.left(), Duration::from_secs(20));
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(6)).await;
            progress.begin_attempt();
            progress.moved();
        }
        assert_eq!(progress.left(), Duration::from_secs(2));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(progress.is_over());
    }
}
