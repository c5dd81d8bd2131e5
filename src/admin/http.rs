//! The admin HTTP API: plain HTTP on a local address, a bearer token on everything but `GET /healthz`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`StatusAll`] |
//! | `GET /v1/status/{user}` | [`UserStatus`] |
//! | `GET /v1/users?SCOPE[&after=USER]` | [`Page`]: the users of a scope and where they stand |
//! | `GET /v1/history/{user}` | a list of [`Transition`], oldest first |
//! | `POST /v1/VERB/{user}[?wait=false][&by=NAME][&accept_loss=true]` | [`Outcome`]: 200 done, 202 started, 409 refused, 503 try again |
//! | `POST /v1/rules/VERB?SCOPE[&by=NAME]` | [`Outcome`]: what is said of users who have not begun to move |
//! | `GET /healthz` | `ok` |
//!
//! VERB is one of [`Verb`]. SCOPE is `all=true`, `domain=D` or `percent=N`.
//!
//! Every error is `{"error": "…"}`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::body::Body as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::model::{Outcome, Page, StatusAll, Transition, UserStatus, Verb};
use super::token::Token;
use crate::migrate::Order;
use crate::net::{Accepted, Acceptor, ConnectionSlots};
use crate::store::{Scope, Share};

/// Callers at once: a few operators and a monitor. More is a mistake, or worse.
const CONNECTIONS: usize = 64;
/// What a caller above that is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// A caller has this long to send a request's head, also for the next one on a connection.
const HEAD: Duration = Duration::from_secs(15);
/// Room for a request's head: a long user name and a token.
const BUFFER: usize = 16 * 1024;
/// No request needs a body; what a careless caller sends along may have this many bytes.
const BODY: u64 = 1024;
/// A user name longer than this is none (RFC 5321 has 320 octets for an address).
const USER: usize = 512;
/// Characters of the name of who gives an order.
const BY: usize = 64;
/// Requests that run when the server ends may take this long to finish.
const GOODBYE: Duration = Duration::from_secs(5);

/// What the API can ask for and order.
pub trait Control: Send + Sync + 'static {
    /// Where all users stand.
    fn status_all(&self) -> impl Future<Output = Result<StatusAll, ControlError>> + Send;

    /// Where `user` (as an operator typed it) stands.
    fn status(&self, user: &str) -> impl Future<Output = Result<UserStatus, ControlError>> + Send;

    /// A page of the users of `scope`, in order, behind `after`.
    fn users(&self, scope: Scope, after: Option<String>) -> impl Future<Output = Result<Page, ControlError>> + Send;

    /// What happened to `user` (as an operator typed it).
    fn history(&self, user: &str) -> impl Future<Output = Result<Vec<Transition>, ControlError>> + Send;

    /// Says something of users of `scope` who have not begun to move.
    fn rule(&self, order: Order, scope: Scope) -> impl Future<Output = Result<Outcome, ControlError>> + Send;

    /// Carries out `order` for `user` (as an operator typed it); without `wait` begins to and returns. A call is always
    /// run to its end, also if the caller hangs up.
    fn order(&self, user: &str, order: Order, wait: bool)
    -> impl Future<Output = Result<Outcome, ControlError>> + Send;
}

/// Why an order could not be carried out at all.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no such user (404).
    #[error("no such user: {0}")]
    UnknownUser(String),
    /// Something of ours failed (500); the text is shown to the operator.
    #[error("{0}")]
    Failed(String),
}

/// A request that was not carried out, as the caller sees it.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let status = match error {
            ControlError::UnknownUser(_) => StatusCode::NOT_FOUND,
            ControlError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

/// Serves the API on `listener` until `shutdown` is ready, then lets running requests finish for a few seconds.
pub async fn serve<C: Control>(
    listener: TcpListener,
    token: Token,
    control: Arc<C>,
    shutdown: impl Future<Output = ()>,
) {
    if let Ok(address) = listener.local_addr() {
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "the admin API is open to other machines, and its token passes unencrypted");
        }
        tracing::info!(%address, "admin API listens");
    }
    let acceptor = Acceptor::new(listener, ConnectionSlots::new(CONNECTIONS), FULL);
    let routes = router(token, control);
    let (closing, closed) = watch::channel(());
    let mut callers = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = acceptor.next() => {
                callers.spawn(connection(accepted, routes.clone(), closed.clone()));
            }
            // Forgets those that have ended.
            Some(_) = callers.join_next() => {}
        }
    }
    drop(acceptor);
    drop(closing);
    let all = async { while callers.join_next().await.is_some() {} };
    if tokio::time::timeout(GOODBYE, all).await.is_err() {
        tracing::warn!("admin requests were still running at the end");
    }
}

async fn connection(accepted: Accepted, routes: Router, mut closed: watch::Receiver<()>) {
    let Accepted { tcp, peer, slot: _slot } = accepted;
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
    let served = http.serve_connection(TokioIo::new(tcp), TowerToHyperService::new(routes));
    tokio::pin!(served);
    let result = tokio::select! {
        result = &mut served => result,
        _ = closed.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "admin connection ended");
    }
}

fn router<C: Control>(token: Token, control: Arc<C>) -> Router {
    let wrong_method = || async { Refusal(StatusCode::METHOD_NOT_ALLOWED, "wrong method".to_owned()) };
    Router::new()
        .route("/v1/status", get(status_all::<C>))
        .route("/v1/status/{user}", get(status::<C>))
        .route("/v1/users", get(users::<C>))
        .route("/v1/history/{user}", get(history::<C>))
        .route("/v1/rules/{verb}", post(rule::<C>))
        .route("/v1/{verb}/{user}", post(order::<C>))
        .with_state(control)
        .route_layer(from_fn_with_state(Arc::new(token), authorize))
        .route("/healthz", get(|| async { "ok" }))
        .method_not_allowed_fallback(wrong_method)
        .fallback(|| async { Refusal(StatusCode::NOT_FOUND, "no such resource".to_owned()) })
        .layer(from_fn(bound_body))
}

/// Lets a request pass if it brings the token (RFC 6750 §2.1).
async fn authorize(State(token): State<Arc<Token>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
    let right = match header.split_at_checked(b"Bearer ".len()) {
        Some((scheme, presented)) => scheme.eq_ignore_ascii_case(b"Bearer ") && token.matches(presented),
        None => false,
    };
    if right {
        return next.run(request).await;
    }
    let mut response =
        Refusal(StatusCode::UNAUTHORIZED, "missing or wrong token: see admin.token_file".to_owned()).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Refuses a request whose body is long or of unknown length, before a byte of it is read.
async fn bound_body(request: Request, next: Next) -> Response {
    if request.body().size_hint().upper().is_none_or(|length| length > BODY) {
        return Refusal(StatusCode::PAYLOAD_TOO_LARGE, "no request here needs a body".to_owned()).into_response();
    }
    next.run(request).await
}

type UserPath = Result<Path<String>, PathRejection>;

fn user_in(path: UserPath) -> Result<String, Refusal> {
    match path {
        Ok(Path(user)) if !user.trim().is_empty() && user.len() <= USER && !user.contains(char::is_control) => Ok(user),
        Ok(_) => Err(Refusal(StatusCode::BAD_REQUEST, "this is not a user name".to_owned())),
        Err(rejection) => Err(Refusal(rejection.status(), rejection.body_text())),
    }
}

async fn status_all<C: Control>(State(control): State<Arc<C>>) -> Result<Json<StatusAll>, Refusal> {
    Ok(Json(control.status_all().await?))
}

async fn status<C: Control>(State(control): State<Arc<C>>, path: UserPath) -> Result<Json<UserStatus>, Refusal> {
    Ok(Json(control.status(&user_in(path)?).await?))
}

async fn history<C: Control>(State(control): State<Arc<C>>, path: UserPath) -> Result<Json<Vec<Transition>>, Refusal> {
    Ok(Json(control.history(&user_in(path)?).await?))
}

/// What can stand behind the question mark.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    wait: Option<bool>,
    by: Option<String>,
    accept_loss: bool,
    after: Option<String>,
    all: bool,
    domain: Option<String>,
    percent: Option<String>,
}

type AskedQuery = Result<Query<Asked>, QueryRejection>;

impl Asked {
    fn of(query: AskedQuery) -> Result<Self, Refusal> {
        query.map(|Query(asked)| asked).map_err(|rejection| Refusal(rejection.status(), rejection.body_text()))
    }

    fn scope(&self) -> Result<Scope, Refusal> {
        let wrong = |text: String| Refusal(StatusCode::BAD_REQUEST, text);
        match (self.all, &self.domain, &self.percent) {
            (true, None, None) => Ok(Scope::All),
            (false, Some(domain), None) => Ok(Scope::Domain(domain.to_lowercase())),
            (false, None, Some(percent)) => {
                percent.parse::<Share>().map(Scope::Share).map_err(|error| wrong(error.to_string()))
            }
            _ => Err(wrong("expected one of all=true, domain=D, percent=N".to_owned())),
        }
    }

    /// What `verb` asks for. The name of who asks stands in records and reasons.
    fn order(&self, verb: &str) -> Result<Order, Refusal> {
        let verb: Verb = verb.parse().map_err(|()| Refusal(StatusCode::NOT_FOUND, "no such resource".to_owned()))?;
        let by: String = self.by.iter().flat_map(|by| by.chars()).filter(|c| !c.is_control()).take(BY).collect();
        let by = if by.trim().is_empty() { "an operator".to_owned() } else { by };
        Ok(match verb {
            Verb::Enroll => Order::Enroll,
            Verb::Hold => Order::Hold { by },
            Verb::Resume => Order::Resume,
            Verb::Switch => Order::Switch,
            Verb::Rollback => Order::Rollback { accept_loss: self.accept_loss, by },
            Verb::Settle => Order::Settle,
        })
    }
}

async fn users<C: Control>(State(control): State<Arc<C>>, query: AskedQuery) -> Result<Json<Page>, Refusal> {
    let asked = Asked::of(query)?;
    Ok(Json(control.users(asked.scope()?, asked.after).await?))
}

async fn rule<C: Control>(
    State(control): State<Arc<C>>,
    verb: UserPath,
    query: AskedQuery,
) -> Result<Response, Refusal> {
    let asked = Asked::of(query)?;
    let order = asked.order(&user_in(verb)?)?;
    Ok(answer(control.rule(order, asked.scope()?).await?))
}

async fn order<C: Control>(
    State(control): State<Arc<C>>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: AskedQuery,
) -> Result<Response, Refusal> {
    let Path((verb, user)) = path.map_err(|rejection| Refusal(rejection.status(), rejection.body_text()))?;
    let asked = Asked::of(query)?;
    let order = asked.order(&verb)?;
    let user = user_in(Ok(Path(user)))?;
    let wait = asked.wait.unwrap_or(true);
    // On its own: a caller who hangs up must not stop a switch half-way.
    let done = tokio::spawn(async move { control.order(&user, order, wait).await }).await;
    let outcome = done.unwrap_or_else(|error| Err(ControlError::Failed(format!("the {verb} broke off: {error}"))))?;
    Ok(answer(outcome))
}

fn answer(outcome: Outcome) -> Response {
    let status = match outcome {
        Outcome::Switched { .. } | Outcome::RolledBack { .. } | Outcome::Done { .. } => StatusCode::OK,
        Outcome::Started => StatusCode::ACCEPTED,
        Outcome::Refused { .. } => StatusCode::CONFLICT,
        Outcome::TryAgain { .. } => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(outcome)).into_response()
}

#[cfg(test)]
mod tests;
