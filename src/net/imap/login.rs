//! From the greeting to a logged-in connection.

use zeroize::Zeroizing;

use super::{Capabilities, ImapConnection, ImapError, printable};
use crate::config::Security;
use crate::wire::imap::command::{self, Fragment, Simple};
use crate::wire::imap::scan::{self, Response, Status};
use crate::wire::sasl::{self, Bearer};

/// Octets of a SASL message that is sent in the command. A Dovecot takes command lines of 4096 before the login.
const INITIAL_MAX: usize = 2048;

/// How a server answered a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginAnswer {
    /// It accepted.
    Accepted {
        /// What stood behind OK: response code and text.
        raw: Vec<u8>,
    },
    /// It said NO or BAD.
    Refused {
        /// Which of the two.
        status: Status,
        /// What stood behind it: response code and text.
        raw: Vec<u8>,
    },
}

impl LoginAnswer {
    /// Whether the server has refused because there are too many sessions already: ours may be among them. (Gmail, Cyrus; there
    /// is no code for it.)
    #[must_use]
    pub fn is_turned_away(&self) -> bool {
        let Self::Refused { raw, .. } = self else { return false };
        let said = printable(raw).to_ascii_lowercase();
        // With a code of RFC 5530 it is about something else.
        let coded = said.starts_with('[') && !said.starts_with("[alert]");
        !coded && said.contains("too many") && (said.contains("connections") || said.contains("sessions"))
    }
}

impl ImapConnection {
    pub(super) async fn greeting(&mut self) -> Result<(), ImapError> {
        let response = self.response().await?;
        match scan::response(&response) {
            Response::Status { status: Status::Ok, code, text, .. } => {
                self.greeting = printable(text);
                if let Some(code) = code.filter(|code| code.is("CAPABILITY")) {
                    self.capabilities = Capabilities::read(&scan::words(code.arg));
                    return Ok(());
                }
            }
            Response::Status { status: Status::Bye, raw, .. } => {
                return Err(self.lost(format!("refused the connection: BYE {}", printable(raw))));
            }
            _ => return Err(self.protocol(format!("greeted with `{}`", printable(&response)))),
        }
        self.ask_capabilities().await
    }

    async fn ask_capabilities(&mut self) -> Result<(), ImapError> {
        let tag = self.tag();
        self.run("CAPABILITY", &tag, command::simple(&tag, Simple::Capability), &mut |_| {}).await.map(|_| ())
    }

    pub(super) async fn start_tls(mut self) -> Result<Self, ImapError> {
        let tag = self.tag();
        self.run("STARTTLS", &tag, command::simple(&tag, Simple::StartTls), &mut |_| {}).await?;
        // What came in clear text behind the OK could have been injected (RFC 9051 §11.3): it is not used.
        self.input.clear();
        let server = self.server.clone();
        if let (super::Stream::Plain(tcp), Some(tls)) = (self.stream, &server.tls) {
            let stream = tls.connect(tcp, &server.endpoint.host).await.map_err(|source| server.tls_error(source))?;
            self.stream = stream;
        } else {
            let what = "STARTTLS on a connection that is encrypted already".to_owned();
            return Err(ImapError::Protocol { side: server.side, server: server.name, what });
        }
        self.ask_capabilities().await?;
        Ok(self)
    }

    /// Tells the server who the client behind us is, if it understands ID (RFC 2971).
    ///
    /// # Errors
    /// If the connection breaks; a server that refuses ID is not asked again and nothing is lost.
    pub async fn identify(&mut self, fields: &[(&str, &str)]) -> Result<(), ImapError> {
        if !self.capabilities.has("ID") {
            return Ok(());
        }
        let tag = self.tag();
        let mut software = None;
        let mut each = |response: Response<'_>| {
            if let Response::Id(told) = response {
                software =
                    told.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(b"name")).and_then(|(_, name)| name);
            }
        };
        match self.run("ID", &tag, command::id(&tag, fields), &mut each).await {
            Ok(_) | Err(ImapError::Refused { .. }) => {
                self.software = software.map(|name| printable(&name)).or_else(|| self.software.take());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The same in one breath with the login that comes next, where that is possible: one round trip less. What the server
    /// answers to it is not looked at.
    ///
    /// # Errors
    /// As for [`ImapConnection::identify`].
    pub async fn identify_with_login(&mut self, fields: &[(&str, &str)]) -> Result<(), ImapError> {
        if ["ID", "SASL-IR", "AUTH=PLAIN"].iter().any(|name| !self.capabilities.has(name)) {
            return self.identify(fields).await;
        }
        let tag = self.tag();
        match self.encoded(command::id(&tag, fields))?.as_slice() {
            [Fragment::Bytes(octets)] => {
                self.before_login = octets.to_vec();
                Ok(())
            }
            // It has a literal for which the server must be waited for.
            _ => self.identify(fields).await,
        }
    }

    /// Logs in: by AUTHENTICATE PLAIN where the server offers it, else by LOGIN.
    ///
    /// # Errors
    /// If the connection breaks, or the server offers no way to log in. A refusal is an answer, not an error.
    pub async fn login(
        &mut self,
        name: &str,
        authzid: Option<&str>,
        password: &[u8],
    ) -> Result<LoginAnswer, ImapError> {
        if self.is_clear() && self.capabilities.has("X-GM-EXT-1") {
            return Err(self.protocol("is Gmail, which takes passwords over TLS only: use `imaps://`".to_owned()));
        }
        let answer = if self.capabilities.has("AUTH=PLAIN") {
            let message = sasl::plain(authzid, name, password).map_err(|error| self.protocol(error.to_string()))?;
            self.authenticate("PLAIN", &message, None).await?
        } else if authzid.is_some() {
            return Err(self.no_way("offers no way to log in as somebody else (AUTH=PLAIN is missing)"));
        } else if self.capabilities.has("LOGINDISABLED") {
            return Err(self.no_way("takes no password on this connection (LOGINDISABLED, and AUTH=PLAIN is missing)"));
        } else {
            let tag = self.tag();
            let fragments = self.encoded(command::login(&tag, name, password))?;
            let refusal = self.send(fragments).await?;
            self.answer(&tag, refusal, None).await?
        };
        self.accepted(answer).await
    }

    const fn is_clear(&self) -> bool {
        matches!(self.stream, super::Stream::Plain(_))
    }

    /// Logs in with a token in place of a password.
    ///
    /// # Errors
    /// If the connection breaks, or the server takes no such tokens. A refusal is an answer, not an error.
    pub async fn login_with_token(
        &mut self,
        mechanism: Bearer,
        user: &str,
        token: &[u8],
    ) -> Result<LoginAnswer, ImapError> {
        let name = mechanism.name();
        if !self.capabilities.has(&format!("AUTH={name}")) {
            return Err(self.no_way(&format!("does not take tokens by {name}")));
        }
        let endpoint = &self.server.endpoint;
        let message = mechanism.message(user, (&endpoint.host, endpoint.port), token);
        let answer = self.authenticate(name, &message, Some(mechanism.after_error())).await?;
        self.accepted(answer).await
    }

    /// Asks for the account of `user`, after the login of an administrator: by PROXYAUTH, which Sun's and Oracle's servers know.
    ///
    /// # Errors
    /// If the connection breaks. A refusal is an answer, not an error.
    pub async fn proxy_auth(&mut self, user: &str) -> Result<LoginAnswer, ImapError> {
        let tag = self.tag();
        let fragments = self.encoded(command::proxyauth(&tag, user))?;
        let refusal = self.send(fragments).await?;
        let answer = match self.answer(&tag, refusal, None).await? {
            LoginAnswer::Refused { status, raw } => {
                LoginAnswer::Refused { status, raw: [&raw, b" (PROXYAUTH)".as_slice()].concat() }
            }
            accepted @ LoginAnswer::Accepted { .. } => accepted,
        };
        self.accepted(answer).await
    }

    /// That there is no way to log in, with what the server offers; and with the way out, if that may be it.
    fn no_way(&self, why: &str) -> ImapError {
        let offered: Vec<&str> = self.capabilities.iter().filter_map(|word| word.strip_prefix("AUTH=")).collect();
        let offered = if offered.is_empty() { "no SASL mechanism".to_owned() } else { offered.join(", ") };
        let tls = match self.server.endpoint.security {
            Security::Clear => ": it may take it inside TLS (imaps://, imap+starttls://)",
            Security::StartTls | Security::Tls => "",
        };
        self.protocol(format!("{why}; it offers {offered}{tls}"))
    }

    /// `after_error` is what ends a mechanism that tells in a challenge why it refuses.
    async fn authenticate(
        &mut self,
        mechanism: &'static str,
        message: &[u8],
        after_error: Option<&'static [u8]>,
    ) -> Result<LoginAnswer, ImapError> {
        let tag = self.tag();
        // A long one goes on a line of its own: servers bound their command lines.
        let initial = self.capabilities.has("SASL-IR") && message.len() <= INITIAL_MAX;
        let mut fragments = self.encoded(command::authenticate(&tag, mechanism, initial.then_some(message)))?;
        if let Some(Fragment::Bytes(octets)) = fragments.first_mut()
            && !self.before_login.is_empty()
        {
            *octets = Zeroizing::new([std::mem::take(&mut self.before_login).as_slice(), octets].concat());
        }
        let mut refusal = self.send(fragments).await?;
        if !initial && refusal.is_none() {
            self.flush().await?;
            refusal = self.continuation(&tag).await?;
            if refusal.is_none() {
                self.write(&command::authenticate_data(message)).await?;
            }
        }
        self.answer(&tag, refusal, after_error).await
    }

    async fn continuation(&mut self, tag: &str) -> Result<Option<Vec<u8>>, ImapError> {
        loop {
            let response = self.response().await?;
            match scan::response(&response) {
                Response::Continuation(_) => return Ok(None),
                Response::Tagged { tag: theirs, .. } if theirs == tag.as_bytes() => return Ok(Some(response)),
                _ => {}
            }
        }
    }

    async fn answer(
        &mut self,
        tag: &str,
        early: Option<Vec<u8>>,
        mut after_error: Option<&'static [u8]>,
    ) -> Result<LoginAnswer, ImapError> {
        self.flush().await?;
        let mut next = early;
        let mut told = Vec::new();
        loop {
            let response = match next.take() {
                Some(response) => response,
                None => self.response().await?,
            };
            match scan::response(&response) {
                Response::Tagged { tag: theirs, status, raw, .. } if theirs == tag.as_bytes() => {
                    return Ok(match status {
                        Status::Ok => LoginAnswer::Accepted { raw: raw.to_vec() },
                        status => LoginAnswer::Refused { status, raw: [raw, &told].concat() },
                    });
                }
                Response::Continuation(challenge) => {
                    if let Some(after_error) = after_error.take() {
                        told = [b" ", &*sasl::told(challenge)].concat();
                        self.write(&command::authenticate_data(after_error)).await?;
                        self.flush().await?;
                    }
                }
                _ => {}
            }
        }
    }

    async fn accepted(&mut self, answer: LoginAnswer) -> Result<LoginAnswer, ImapError> {
        if let LoginAnswer::Accepted { raw } = &answer {
            self.capabilities_after_login(raw).await?;
        }
        Ok(answer)
    }

    /// Capabilities change at login: from the OK's code, from an untagged line before it, or by asking.
    async fn capabilities_after_login(&mut self, raw: &[u8]) -> Result<(), ImapError> {
        let line = [b"* OK ", raw].concat();
        if let Response::Status { code: Some(code), .. } = scan::response(&line)
            && code.is("CAPABILITY")
        {
            self.capabilities = Capabilities::read(&scan::words(code.arg));
            return Ok(());
        }
        self.ask_capabilities().await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
