//! From the greeting to a logged-in connection.

use super::{SieveConnection, SieveError, printable, said};
use crate::net::Stream;
use crate::wire::sasl::{self, Bearer};
use crate::wire::sieve::command;
use crate::wire::sieve::scan::{End, Line, Status};

/// How a server answered a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SieveLogin {
    /// It accepted.
    Accepted,
    /// It said NO for a reason that says nothing about the password.
    Later(String),
    /// It said NO.
    Refused(String),
}

impl SieveConnection {
    /// Reads what the server announces, at the beginning and after STARTTLS.
    pub(super) async fn announced(&mut self, what: &'static str) -> Result<(), SieveError> {
        let (lines, end) = self.answer().await?;
        if end.status != Status::Ok {
            return Err(self.server.refused(what, &end));
        }
        let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
        let capability = |(strings, _): (Vec<Vec<u8>>, bool)| {
            let mut strings = strings.into_iter().map(text);
            strings.next().map(|name| (name.to_ascii_uppercase(), strings.next().unwrap_or_default()))
        };
        self.capabilities = lines.into_iter().filter_map(capability).collect();
        Ok(())
    }

    pub(super) async fn start_tls(mut self) -> Result<Self, SieveError> {
        self.ask("STARTTLS", &command::bare("STARTTLS")).await?;
        // What came in clear text behind the OK could have been injected (RFC 5804 §2.2): it is not used.
        self.input.clear();
        let server = self.server.clone();
        let (Stream::Plain(tcp), Some(tls)) = (self.stream, &server.tls) else {
            return Err(server.lost("STARTTLS on a connection that is encrypted already".to_owned()));
        };
        let stream = tls.connect(tcp, &server.endpoint.host).await.map_err(|source| server.tls_error(source))?;
        let mut inside = Self { stream, ..self };
        inside.announced("STARTTLS").await?;
        Ok(inside)
    }

    /// Logs in by SASL PLAIN.
    ///
    /// # Errors
    /// If the connection breaks, or the server does not offer that. A refusal is an answer, not an error.
    pub async fn login(
        &mut self,
        name: &str,
        authzid: Option<&str>,
        password: &[u8],
    ) -> Result<SieveLogin, SieveError> {
        if !self.offers("PLAIN") {
            let what = "offers no way to log in (SASL PLAIN is missing): use TLS (sieve+starttls://)";
            return Err(self.server.lost(what.to_owned()));
        }
        let message = sasl::plain(authzid, name, password).map_err(|error| self.server.lost(error.to_string()))?;
        self.write(&command::authenticate("PLAIN", &sasl::to_base64(&message))).await?;
        let (_, end) = self.answer().await?;
        Ok(judged(&end, &said(&end)))
    }

    /// Logs in with a token, for the account of `user`.
    ///
    /// # Errors
    /// If the connection breaks, or the server takes no such tokens. A refusal is an answer, not an error.
    pub async fn login_with_token(
        &mut self,
        mechanism: Bearer,
        user: &str,
        token: &[u8],
    ) -> Result<SieveLogin, SieveError> {
        let name = mechanism.name();
        if !self.offers(name) {
            let offered: Vec<&str> = self.words("SASL").collect();
            let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
            return Err(self.server.lost(format!("does not take tokens by {name}; it offers {offered}")));
        }
        let endpoint = &self.server.endpoint;
        let message = mechanism.message(user, (&endpoint.host, endpoint.port), token);
        self.write(&command::authenticate(name, &sasl::to_base64(&message))).await?;
        let challenge = match self.line().await? {
            Line::End(end) => return Ok(judged(&end, &said(&end))),
            Line::Data { strings, .. } => strings.into_iter().next().unwrap_or_default(),
        };
        // It tells why it refuses, and says so when it has heard that this was read (RFC 7628 §3.2.3).
        self.write(&command::response(&sasl::to_base64(mechanism.after_error()))).await?;
        let (_, end) = self.answer().await?;
        Ok(judged(&end, &format!("{} {}", said(&end), printable(&sasl::told(&challenge)))))
    }

    fn offers(&self, wanted: &str) -> bool {
        self.words("SASL").any(|mechanism| mechanism.eq_ignore_ascii_case(wanted))
    }
}

fn judged(end: &End, text: &str) -> SieveLogin {
    const LATER: [&str; 3] = ["TRYLATER", "ENCRYPT-NEEDED", "AUTH-TOO-WEAK"];
    match end.status {
        Status::Ok => SieveLogin::Accepted,
        _ if end.status == Status::Bye || end.code.as_deref().is_some_and(|code| LATER.contains(&code)) => {
            SieveLogin::Later(text.to_owned())
        }
        _ => SieveLogin::Refused(text.to_owned()),
    }
}
