//! Everything that can go wrong, and the HTTP answer that it becomes: here and nowhere else.

use http::{HeaderValue, Response, StatusCode, header};

use super::body::Body;
use crate::api::render::{self, ApiError};
use crate::api::{Dialect, Notice, ReadError};
use crate::guard::Failure;
use crate::pairs::Unsealed;
use crate::upstream;

/// The code of a path that is known and denied.
const ENDPOINT_NOT_ALLOWED: &str = "endpoint_not_allowed";

/// A request that gets an error for an answer.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    param: Option<String>,
    message: String,
    retry: Retry,
}

/// What the SDK should do about it. Both official SDK families obey `x-should-retry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// The same request will fail again.
    Never,
    /// After about so many milliseconds.
    After(u16),
    /// As the status says.
    Unsaid,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code, param: None, message: message.into(), retry: Retry::Never }
    }

    /// No such route.
    pub(super) fn unknown_route() -> Self {
        let message = "This gateway does not serve this path; its status page lists those that it does.";
        Self::new(StatusCode::NOT_FOUND, "not_found_error", "unknown_route", message)
    }

    /// A route that exists at the provider and not here.
    pub(super) fn denied(reason: &'static str) -> Self {
        let message = format!("This endpoint is not allowed through this gateway: {reason}.");
        Self::new(StatusCode::FORBIDDEN, "invalid_request_error", ENDPOINT_NOT_ALLOWED, message)
    }

    /// A route, another method.
    pub(super) fn method(wanted: &str) -> Self {
        let message = format!("Use {wanted}.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", "method_not_allowed", message)
    }

    /// A path that others could read as another one.
    pub(super) fn path() -> Self {
        let message = "Write the path plainly: no escapes, no empty or dotted segments, no other characters than \
            letters, digits and -._~:@.";
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", "malformed_path", message)
    }

    /// A request that could be understood in two ways.
    pub(super) fn malformed(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", "malformed_request", message)
    }

    /// A body in a form that is not read here.
    pub(super) fn media(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", "unsupported_media_type", message)
    }

    /// A body over the limit.
    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("The request body is larger than the {limit} bytes that this gateway reads.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "request_too_large", message)
    }

    /// A body that did not arrive in time.
    pub(super) fn slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout_error", "request_timeout", "The request body took too long.")
    }

    /// A dialect that no upstream is configured for.
    pub(super) fn no_upstream(provider: &str) -> Self {
        let message = format!("No upstream of dialect `{provider}` is configured on this gateway.");
        Self::new(StatusCode::NOT_FOUND, "not_found_error", "no_upstream", message)
    }

    /// An answer that cannot be read, and so cannot be judged.
    pub(super) fn unreadable_answer(reason: &str) -> Self {
        tracing::warn!(reason, "an upstream's answer could not be read");
        let message = "The upstream's answer could not be read, so it could not be checked, and is withheld.";
        Self::new(StatusCode::BAD_GATEWAY, "api_error", "unreadable_answer", message)
    }

    /// An answer that a rule blocks, where there is no shape to say so in.
    pub(super) fn withheld() -> Self {
        let message = "A rule of this gateway's policy blocks the upstream's answer.";
        Self::new(StatusCode::BAD_GATEWAY, "api_error", "content_filter", message)
    }

    /// Scores are asked for, and there is nothing to score with.
    pub(super) fn no_classifier() -> Self {
        let message = "No classifier is configured on this gateway.";
        Self::new(StatusCode::NOT_FOUND, "not_found_error", "no_classifier", message)
    }

    /// Feedback is not taken here.
    pub(super) fn no_feedback() -> Self {
        let message = "This gateway takes no feedback: `pairs.feedback` is not configured.";
        Self::new(StatusCode::NOT_FOUND, "not_found_error", "feedback_off", message)
    }

    /// A client says too much at once.
    pub(super) fn too_much_feedback() -> Self {
        let message = "Too much feedback in one minute; send it later.";
        let mut refusal =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "feedback_rate_limited", message);
        refusal.retry = jittered();
        refusal
    }

    /// A choice that the answer does not have.
    pub(super) fn no_such_choice() -> Self {
        Self::feedback_about("choice", "no_such_choice", "The answer has no such choice, or none with text in it.")
    }

    /// An answer that would be better than itself.
    pub(super) fn same_answer() -> Self {
        Self::feedback_about("preferred_over", "same_answer", "Both are the same answer; name another one.")
    }

    /// Two answers to different questions cannot be compared.
    pub(super) fn other_prompt() -> Self {
        let message = "The two answers are to different prompts, so that neither is better than the other.";
        Self::feedback_about("preferred_over", "different_prompts", message)
    }

    /// A demonstration that a rule objects to.
    pub(super) fn demonstration() -> Self {
        let message = "A rule of this gateway's policy objects to the demonstration, as it would to an answer.";
        Self::feedback_about("demonstration", "content_filter", message)
    }

    fn feedback_about(param: &str, code: &'static str, message: &str) -> Self {
        let refusal = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, message);
        Self { param: Some(param.to_owned()), ..refusal }
    }

    /// The opposite was said before.
    pub(super) fn said_otherwise() -> Self {
        let message = "Something else was said on this before; the first word counts.";
        Self::new(StatusCode::CONFLICT, "invalid_request_error", "feedback_given", message)
    }

    /// Enough was said about one exchange.
    pub(super) fn said_enough() -> Self {
        let message = "Enough was said about this answer.";
        Self::new(StatusCode::CONFLICT, "invalid_request_error", "feedback_full", message)
    }

    /// The fixed word for what is wrong.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The word under which a request that got no further than the door is counted.
    pub(super) fn route(&self) -> &'static str {
        if self.code == ENDPOINT_NOT_ALLOWED { "denied" } else { "none" }
    }

    /// The refusal in the dialect's own error shape.
    pub(super) fn into_response(self, dialect: Dialect, request_id: &str) -> Response<Body> {
        let body = render::error(
            dialect,
            &ApiError {
                status: self.status.as_u16(),
                kind: self.kind,
                code: Some(self.code),
                param: self.param.as_deref(),
                message: &self.message,
                request_id,
                content_filter: None,
            },
        );
        let mut response = json(self.status, Body::whole(body));
        match self.retry {
            Retry::Never => no_retry(&mut response),
            Retry::Unsaid => {}
            Retry::After(millis) => {
                response.headers_mut().insert("retry-after-ms", HeaderValue::from(millis));
            }
        }
        response
    }
}

/// A prompt that a rule blocks, as an error: a 400 that no SDK retries.
pub(super) fn blocked(dialect: Dialect, notice: &Notice<'_>) -> Response<Body> {
    let body = render::error(
        dialect,
        &ApiError {
            status: 400,
            kind: "invalid_request_error",
            code: Some("content_filter"),
            param: Some(dialect.prompt()),
            message: notice.message,
            request_id: notice.request_id,
            content_filter: Some(notice),
        },
    );
    let mut response = json(StatusCode::BAD_REQUEST, Body::whole(body));
    no_retry(&mut response);
    response
}

/// A response with a JSON body.
pub(super) fn json(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn no_retry(response: &mut Response<Body>) {
    response.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let kind = if status == StatusCode::PAYLOAD_TOO_LARGE { "request_too_large" } else { "invalid_request_error" };
        let mut refusal = Self::new(status, kind, error.kind(), error.to_string());
        refusal.param = Some(error.place()).filter(|place| !place.is_empty()).map(str::to_owned);
        refusal
    }
}

impl From<Unsealed> for Refusal {
    fn from(unsealed: Unsealed) -> Self {
        match unsealed {
            Unsealed::Forged => {
                let message = "No such request id was given by this gateway to this client.";
                let refusal = Self::new(StatusCode::NOT_FOUND, "not_found_error", "unknown_request_id", message);
                Self { param: Some("request_id".to_owned()), ..refusal }
            }
            Unsealed::Expired => {
                let message = "The answer is too old to be rated.";
                Self::new(StatusCode::GONE, "invalid_request_error", "request_id_expired", message)
            }
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure.reason {
            "too_long" => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_too_large",
                "guardrail_input_too_long",
                "A text in the request is longer than this gateway's guards can check.",
            ),
            "overload" => {
                let message = "The guards are at capacity; try again shortly.";
                let mut refusal =
                    Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "guardrail_overloaded", message);
                refusal.retry = jittered();
                refusal
            }
            _ => {
                let message = "A guard that must judge this request could not; nothing was passed on.";
                let mut refusal =
                    Self::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", "guardrail_unavailable", message);
                refusal.retry = if failure.passing { jittered() } else { Retry::Never };
                refusal
            }
        }
    }
}

impl From<upstream::Error> for Refusal {
    fn from(error: upstream::Error) -> Self {
        tracing::warn!(%error, "upstream call failed");
        let (status, code, message) = match &error {
            upstream::Error::FirstByteTimeout | upstream::Error::IdleTimeout | upstream::Error::TotalTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", "The upstream did not answer in time.")
            }
            upstream::Error::Redirect => (
                StatusCode::BAD_GATEWAY,
                "upstream_redirect",
                "The upstream answered with a redirect, which is never followed.",
            ),
            upstream::Error::Connect(_) => {
                (StatusCode::BAD_GATEWAY, "upstream_unreachable", "The upstream could not be reached.")
            }
            upstream::Error::Reset(_) => {
                (StatusCode::BAD_GATEWAY, "upstream_reset", "The connection to the upstream broke.")
            }
        };
        let mut refusal = Self::new(status, "api_error", code, message);
        refusal.retry = Retry::Unsaid;
        refusal
    }
}

/// Between 250 and 2000 ms, so that shed clients do not come back all at once.
fn jittered() -> Retry {
    let random = uuid::Uuid::now_v7().as_u128();
    Retry::After(u16::try_from(250 + random % 1750).unwrap_or(1000))
}
