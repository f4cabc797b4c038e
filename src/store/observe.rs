//! Watches every request to the store, whoever sends it: one span and one count per request, one span per attempt.
//!
//! An interceptor of the SDK sees all there is: the operation and its input, each attempt, the answers. It holds no body
//! and no header but the request's id. A request that is dropped, as an ABOR does it, is counted all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use aws_sdk_s3::config::interceptors::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::abort_multipart_upload::AbortMultipartUploadInput;
use aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadInput;
use aws_sdk_s3::operation::copy_object::CopyObjectInput;
use aws_sdk_s3::operation::create_multipart_upload::CreateMultipartUploadInput;
use aws_sdk_s3::operation::delete_object::DeleteObjectInput;
use aws_sdk_s3::operation::delete_object_tagging::DeleteObjectTaggingInput;
use aws_sdk_s3::operation::delete_objects::DeleteObjectsInput;
use aws_sdk_s3::operation::get_bucket_versioning::GetBucketVersioningInput;
use aws_sdk_s3::operation::get_object::GetObjectInput;
use aws_sdk_s3::operation::get_object_tagging::GetObjectTaggingInput;
use aws_sdk_s3::operation::head_bucket::HeadBucketInput;
use aws_sdk_s3::operation::head_object::HeadObjectInput;
use aws_sdk_s3::operation::list_multipart_uploads::ListMultipartUploadsInput;
use aws_sdk_s3::operation::list_objects::ListObjectsInput;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Input;
use aws_sdk_s3::operation::list_parts::ListPartsInput;
use aws_sdk_s3::operation::put_object::PutObjectInput;
use aws_sdk_s3::operation::put_object_tagging::PutObjectTaggingInput;
use aws_sdk_s3::operation::upload_part::UploadPartInput;
use aws_sdk_s3::operation::upload_part_copy::UploadPartCopyInput;
use aws_smithy_runtime_api::client::interceptors::context::Input;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use parking_lot::Mutex;
use tracing::field::Empty;
use tracing::{Span, info_span};

use crate::metrics::Requests;
use crate::telemetry::{TRACE, trace_parent};

/// The interceptor.
#[derive(Debug)]
pub(super) struct Observer {
    requests: Requests,
    /// Send the span that a request belongs to.
    send_context: bool,
}

impl Observer {
    pub(super) fn new(requests: Requests, send_context: bool) -> Self {
        Observer {
            requests,
            send_context,
        }
    }
}

/// A request under way.
#[derive(Debug, Clone)]
struct Running(Arc<State>);

impl Storable for Running {
    type Storer = StoreReplace<Self>;
}

#[derive(Debug)]
struct State {
    operation: &'static str,
    began: Instant,
    span: Span,
    attempts: AtomicU32,
    attempt: Mutex<Span>,
    ended: AtomicBool,
    requests: Requests,
}

impl Intercept for Observer {
    fn name(&self) -> &'static str {
        "Observer"
    }

    fn read_before_execution(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // the operation's own configuration, which names it, comes later than this
        let subject = Subject::of(context.input());
        let (operation, span) = (subject.operation, self.span(&subject));
        config
            .interceptor_state()
            .store_put(Running(Arc::new(State {
                operation,
                began: Instant::now(),
                span,
                attempts: AtomicU32::new(0),
                attempt: Mutex::new(Span::none()),
                ended: AtomicBool::new(false),
                requests: self.requests.clone(),
            })));
        Ok(())
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Running(state)) = config.load::<Running>() {
            state.begin_attempt();
        }
        Ok(())
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // behind the signature: whoever stands between may put a span of its own in its place
        if self.send_context
            && let Some(Running(state)) = config.load::<Running>()
            && let Some(parent) = trace_parent(&state.attempt())
        {
            context
                .request_mut()
                .headers_mut()
                .insert("traceparent", parent);
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Running(state)) = config.load::<Running>() {
            let attempt = std::mem::replace(&mut *state.lock(), Span::none());
            record(&attempt, &Answer::of(context));
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Running(state)) = config.load::<Running>() {
            state.end(&Answer::of(context));
        }
        Ok(())
    }
}

impl Observer {
    /// A part of the trace that the request is sent in; none for what no client has asked for.
    fn span(&self, subject: &Subject<'_>) -> Span {
        if Span::current().is_none() {
            return Span::none();
        }
        // the parent is what is current: the SDK may have put a span of its own in between, for the log
        let span = info_span!(
            target: TRACE, "s3",
            otel.name = %format_args!("S3.{}", subject.operation),
            otel.kind = "client",
            rpc.system = "aws-api",
            rpc.service = "S3",
            rpc.method = subject.operation,
            aws.s3.bucket = Empty,
            aws.s3.key = Empty,
            aws.s3.upload_id = Empty,
            aws.s3.part_number = Empty,
            aws.request_id = Empty,
            cosgate.bytes = Empty,
            http.request.resend_count = Empty,
            http.response.status_code = Empty,
            error.type = Empty,
            otel.status_code = Empty,
        );
        if !span.is_disabled() {
            // users may have buckets of their own
            span.record("aws.s3.bucket", subject.bucket);
            span.record("aws.s3.key", subject.key);
            span.record("aws.s3.upload_id", subject.upload_id);
            span.record("aws.s3.part_number", subject.part);
            span.record("cosgate.bytes", subject.bytes);
        }
        span
    }
}

impl State {
    fn lock(&self) -> parking_lot::MutexGuard<'_, Span> {
        self.attempt.lock()
    }

    fn attempt(&self) -> Span {
        self.lock().clone()
    }

    fn begin_attempt(&self) {
        let before = self.attempts.fetch_add(1, Ordering::Relaxed);
        if before > 0 {
            self.requests.retry(self.operation);
        }
        if self.span.is_none() {
            return;
        }
        let span = info_span!(
            target: TRACE, parent: &self.span, "S3.attempt",
            rpc.method = self.operation,
            aws.request_id = Empty,
            http.request.resend_count = (before > 0).then_some(before),
            http.response.status_code = Empty,
            error.type = Empty,
            otel.status_code = Empty,
        );
        *self.lock() = span;
    }

    fn end(&self, answer: &Answer) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let took = self.began.elapsed();
        self.requests.request(self.operation, answer.outcome, took);
        let resends = self.attempts.load(Ordering::Relaxed).saturating_sub(1);
        if resends > 0 {
            self.span.record("http.request.resend_count", resends);
        }
        record(&self.span, answer);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.end(&Answer {
            outcome: "cancelled",
            status: None,
            request_id: None,
        });
    }
}

/// The result of a request or an attempt.
struct Answer {
    outcome: &'static str,
    status: Option<u16>,
    request_id: Option<String>,
}

impl Answer {
    fn of(context: &FinalizerInterceptorContextRef<'_>) -> Self {
        let response = context.response();
        let status = response.map(|response| response.status().as_u16());
        let header = |name| response.and_then(|response| response.headers().get(name));
        let request_id = header("x-amz-request-id").or_else(|| header("x-cos-request-id"));
        let outcome = match (context.output_or_error(), status) {
            (Some(Ok(_)), _) => "ok",
            (_, Some(404)) => "not_found",
            (_, Some(429 | 503)) => "throttled",
            (_, Some(500..)) => "server_error",
            (_, Some(400..)) => "refused",
            (Some(Err(error)), _) if error.is_timeout_error() => "timeout",
            _ => "transport",
        };
        Answer {
            outcome,
            status,
            request_id: request_id.map(str::to_owned),
        }
    }
}

fn record(span: &Span, answer: &Answer) {
    span.record("http.response.status_code", answer.status);
    span.record("aws.request_id", answer.request_id.as_deref());
    match (answer.outcome, answer.status) {
        // a name that isn't there is an answer like another
        ("ok" | "not_found", _) => {}
        ("refused" | "throttled" | "server_error", Some(status)) => {
            span.record("error.type", status.to_string());
            span.record("otel.status_code", "ERROR");
        }
        (outcome, _) => {
            span.record("error.type", outcome);
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// The subject of a request.
struct Subject<'a> {
    operation: &'static str,
    bucket: Option<&'a str>,
    key: Option<&'a str>,
    upload_id: Option<&'a str>,
    part: Option<i32>,
    bytes: Option<i64>,
}

macro_rules! subject {
    ($input:expr, $subject:ident; $($name:literal $kind:ident: $($field:ident = $get:ident)*;)*) => {
        $(
            if let Some(input) = $input.downcast_ref::<$kind>() {
                $subject.operation = $name;
                $subject.bucket = input.bucket();
                $($subject.$field = input.$get();)*
            }
        )*
    };
}

impl<'a> Subject<'a> {
    fn of(input: &'a Input) -> Self {
        let mut subject = Subject {
            operation: "other",
            bucket: None,
            key: None,
            upload_id: None,
            part: None,
            bytes: None,
        };
        // all operations that this program uses; the label of another one would be "other"
        subject! { input, subject;
            "AbortMultipartUpload" AbortMultipartUploadInput: key = key upload_id = upload_id;
            "CompleteMultipartUpload" CompleteMultipartUploadInput: key = key upload_id = upload_id;
            "CopyObject" CopyObjectInput: key = key;
            "CreateMultipartUpload" CreateMultipartUploadInput: key = key;
            "DeleteObject" DeleteObjectInput: key = key;
            "DeleteObjectTagging" DeleteObjectTaggingInput: key = key;
            "DeleteObjects" DeleteObjectsInput: ;
            "GetBucketVersioning" GetBucketVersioningInput: ;
            "GetObject" GetObjectInput: key = key;
            "GetObjectTagging" GetObjectTaggingInput: key = key;
            "HeadBucket" HeadBucketInput: ;
            "HeadObject" HeadObjectInput: key = key;
            "ListMultipartUploads" ListMultipartUploadsInput: key = prefix;
            "ListObjects" ListObjectsInput: key = prefix;
            "ListObjectsV2" ListObjectsV2Input: key = prefix;
            "ListParts" ListPartsInput: key = key upload_id = upload_id;
            "PutObject" PutObjectInput: key = key bytes = content_length;
            "PutObjectTagging" PutObjectTaggingInput: key = key;
            "UploadPart" UploadPartInput: key = key upload_id = upload_id part = part_number bytes = content_length;
            "UploadPartCopy" UploadPartCopyInput: key = key upload_id = upload_id part = part_number;
        }
        subject
    }
}
