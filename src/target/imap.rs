//! Writing a side by APPEND (RFC 3501 §6.3.11): messages get the UIDs that the server chooses.
//!
//! A message counts for the server when the line end behind its octets has come, and not before. So an [`Appending`] that is
//! dropped has done nothing: its connection is closed with it. Only between [`Appending::finish`] and its answer is it unknown
//! whether the message is there.
//!
//! A NUL goes as it is. The grammar forbids it in a literal, but Dovecot 2.3 keeps it, while a literal8 (RFC 3516) would make
//! it write parts of the message anew: `Content-Transfer-Encoding: binary` becomes base64 (measured).

use crate::net::imap::{ImapConnection, ImapError, ImapServer};
use crate::net::{Access, LoginError, Refusal};
use crate::wire::imap::command::{self, Append};
use crate::wire::imap::scan::{self, Response};

/// Octets that are sent without asking whether the server wants them (RFC 7888 §5): for more, its refusal comes first.
const AT_ONCE_MAX: u64 = 4096;

/// What can go wrong with the server that is written.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// It can't be talked to: what was begun is not done, what was finished may be.
    #[error(transparent)]
    Imap(#[from] ImapError),
    /// It refused the login: don't try again with the same password.
    #[error("{0}")]
    LoginRefused(Refusal),
    /// It refused the login for a reason that says nothing about the password.
    #[error("not now: {0}")]
    Busy(Refusal),
}

/// A logged-in connection that writes.
#[derive(Debug)]
pub struct ImapTarget {
    connection: ImapConnection,
}

/// A message that is to be appended.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// The mailbox, raw as the server named it.
    pub mailbox: &'a [u8],
    /// System flags and keywords that the server can hold.
    pub flags: &'a [&'a str],
    /// INTERNALDATE as `date-time`; none: the server's clock.
    pub date: Option<&'a str>,
    /// Its octets.
    pub octets: u64,
}

/// Where a message is now (RFC 4315 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendUid {
    /// The mailbox's UIDVALIDITY.
    pub uid_validity: u32,
    /// The message's UID.
    pub uid: u32,
}

/// How the server took the beginning of an APPEND.
#[derive(Debug)]
pub enum Begun {
    /// It waits for the octets.
    Ready(Appending),
    /// It said NO or BAD, this.
    Refused(ImapTarget, String),
}

/// An APPEND on its way.
#[derive(Debug)]
pub struct Appending {
    connection: ImapConnection,
    tag: String,
    left: u64,
}

impl ImapTarget {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn open(server: &ImapServer, access: &Access) -> Result<Self, AppendError> {
        match server.log_in(access).await {
            Ok(connection) => Ok(Self { connection }),
            Err(LoginError::Server(error)) => Err(error.into()),
            Err(LoginError::Refused(refusal)) => Err(AppendError::LoginRefused(refusal)),
            Err(LoginError::Busy(refusal, _)) => Err(AppendError::Busy(refusal)),
        }
    }

    /// Begins an APPEND.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn begin(mut self, message: &NewMessage<'_>) -> Result<Begun, ImapError> {
        let offers = |name| self.connection.capabilities().has(name);
        let at_once = message.octets <= AT_ONCE_MAX && (offers("LITERAL+") || offers("LITERAL-"));
        let NewMessage { mailbox, flags, date, octets } = *message;
        let tag = self.connection.tag();
        let line = command::append(&tag, &Append { mailbox, flags, date, octets, at_once });
        let fragments = self.connection.encoded(line)?;
        let Some(refusal) = self.connection.send(fragments).await? else {
            return Ok(Begun::Ready(Appending { connection: self.connection, tag, left: octets }));
        };
        match self.connection.ended("APPEND", &tag, &refusal) {
            Err(ImapError::Refused { text, .. }) => Ok(Begun::Refused(self, text)),
            Err(error) => Err(error),
            Ok(_) => Err(self.connection.protocol("answered an APPEND before it had the message".to_owned())),
        }
    }

    /// Makes a mailbox; what the server said if it refuses.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn create(&mut self, mailbox: &[u8]) -> Result<Result<(), String>, ImapError> {
        let tag = self.connection.tag();
        match self.connection.run("CREATE", &tag, command::create(&tag, mailbox), &mut |_| {}).await {
            Ok(_) => Ok(Ok(())),
            Err(ImapError::Refused { text, .. }) => Ok(Err(text)),
            Err(error) => Err(error),
        }
    }

    /// Says goodbye. Errors don't matter any more.
    pub async fn logout(mut self) {
        let tag = self.connection.tag();
        let command = command::simple(&tag, command::Simple::Logout);
        let _ = self.connection.run("LOGOUT", &tag, command, &mut |_| {}).await;
    }
}

impl Appending {
    /// Writes the next octets of the message.
    ///
    /// # Errors
    /// If the connection breaks, or there are more than were announced.
    pub async fn octets(&mut self, octets: &[u8]) -> Result<(), ImapError> {
        match self.left.checked_sub(octets.len() as u64) {
            Some(left) => self.left = left,
            None => return Err(self.connection.protocol("was promised a shorter message".to_owned())),
        }
        self.connection.write(octets).await
    }

    /// Sends what was written: all but the line end that makes it count.
    ///
    /// # Errors
    /// If the connection breaks, or octets are missing.
    pub async fn flush(&mut self) -> Result<(), ImapError> {
        if self.left > 0 {
            return Err(self.connection.protocol(format!("was promised {} octets more", self.left)));
        }
        self.connection.flush().await
    }

    /// Ends the command. What the server said if it refuses the message; where the message is, if it tells.
    ///
    /// # Errors
    /// If the connection breaks: then it is not known whether the message is there.
    pub async fn finish(mut self) -> Result<(ImapTarget, Result<Option<AppendUid>, String>), ImapError> {
        self.flush().await?;
        self.connection.write(b"\r\n").await?;
        self.connection.flush().await?;
        let answer = loop {
            let response = self.connection.response().await?;
            match self.connection.ended("APPEND", &self.tag, &response) {
                Ok(Some(completed)) => break Ok(append_uid(&completed.raw)),
                Ok(None) => {}
                Err(ImapError::Refused { text, .. }) => break Err(text),
                Err(error) => return Err(error),
            }
        };
        Ok((ImapTarget { connection: self.connection }, answer))
    }
}

/// `[APPENDUID uidvalidity uid]` at the start of what stood behind OK.
fn append_uid(raw: &[u8]) -> Option<AppendUid> {
    let line = [b"* OK ", raw].concat();
    let Response::Status { code: Some(code), .. } = scan::response(&line) else { return None };
    let mut numbers = code.is("APPENDUID").then(|| scan::words(code.arg))?.into_iter();
    let mut number = || std::str::from_utf8(numbers.next()?).ok()?.parse().ok();
    let uid = AppendUid { uid_validity: number()?, uid: number()? };
    (uid.uid > 0).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::{AppendUid, append_uid};

    #[test]
    fn where_a_message_is_stands_in_the_code_of_the_answer() {
        let told = |raw: &str| append_uid(raw.as_bytes()).map(|AppendUid { uid_validity, uid }| (uid_validity, uid));
        assert_eq!(told("[APPENDUID 38505 3955] APPEND completed"), Some((38505, 3955)));
        assert_eq!(told("[appenduid 1 4294967295]"), Some((1, u32::MAX)));
        for raw in
            ["APPEND completed", "[APPENDUID 1]", "[APPENDUID 1 0] x", "[APPENDUID 1 4294967296]", "[COPYUID 1 2]"]
        {
            assert_eq!(told(raw), None, "{raw}");
        }
    }
}
