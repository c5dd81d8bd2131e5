//! From the greeting to a logged-in connection.

use super::{Capabilities, ImapConnection, ImapError, printable};
use crate::wire::imap::command::{self, Simple};
use crate::wire::imap::scan::{self, Response, Status};
use crate::wire::sasl;

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
            self.authenticate_plain(name, authzid, password).await?
        } else if authzid.is_some() || self.capabilities.has("LOGINDISABLED") {
            let way = if authzid.is_some() { "as somebody else" } else { "with a password on this connection" };
            return Err(self.protocol(format!("offers no way to log in {way} (AUTH=PLAIN is missing): use TLS")));
        } else {
            let tag = self.tag();
            let fragments = self.encoded(command::login(&tag, name, password))?;
            let refusal = self.send(fragments).await?;
            self.answer(&tag, refusal).await?
        };
        if let LoginAnswer::Accepted { raw } = &answer {
            self.capabilities_after_login(raw).await?;
        }
        Ok(answer)
    }

    const fn is_clear(&self) -> bool {
        matches!(self.stream, super::Stream::Plain(_))
    }

    async fn authenticate_plain(
        &mut self,
        name: &str,
        authzid: Option<&str>,
        password: &[u8],
    ) -> Result<LoginAnswer, ImapError> {
        let message = sasl::plain(authzid, name, password).map_err(|error| self.protocol(error.to_string()))?;
        let tag = self.tag();
        let initial = self.capabilities.has("SASL-IR");
        let fragments = self.encoded(command::authenticate_plain(&tag, initial.then_some(&message)))?;
        let mut refusal = self.send(fragments).await?;
        if !initial && refusal.is_none() {
            self.flush().await?;
            refusal = self.continuation().await?;
            if refusal.is_none() {
                self.write(&command::authenticate_data(&message)).await?;
            }
        }
        self.answer(&tag, refusal).await
    }

    async fn continuation(&mut self) -> Result<Option<Vec<u8>>, ImapError> {
        loop {
            let response = self.response().await?;
            match scan::response(&response) {
                Response::Continuation(_) => return Ok(None),
                Response::Tagged { .. } => return Ok(Some(response)),
                _ => {}
            }
        }
    }

    async fn answer(&mut self, tag: &str, early: Option<Vec<u8>>) -> Result<LoginAnswer, ImapError> {
        self.flush().await?;
        let mut next = early;
        loop {
            let response = match next.take() {
                Some(response) => response,
                None => self.response().await?,
            };
            if let Response::Tagged { tag: theirs, status, raw, .. } = scan::response(&response)
                && theirs == tag.as_bytes()
            {
                let raw = raw.to_vec();
                return Ok(match status {
                    Status::Ok => LoginAnswer::Accepted { raw },
                    status => LoginAnswer::Refused { status, raw },
                });
            }
        }
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
mod tests {
    use super::*;

    #[test]
    fn one_session_too_many_is_no_wrong_password() {
        let turned_away =
            |raw: &str| LoginAnswer::Refused { status: Status::No, raw: raw.as_bytes().to_vec() }.is_turned_away();
        for raw in ["[ALERT] Too many simultaneous connections. (Failure)", "Too many open connections (2 of 2 for u1)"]
        {
            assert!(turned_away(raw), "{raw}");
        }
        for raw in [
            "[AUTHENTICATIONFAILED] Too many connections with this wrong password",
            "[ALERT] Invalid credentials (Failure)",
            "Too many failures",
            "",
        ] {
            assert!(!turned_away(raw), "{raw}");
        }
        assert!(!LoginAnswer::Accepted { raw: b"Too many connections".to_vec() }.is_turned_away());
    }
}
