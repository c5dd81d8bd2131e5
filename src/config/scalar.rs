//! Values that are written as a string: durations, a store, a domain, a secret's file.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::model::DayBudget;

/// A password file longer than this is something else given by mistake.
const MAX_SECRET: usize = 4096;

/// The longest duration that makes sense anywhere: ten years, so that sums with a clock can't overflow.
const MAX_DURATION: Duration = Duration::from_secs(3650 * 86_400);

/// Reads `500ms`, `2s`, `15m`, `24h`, `14d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is not a duration such as \"500ms\", \"2s\", \"15m\", \"24h\" or \"14d\"");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let duration = Duration::from_millis(number.checked_mul(milliseconds).ok_or_else(wrong)?);
    if duration > MAX_DURATION {
        return Err(format!("\"{text}\" is longer than ten years"));
    }
    Ok(duration)
}

/// Reads `800kB`, `500MB`, `2GB`, or `unlimited`.
pub(super) fn day_budget(text: &str) -> Result<DayBudget, String> {
    if text == "unlimited" {
        return Ok(DayBudget(None));
    }
    let wrong = || format!("\"{text}\" is not an amount such as \"800kB\", \"500MB\" or \"2GB\", or \"unlimited\"");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let octets = match unit {
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    match number.checked_mul(octets) {
        Some(0) => Err(format!("\"{text}\" would leave no room for any message")),
        octets => octets.map(|octets| DayBudget(Some(octets))).ok_or_else(wrong),
    }
}

/// The path in `sqlite:/path`, `sqlite:path` or `sqlite:///path`.
pub(super) fn sqlite_path(url: &str) -> Result<&str, String> {
    let wrong = || "expected \"sqlite:/path/to/state.db\"".to_owned();
    let path = url.strip_prefix("sqlite:").ok_or_else(wrong)?;
    let path = match path.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) => return Err(wrong()),
        None => path,
    };
    if path.starts_with(':') {
        return Err(format!("\"{path}\" would be lost with the process: name a file, \"sqlite:/path/to/state.db\""));
    }
    if path.is_empty() || path.ends_with('/') || path.contains('?') {
        return Err(wrong());
    }
    Ok(path)
}

/// A mail domain, lower-cased.
pub(super) fn domain(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.is_empty() || !text.chars().all(allowed) || text.starts_with('.') || text.ends_with('.') {
        return Err(format!("\"{text}\" is not a domain such as \"example.net\" (without \"@\")"));
    }
    Ok(text.to_lowercase())
}

/// The name of a header field.
pub(super) fn header_field(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if text.is_empty() || !text.chars().all(fits) {
        return Err(format!("\"{text}\" is not a header field such as \"Message-ID\""));
    }
    Ok(text.to_owned())
}

/// A host name that TLS clients ask for, lower-cased; `*.` in front for any one label.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        let plain = label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
        (1..=63).contains(&label.len()) && plain
    };
    let dotted = host.contains('.') || host == text;
    if !host.is_ascii() {
        return Err(format!("\"{text}\": write it as clients send it, with \"xn--\""));
    }
    if !dotted || !host.split('.').all(label) || host.parse::<std::net::IpAddr>().is_ok() {
        return Err(format!("\"{text}\" is not a host name such as \"mail.example.net\" or \"*.example.net\""));
    }
    Ok(text.to_ascii_lowercase())
}

/// Reads the secret in the file at `path`: its text without the line end.
pub(super) fn secret(path: &Path) -> Result<SecretString, String> {
    let failed = |error: io::Error| format!("can't read {}: {error}", path.display());
    // Room for all of it from the start: a buffer that grows would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 1));
    let limit = u64::try_from(MAX_SECRET + 1).unwrap_or(u64::MAX);
    std::fs::File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_SECRET {
        return Err(format!("{} is longer than {MAX_SECRET} bytes: it should hold one password", path.display()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(format!("{} is empty: write the password into it", path.display()));
    }
    if text.contains(['\n', '\r', '\0']) {
        return Err(format!("{} has more than one line: it should hold one password", path.display()));
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use secrecy::ExposeSecret;

    use super::{domain, duration, secret, server_name, sqlite_path};

    #[test]
    fn durations() {
        for (text, milliseconds) in
            [("0s", 0), ("500ms", 500), ("2s", 2000), ("15m", 900_000), ("24h", 86_400_000), ("14d", 1_209_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "2", "s", "-1s", "1.5s", "2 s", "2S", "2sec", "99999999999999999999s", "4000d", "１s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn store_paths() {
        for (url, path) in [
            ("sqlite:/a/b.db", "/a/b.db"),
            ("sqlite:b.db", "b.db"),
            ("sqlite:///a/b.db", "/a/b.db"),
            ("sqlite:./c", "./c"),
        ] {
            assert_eq!(sqlite_path(url), Ok(path));
        }
        for url in
            ["", "/a", "sqlite:", "sqlite://", "sqlite://host/a", "sqlite:/a/", "sqlite::memory:", "sqlite:/a?x=1"]
        {
            assert!(sqlite_path(url).is_err(), "{url}");
        }
    }

    #[test]
    fn domains_are_lower_case() {
        assert_eq!(domain("Example.NET"), Ok("example.net".to_owned()));
        for text in ["", "@example.net", "a b", ".net", "net."] {
            assert!(domain(text).is_err(), "{text}");
        }
    }

    #[test]
    fn server_names() {
        assert_eq!(server_name("*.Example.NET"), Ok("*.example.net".to_owned()));
        assert_eq!(server_name("localhost"), Ok("localhost".to_owned()));
        for text in ["", "*", "*.net", "mail.*.net", ".net", "a b.net", "10.0.0.5", "net.", "*.*.net"] {
            assert!(server_name(text).is_err(), "{text}");
        }
        assert!(server_name("bücher.example").unwrap_err().contains("xn--"));
    }

    #[test]
    fn a_secret_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (content, value) in [
            ("pass word", Some("pass word")),
            ("pass\n", Some("pass")),
            ("pass\r\n", Some("pass")),
            (" pass \n", Some(" pass ")),
            ("", None),
            ("\n", None),
            ("two\nlines\n", None),
            ("nul\0", None),
        ] {
            std::fs::write(&path, content).unwrap();
            let read = secret(&path).ok();
            assert_eq!(read.as_ref().map(|secret| secret.expose_secret()), value, "{content:?}");
        }
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(secret(&path).unwrap_err().contains("longer than 4096"));
        assert!(secret(&folder.path().join("none")).unwrap_err().contains("can't read"));
    }
}
