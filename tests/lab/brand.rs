//! What a test asks of a server, whatever its brand.

use super::cyrus::Cyrus;
use super::server::Dovecot;
use std::fmt::Debug;
use std::path::Path;

/// A private server of the lab.
pub trait Server: Debug + Sync {
    /// IMAP in clear.
    fn imap_port(&self) -> u16;

    /// POP3 in clear.
    fn pop3_port(&self) -> u16;

    fn lmtp_port(&self) -> u16;

    /// Who signed its certificate.
    fn ca(&self) -> &Path;

    fn password(&self, user: &str) -> &str;
}

macro_rules! is_a_server {
    ($($brand:ty),*) => {
        $(impl Server for $brand {
            fn imap_port(&self) -> u16 {
                self.imap_port()
            }

            fn pop3_port(&self) -> u16 {
                self.pop3_port()
            }

            fn lmtp_port(&self) -> u16 {
                self.lmtp_port()
            }

            fn ca(&self) -> &Path {
                &self.tls().ca
            }

            fn password(&self, user: &str) -> &str {
                self.password(user)
            }
        })*
    };
}

is_a_server!(Dovecot, Cyrus);
