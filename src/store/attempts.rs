//! The attempts of one request, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_s3::config::interceptors::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, ConnectorError};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;

use crate::store::conditions::unknown;
use crate::store::error::StoreError;
use crate::store::retry::is_refusal;

/// Counts the attempts of one request: a refusal of the first one is the store's word, one of a later one may be about
/// what the first one did.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    begun: AtomicU32,
    /// Those that came to an end other than silence.
    ended: AtomicU32,
    /// Those that the store has answered with a refusal, so that they changed nothing.
    refused: AtomicU32,
}

impl Attempts {
    /// True if no attempt was repeated.
    pub(super) fn was_one(&self) -> bool {
        self.0.begun.load(Ordering::SeqCst) == 1
    }

    /// True for a failed request of which an attempt may have done its work: one whose answer was lost, or an error of the
    /// store that is no refusal.
    pub(super) fn may_be_done(&self) -> bool {
        self.0.begun.load(Ordering::SeqCst) > self.0.refused.load(Ordering::SeqCst)
    }

    /// The error of a change that is not there when it is looked at. A store that took a request and stayed silent may
    /// still be at it, and make the change later: then what becomes of it is not known.
    pub(super) fn not_done(&self, operation: &'static str, error: StoreError) -> StoreError {
        if self.0.begun.load(Ordering::SeqCst) > self.0.ended.load(Ordering::SeqCst) {
            unknown(operation, error)
        } else {
            error
        }
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.response().is_some_and(is_refusal) {
            self.0.refused.fetch_add(1, Ordering::SeqCst);
        }
        let error = context.output_or_error().and_then(Result::err);
        if !error.is_some_and(is_silence) {
            self.0.ended.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// No answer came in time. A connection that could not be made in time is counted as well: the SDK has one error for both.
fn is_silence<E>(error: &OrchestratorError<E>) -> bool {
    let connector = error.as_connector_error();
    error.is_timeout_error() || connector.is_some_and(ConnectorError::is_timeout)
}
