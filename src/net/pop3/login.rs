//! From the greeting to a logged-in connection.

use std::net::SocketAddr;

use zeroize::Zeroizing;

use super::{Pop3Answer, Pop3Connection, Pop3Error, printable};
use crate::net::Stream;
use crate::wire::pop3::Capabilities;
use crate::wire::pop3::reply::reply;
use crate::wire::sasl::{self, Bearer};

/// Octets of a command line with its end (RFC 2449 §4); a longer SASL message goes on a line of its own (RFC 5034 §4).
const COMMAND_MAX: usize = 255;

/// Proxies that may still stand between that server and the one with the mail, us included (Dovecot's own number).
const HOPS: u32 = 5;

impl Pop3Connection {
    /// Whether the server takes our word on who the client is.
    #[must_use]
    pub const fn xclient_offered(&self) -> bool {
        self.xclient
    }

    pub(super) async fn start_tls(mut self) -> Result<Self, Pop3Error> {
        if let Pop3Answer::Refused { raw } = self.command("STLS").await? {
            return Err(self.server.refused("STLS", &raw));
        }
        // What came in clear text behind the OK could have been injected (RFC 2595 §4): it is not used.
        self.input.clear();
        let server = self.server.clone();
        let (Stream::Plain(tcp), Some(tls)) = (self.stream, &server.tls) else {
            return Err(server.protocol("STLS on a connection that is encrypted already".to_owned()));
        };
        let stream = tls.connect(tcp, &server.endpoint.host).await.map_err(|source| server.tls_error(source))?;
        Ok(Self { stream, capabilities: None, ..self })
    }

    /// Tells the server who the client behind us is, if it offers XCLIENT; before anything else.
    ///
    /// # Errors
    /// If the connection breaks; where the server refuses, nothing is lost but the client's address in its log.
    pub async fn identify(&mut self, client: SocketAddr, session: &str) -> Result<(), Pop3Error> {
        if !self.xclient {
            return Ok(());
        }
        let (address, port) = (client.ip().to_canonical(), client.port());
        let line = format!("XCLIENT ADDR={address} PORT={port} SESSION={session} TTL={HOPS}");
        self.command(&line).await.map(|_| ())
    }

    /// What the server announces now (CAPA); nothing if it doesn't know that command. Asked once before login, where the
    /// answer is remembered.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn capabilities(&mut self) -> Result<Capabilities, Pop3Error> {
        let mut known = Capabilities::default();
        self.multiline("CAPA", &mut |line| known.add(line)).await?;
        self.capabilities = Some(known.clone());
        Ok(known)
    }

    /// Logs in: by AUTH PLAIN where the server offers it, else by USER and PASS.
    ///
    /// # Errors
    /// If the connection breaks, or name and password can't be sent there. A refusal is an answer, not an error.
    pub async fn login(&mut self, user: &str, authzid: Option<&str>, password: &[u8]) -> Result<Pop3Answer, Pop3Error> {
        let known = match self.capabilities.take() {
            Some(known) => known,
            None => self.capabilities().await?,
        };
        // What it announces after the login may be something else.
        self.capabilities = None;
        if known.has_sasl("PLAIN") {
            let message = sasl::plain(authzid, user, password).map_err(|e| self.server.protocol(e.to_string()))?;
            return self.authenticate("PLAIN", &message, None).await;
        }
        if authzid.is_some() {
            return Err(self
                .server
                .protocol("offers no way to log in as somebody else (SASL PLAIN is missing)".into()));
        }
        if known.has("SASL") && !known.has("USER") && !known.want_tls_first() {
            let what = "offers no way to log in with a password: neither SASL PLAIN nor USER is in its CAPA";
            return Err(self.server.protocol(what.into()));
        }
        if password.iter().any(|octet| b"\r\n\0".contains(octet)) {
            let what = "a password with a line end can't be sent without SASL PLAIN, which is not offered";
            return Err(self.server.protocol(what.into()));
        }
        let answer = self.command(&format!("USER {user}")).await?;
        if let Pop3Answer::Refused { raw } = &answer {
            if known.want_tls_first() {
                // Whatever the password is (Dovecot says even `[AUTH]`): its user would be asked for another one.
                let said = printable(raw);
                let what = format!("takes no password on this connection before TLS is started ({said}): use TLS");
                return Err(self.server.protocol(what));
            }
            return Ok(answer);
        }
        self.secret(&[b"PASS ", password]).await?;
        self.answer().await
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
    ) -> Result<Pop3Answer, Pop3Error> {
        let known = match self.capabilities.take() {
            Some(known) => known,
            None => self.capabilities().await?,
        };
        // What it announces after the login may be something else.
        self.capabilities = None;
        let name = mechanism.name();
        if !known.has_sasl(name) {
            return Err(self.server.protocol(format!("does not take tokens by {name}: its CAPA has no SASL {name}")));
        }
        let endpoint = &self.server.endpoint;
        let message = mechanism.message(user, (&endpoint.host, endpoint.port), token);
        self.authenticate(name, &message, Some(mechanism.after_error())).await
    }

    /// `after_error` is what ends a mechanism that tells in a challenge why it refuses.
    async fn authenticate(
        &mut self,
        mechanism: &'static str,
        message: &[u8],
        after_error: Option<&'static [u8]>,
    ) -> Result<Pop3Answer, Pop3Error> {
        let command = format!("AUTH {mechanism}");
        let message = sasl::to_base64(message);
        if command.len() + message.len() + 3 <= COMMAND_MAX {
            self.secret(&[command.as_bytes(), b" ", &message]).await?;
        } else {
            self.send(&command)?;
            self.flush().await?;
            if let Some(refused) = self.challenge(mechanism).await?.err() {
                return Ok(refused);
            }
            self.secret(&[&message]).await?;
        }
        let Some(after_error) = after_error else { return self.answer().await };
        match self.challenge(mechanism).await? {
            Err(answer) => Ok(answer),
            Ok(challenge) => {
                self.secret(&[&sasl::to_base64(after_error)]).await?;
                Ok(match self.answer().await? {
                    Pop3Answer::Refused { raw } => {
                        Pop3Answer::Refused { raw: [&raw, b" ".as_slice(), &sasl::told(&challenge)].concat() }
                    }
                    accepted @ Pop3Answer::Accepted { .. } => accepted,
                })
            }
        }
    }

    /// A challenge (RFC 5034 §4); the error is an answer that comes in place of one.
    async fn challenge(&mut self, mechanism: &str) -> Result<Result<Vec<u8>, Pop3Answer>, Pop3Error> {
        let line = self.line().await?;
        if let Some(challenge) = line.strip_prefix(b"+ ").or_else(|| line.strip_prefix(b"+").filter(|l| l.is_empty())) {
            return Ok(Ok(challenge.to_vec()));
        }
        match reply(&line) {
            Some(answer) => Ok(Err(Pop3Answer::read(&line, answer))),
            None => Err(self.server.protocol(format!("answered AUTH {mechanism} with nothing that POP3 knows"))),
        }
    }

    /// Sends a line that nothing may keep a copy of.
    async fn secret(&mut self, parts: &[&[u8]]) -> Result<(), Pop3Error> {
        // Room for all of it from the start: growing would leave the password behind in freed memory.
        let mut line = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum::<usize>() + 2));
        for part in parts {
            line.extend_from_slice(part);
        }
        line.extend_from_slice(b"\r\n");
        self.write(&line).await
    }
}
