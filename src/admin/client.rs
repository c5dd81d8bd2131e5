//! The command line's way to the running server: a client of the admin HTTP API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::model::{Outcome, Page, StatusAll, Transition, UserStatus, Verb};
use super::token::{Token, TokenError};
use crate::config::Admin;
use crate::net::{DialError, dial};
use crate::store::Scope;

/// The server is on this machine, or near.
const CONNECT: Duration = Duration::from_secs(5);
/// A status is read from memory and one file.
const STATUS: Duration = Duration::from_secs(30);
/// An order waits for sessions to end and verifies all mailboxes before it closes the gate.
const ORDER: Duration = Duration::from_secs(1800);
/// Many times what [`super::model::MAX_USERS`] users take.
const MAX_ANSWER: usize = 16 << 20;
/// Port of a URL that names none, as in the default of `admin.listen`.
const PORT: u16 = 8080;

/// Where the admin API is, and its token.
#[derive(Clone, Debug)]
pub struct AdminClient {
    host: String,
    port: u16,
    token: Token,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The token can't be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The address is not one of an admin API.
    #[error("\"{url}\" is not an admin API's address such as http://127.0.0.1:8080: {reason}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nobody listens there.
    #[error("{source}; is `mailferry serve` running, with the same configuration?")]
    NotRunning {
        /// What happened.
        source: DialError,
    },
    /// The connection broke off or what came was not an answer of ours.
    #[error("the admin API at {address} gave no proper answer: {reason}")]
    Broken {
        /// `host:port`.
        address: String,
        /// What happened.
        reason: String,
    },
    /// No answer in time.
    #[error("the admin API at {address} gave no answer within {} s; see `mailferry status`", after.as_secs())]
    Timeout {
        /// `host:port`.
        address: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The server knows another token.
    #[error(
        "the admin API at {address} refused the token: it belongs to another server, or was made anew after this one started"
    )]
    Unauthorized {
        /// `host:port`.
        address: String,
    },
    /// The server could not do it; its own words.
    #[error("{message}")]
    Server {
        /// HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
}

impl AdminClient {
    /// A client of the server that runs with the configuration `admin`.
    ///
    /// # Errors
    /// [`ClientError::Token`].
    pub fn from_config(admin: &Admin) -> Result<Self, ClientError> {
        let token = Token::load(&admin.token_file)?;
        let host = match admin.listen.ip() {
            // What listens everywhere is here as well.
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Ok(Self { host: host.to_string(), port: admin.listen.port(), token })
    }

    /// A client of the server at `url` (`--admin`), with the token in `token_file` (`--token-file`).
    ///
    /// # Errors
    /// [`ClientError::Url`] or [`ClientError::Token`].
    pub fn from_url(url: &str, token_file: &Path) -> Result<Self, ClientError> {
        let wrong = |reason| ClientError::Url { url: url.to_owned(), reason };
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err(wrong("it speaks no TLS (reach another machine's through ssh -L)"));
            }
            Some(_) => return Err(wrong("unknown scheme")),
            None => return Err(wrong("no http://")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(wrong("more than host and port"));
        }
        let (host, port) = match rest.parse::<SocketAddr>() {
            Ok(address) => (address.ip().to_string(), address.port()),
            Err(_) => host_and_port(rest).ok_or_else(|| wrong("no host, or no valid port"))?,
        };
        Ok(Self { host, port, token: Token::load(token_file)? })
    }

    /// Where all users stand.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status_all(&self) -> Result<StatusAll, ClientError> {
        let (status, body) = self.call(Method::GET, "/v1/status", STATUS).await?;
        self.read(status, &body)
    }

    /// Where `user` stands.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self, user: &str) -> Result<UserStatus, ClientError> {
        let (status, body) = self.call(Method::GET, &format!("/v1/status/{}", segment(user)), STATUS).await?;
        self.read(status, &body)
    }

    /// Users of `scope` and where they stand, behind `after`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn users(&self, scope: &Scope, after: Option<&str>) -> Result<Page, ClientError> {
        let after = after.map(|after| format!("&after={}", segment(after))).unwrap_or_default();
        let (status, body) = self.call(Method::GET, &format!("/v1/users?{}{after}", query(scope)), STATUS).await?;
        self.read(status, &body)
    }

    /// What happened to `user`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn history(&self, user: &str) -> Result<Vec<Transition>, ClientError> {
        let (status, body) = self.call(Method::GET, &format!("/v1/history/{}", segment(user)), STATUS).await?;
        self.read(status, &body)
    }

    /// Says something of users of `scope` who have not begun to move.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rule(&self, verb: Verb, scope: &Scope, by: &str) -> Result<Outcome, ClientError> {
        let path = format!("/v1/rules/{}?{}&by={}", verb.as_str(), query(scope), segment(by));
        self.ordered(&path, STATUS).await
    }

    /// Gives an order for `user`, and waits for the outcome if `wait` says so.
    ///
    /// # Errors
    /// [`ClientError`]; that an order was refused, or can't be carried out now, is an [`Outcome`].
    pub async fn order(
        &self,
        verb: Verb,
        user: &str,
        by: &str,
        (accept_loss, wait): (bool, bool),
    ) -> Result<Outcome, ClientError> {
        let (verb, user, by) = (verb.as_str(), segment(user), segment(by));
        self.ordered(&format!("/v1/{verb}/{user}?wait={wait}&accept_loss={accept_loss}&by={by}"), ORDER).await
    }

    async fn ordered(&self, path: &str, limit: Duration) -> Result<Outcome, ClientError> {
        let (status, body) = self.call(Method::POST, path, limit).await?;
        match status {
            StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE if !body.is_empty() => {
                serde_json::from_slice(&body).map_err(|error| self.broken(error))
            }
            status => self.read(status, &body),
        }
    }

    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn broken(&self, reason: impl ToString) -> ClientError {
        ClientError::Broken { address: self.address(), reason: reason.to_string() }
    }

    /// What a body says, or why there is none to read.
    fn read<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T, ClientError> {
        if status.is_success() {
            return serde_json::from_slice(body).map_err(|error| self.broken(error));
        }
        match serde_json::from_slice(body) {
            Ok(ErrorBody { error }) => Err(ClientError::Server { status: status.as_u16(), message: error }),
            Err(_) => Err(self.broken(format!("HTTP {status}"))),
        }
    }

    async fn call(&self, method: Method, path: &str, limit: Duration) -> Result<(StatusCode, Bytes), ClientError> {
        let tcp = dial(&self.host, self.port, CONNECT).await.map_err(|source| ClientError::NotRunning { source })?;
        let answer = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
            let mut authorization = HeaderValue::from_str(&self.token.authorization())?;
            authorization.set_sensitive(true);
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(HOST, self.address())
                .header(AUTHORIZATION, authorization)
                .body(Empty::<Bytes>::new())?;
            let exchange = async {
                let response = sender.send_request(request).await?;
                let status = response.status();
                let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
                // Lets the connection end.
                drop(sender);
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, body))
            };
            tokio::pin!(exchange, connection);
            tokio::select! {
                answer = &mut exchange => answer,
                // The connection may end together with the last byte of the answer.
                ended = &mut connection => { ended?; exchange.await }
            }
        };
        match timeout(limit, answer).await {
            Ok(Ok((StatusCode::UNAUTHORIZED, _))) => Err(ClientError::Unauthorized { address: self.address() }),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.broken(error)),
            Err(_) => Err(ClientError::Timeout { address: self.address(), after: limit }),
        }
    }
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => (rest.strip_suffix(']')?, PORT),
        None => match text.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, PORT),
        },
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    (!host.is_empty() && host.chars().all(named)).then(|| (host.to_owned(), port))
}

/// A scope as the API is told it. (One user is no such scope.)
fn query(scope: &Scope) -> String {
    match scope {
        Scope::User(_) | Scope::All => "all=true".to_owned(),
        Scope::Domain(domain) => format!("domain={}", segment(domain)),
        Scope::Share(share) => format!("percent={share}"),
    }
}

/// A path segment (RFC 3986 §3.3) that holds `text`, whatever it is.
fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'@') {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{AdminClient, Token, segment};

    #[test]
    fn names_become_one_segment() {
        assert_eq!(segment("anna@example.net"), "anna@example%2Enet");
        assert_eq!(segment("a/b?c#d e%ü*.."), "a%2Fb%3Fc%23d%20e%25%C3%BC%2A%2E%2E");
    }

    #[test]
    fn urls() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        Token::load_or_create(&path).unwrap();
        for (url, address) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("HTTP://localhost:1/", "localhost:1"),
            ("http://host", "host:8080"),
            ("http://[::1]:9", "[::1]:9"),
            ("http://[::1]", "[::1]:8080"),
        ] {
            assert_eq!(AdminClient::from_url(url, &path).unwrap().address(), address);
        }
        for (url, reason) in [
            ("127.0.0.1:8080", "no http://"),
            ("https://127.0.0.1:8080", "no TLS"),
            ("unix://x", "scheme"),
            ("http://h/v1", "more than"),
            ("http://u:p@h", "more than"),
            ("http://", "no host"),
            ("http://h:99999", "port"),
            ("http://[::1", "no host"),
        ] {
            let error = AdminClient::from_url(url, &path).unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
