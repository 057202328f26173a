//! The demo upstream: an honest stand-in for a provider, in every dialect that Wardline speaks, streamed and not.
//!
//! It is no language model, and says so in its answers. What it does depends on words in the last user message: it
//! gives away a contact address and a card number, insults whoever asks for it, calls a weather tool, repeats the
//! system text that reached it, plays critic and reviser, and otherwise answers a few friendly sentences.

mod answer;
mod anthropic;
mod ask;
mod openai;
mod plain;
mod responses;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};
use uuid::Uuid;

use answer::{Answer, answer};
use ask::Ask;

const MAX_BODY: usize = 32 << 20;

/// How fast a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// About 25 tokens a second.
    Human,
    /// As fast as the client reads.
    #[cfg(test)]
    Unpaced,
}

impl Pace {
    fn pause(self) -> Duration {
        match self {
            Self::Human => Duration::from_millis(40),
            #[cfg(test)]
            Self::Unpaced => Duration::ZERO,
        }
    }
}

/// Serves HTTP/1.1 and h2 (with prior knowledge) on the listener, until dropped; its connections then end on their own.
pub(crate) async fn serve(listener: TcpListener, pace: Pace) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, pace));
            }
            Err(error) => {
                tracing::warn!(%error, "the demo upstream could not accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, pace: Pace) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let service = service_fn(move |request| async move { Ok::<_, Infallible>(respond(request, pace).await) });
    if let Err(error) = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection to the demo upstream ended");
    }
}

/// The two wire formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    OpenAi,
    Anthropic,
}

impl Wire {
    fn error(self, status: StatusCode, message: &str) -> Vec<u8> {
        match self {
            Self::OpenAi => openai::error(message),
            Self::Anthropic => anthropic::error(status, message),
        }
        .to_string()
        .into_bytes()
    }

    fn request_id(self) -> HeaderName {
        match self {
            Self::OpenAi => HeaderName::from_static("x-request-id"),
            Self::Anthropic => HeaderName::from_static("request-id"),
        }
    }
}

type Outgoing = Either<Full<Bytes>, Paced>;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Chat,
    Responses,
    Completions,
    Messages,
    Embeddings,
    Tokens,
}

impl Call {
    /// By path: what is asked for, and whose conventions hold.
    fn of(path: &str) -> Option<(Self, Wire)> {
        Some(match path {
            "/v1/chat/completions" => (Self::Chat, Wire::OpenAi),
            "/v1/responses" => (Self::Responses, Wire::OpenAi),
            "/v1/completions" => (Self::Completions, Wire::OpenAi),
            "/v1/embeddings" => (Self::Embeddings, Wire::OpenAi),
            "/v1/responses/input_tokens" => (Self::Tokens, Wire::OpenAi),
            "/v1/messages" => (Self::Messages, Wire::Anthropic),
            "/v1/messages/count_tokens" => (Self::Tokens, Wire::Anthropic),
            _ => return None,
        })
    }
}

async fn respond(request: Request<Incoming>, pace: Pace) -> Response<Outgoing> {
    let path = request.uri().path().to_owned();
    if let Some(name) = path.strip_prefix("/v1/models").filter(|_| request.method() == Method::GET) {
        let wire = if request.headers().contains_key("anthropic-version") { Wire::Anthropic } else { Wire::OpenAi };
        let models = plain::models(wire, name.strip_prefix('/'));
        return models.map_or_else(
            || refuse(wire, StatusCode::NOT_FOUND, "The demo upstream has one model: demo."),
            |models| whole(wire, &models),
        );
    }
    let Some((call, wire)) = Call::of(&path) else {
        let wire = if path.starts_with("/v1/messages/") { Wire::Anthropic } else { Wire::OpenAi };
        return refuse(wire, StatusCode::NOT_FOUND, "The demo upstream does not know this path.");
    };
    if request.method() != Method::POST {
        return refuse(wire, StatusCode::METHOD_NOT_ALLOWED, "The demo upstream takes POST.");
    }
    let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
        return refuse(wire, StatusCode::PAYLOAD_TOO_LARGE, "The request could not be read, or is too large.");
    };
    let body = match serde_json::from_slice::<Value>(&body.to_bytes()) {
        Ok(body) => body,
        Err(error) => return refuse(wire, StatusCode::BAD_REQUEST, &format!("The request is not JSON: {error}.")),
    };
    let given = match call {
        Call::Embeddings => plain::embeddings(&body).map(|vectors| whole(wire, &vectors)),
        Call::Tokens => Ok(whole(wire, &ask::tokens(wire, &body))),
        Call::Chat | Call::Messages => Ask::read(wire, &body).map(|ask| give(call, wire, &ask, pace)),
        Call::Responses => Ask::read(wire, &responses::as_chat(&body)).map(|ask| give(call, wire, &ask, pace)),
        Call::Completions => Ask::read(wire, &plain::as_chat(&body)).map(|ask| give(call, wire, &ask, pace)),
    };
    given.unwrap_or_else(|message| refuse(wire, StatusCode::BAD_REQUEST, &message))
}

fn give(call: Call, wire: Wire, ask: &Ask, pace: Pace) -> Response<Outgoing> {
    let answers: Vec<Answer> = (0..ask.choices).map(|choice| answer(ask, choice)).collect();
    let id = Uuid::now_v7().simple().to_string();
    if ask.stream {
        let frames = match call {
            Call::Messages => anthropic::stream(ask, &answers[0], &id),
            Call::Responses => responses::stream(ask, &answers[0], &id),
            Call::Completions => plain::stream(ask, &answers, &id),
            Call::Chat | Call::Embeddings | Call::Tokens => openai::stream(ask, &answers, &id),
        };
        return respond_with(wire, StatusCode::OK, "text/event-stream", Either::Right(Paced::new(frames, pace)));
    }
    let answer = match call {
        Call::Messages => anthropic::whole(ask, &answers[0], &id),
        Call::Responses => responses::whole(ask, &answers[0], &id),
        Call::Completions => plain::whole(ask, &answers, &id),
        Call::Chat | Call::Embeddings | Call::Tokens => openai::whole(ask, &answers, &id),
    };
    whole(wire, &answer)
}

fn whole(wire: Wire, answer: &Value) -> Response<Outgoing> {
    respond_with(wire, StatusCode::OK, "application/json", Either::Left(Full::from(answer.to_string())))
}

fn refuse(wire: Wire, status: StatusCode, message: &str) -> Response<Outgoing> {
    respond_with(wire, status, "application/json", Either::Left(Full::from(wire.error(status, message))))
}

fn respond_with(wire: Wire, status: StatusCode, content_type: &'static str, body: Outgoing) -> Response<Outgoing> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(id) = HeaderValue::try_from(format!("req_demo_{}", Uuid::now_v7().simple())) {
        response.headers_mut().insert(wire.request_id(), id);
    }
    response
}

/// A body that sends one frame after the other, with a pause before each.
struct Paced {
    frames: std::vec::IntoIter<Bytes>,
    pause: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    fn new(frames: Vec<Bytes>, pace: Pace) -> Self {
        Self { frames: frames.into_iter(), pause: pace.pause(), sleep: None }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let pause = self.pause;
        if !pause.is_zero() {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(pause)));
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        Poll::Ready(self.frames.next().map(|frame| Ok(Frame::data(frame))))
    }
}

#[cfg(test)]
mod tests;
