//! Endpoint URLs: `imaps://old.example:993`.

use super::model::{Endpoint, Security};

/// Ports of the protocols, where the URL names none (RFC 3501, RFC 8314, RFC 5804; Dovecot's doveadm service; LMTP by custom).
const IMAP: u16 = 143;
const IMAPS: u16 = 993;
const POP3: u16 = 110;
const POP3S: u16 = 995;
const SIEVE: u16 = 4190;
const DOVEADM: u16 = 24245;
const LMTP: u16 = 24;

/// `imap://`, `imap+starttls://` or `imaps://`.
pub(super) fn imap(url: &str) -> Result<Endpoint, String> {
    endpoint(url, [("imap", IMAP), ("imap+starttls", IMAP), ("imaps", IMAPS)])
}

/// `pop3://`, `pop3+starttls://` or `pop3s://`.
pub(super) fn pop3(url: &str) -> Result<Endpoint, String> {
    endpoint(url, [("pop3", POP3), ("pop3+starttls", POP3), ("pop3s", POP3S)])
}

/// `sieve://`, `sieve+starttls://` or `sieves://`.
pub(super) fn sieve(url: &str) -> Result<Endpoint, String> {
    endpoint(url, [("sieve", SIEVE), ("sieve+starttls", SIEVE), ("sieves", SIEVE)])
}

/// `doveadm://`, `doveadm+starttls://` or `doveadm+tls://`.
pub(super) fn doveadm(url: &str) -> Result<Endpoint, String> {
    endpoint(url, [("doveadm", DOVEADM), ("doveadm+starttls", DOVEADM), ("doveadm+tls", DOVEADM)])
}

/// The schemes in clear, with STARTTLS and inside TLS, each with its port.
fn endpoint(url: &str, schemes: [(&str, u16); 3]) -> Result<Endpoint, String> {
    let Url { scheme, host, port } = split(url)?;
    let mut kinds = schemes.iter().zip([Security::Clear, Security::StartTls, Security::Tls]);
    let Some(((_, default), security)) = kinds.find(|((known, _), _)| *known == scheme) else {
        let [clear, starttls, tls] = schemes.map(|(name, _)| name);
        return Err(format!("{scheme}:// is none of {clear}://, {starttls}://, {tls}://"));
    };
    Ok(Endpoint { security, ..Endpoint::clear(host, port.unwrap_or(*default)) })
}

/// `HOST:PORT`, for whatever is spoken there.
pub(super) fn host_and_port(text: &str) -> Result<Endpoint, String> {
    let wrong = || format!("\"{text}\" is not a host and a port such as \"old.example:587\" or \"[2001:db8::5]:587\"");
    if text.contains(['/', '@']) {
        return Err(wrong());
    }
    let Url { host, port, .. } = split(&format!("tcp://{text}")).map_err(|_| wrong())?;
    let port = port.ok_or_else(wrong)?;
    Ok(Endpoint::clear(host, port))
}

/// `lmtp://`: host and port.
pub(super) fn lmtp(url: &str) -> Result<(String, u16), String> {
    let Url { scheme, host, port } = split(url)?;
    if scheme != "lmtp" {
        return Err(format!("{scheme}:// is not lmtp://"));
    }
    Ok((host, port.unwrap_or(LMTP)))
}

struct Url {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// Splits `SCHEME://HOST[:PORT]`.
fn split(url: &str) -> Result<Url, String> {
    if url.contains('@') {
        // Not shown: it may hold a password.
        return Err("a URL here has no user name or password (no \"@\")".to_owned());
    }
    let wrong = |what: &str| format!("\"{url}\" {what}; expected SCHEME://HOST:PORT, such as imaps://old.example:993");
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("has no \"://\""))?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(wrong("has a path"));
    }
    let (host, port) = if let Some(rest) = rest.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or_else(|| wrong("has no \"]\""))?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong("has no IPv6 address in its brackets"))?;
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return Err(wrong("has text behind \"]\"")),
            port => port,
        };
        (host, port)
    } else {
        match rest.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(wrong("needs brackets around its IPv6 address")),
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        }
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(named) {
        return Err(wrong("has no valid host name (write non-ASCII names in their xn-- form)"));
    }
    let number = |port: &str| port.parse().ok().filter(|port| *port > 0 && !rest.contains('+'));
    let port = port.map(|port| number(port).ok_or_else(|| wrong("has no port between 1 and 65535"))).transpose()?;
    Ok(Url { scheme: scheme.to_lowercase(), host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{doveadm, imap, lmtp, sieve};
    use crate::config::Security;

    #[test]
    fn imap_urls() {
        for (url, host, port, security) in [
            ("imap://h", "h", 143, Security::Clear),
            ("imap://10.0.0.5:1143", "10.0.0.5", 1143, Security::Clear),
            ("imap+starttls://old.example", "old.example", 143, Security::StartTls),
            ("imaps://old.example", "old.example", 993, Security::Tls),
            ("IMAPS://old.example:1993/", "old.example", 1993, Security::Tls),
            ("imaps://[::1]", "::1", 993, Security::Tls),
            ("imap://[2001:db8::1]:1143", "2001:db8::1", 1143, Security::Clear),
        ] {
            let endpoint = imap(url).unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.security), (host, port, security), "{url}");
        }
    }

    #[test]
    fn what_is_no_imap_url_is_refused_with_the_reason() {
        for (url, reason) in [
            ("old.example:993", "no \"://\""),
            ("pop3://h", "none of imap://"),
            ("imaps://", "host name"),
            ("imaps://h:", "port"),
            ("imaps://h:0", "port"),
            ("imaps://h:+1", "port"),
            ("imaps://h:70000", "port"),
            ("imaps://h/INBOX", "path"),
            ("imaps://::1:993", "brackets"),
            ("imaps://[::1", "]"),
            ("imaps://[h]:1", "IPv6"),
            ("imaps://[::1]1", "behind"),
            ("imaps://bücher.example", "xn--"),
            ("imaps://u:geheim@h", "no user name"),
        ] {
            let error = imap(url).unwrap_err();
            assert!(error.contains(reason), "{url}: {error}");
            assert!(!error.contains("geheim"), "{error}");
        }
    }

    #[test]
    fn other_urls() {
        for (url, port, security) in [
            ("doveadm://h", 24245, Security::Clear),
            ("doveadm+starttls://h:1", 1, Security::StartTls),
            ("doveadm+tls://h", 24245, Security::Tls),
        ] {
            let endpoint = doveadm(url).unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.security), ("h", port, security), "{url}");
        }
        assert_eq!(
            sieve("sieve+starttls://h").map(|endpoint| (endpoint.port, endpoint.security)),
            Ok((4190, Security::StartTls))
        );
        assert!(doveadm("imap://h").unwrap_err().contains("doveadm+tls://"));
        assert_eq!(lmtp("lmtp://h"), Ok(("h".to_owned(), 24)));
        assert!(lmtp("smtp://h").is_err());
    }
}
