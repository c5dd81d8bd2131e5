//! `ca_file`, `ca_dir`, `pin`, `tls_name`, `tls_min`, `client_cert` and `client_key`: TLS towards a side.

use super::model::{Endpoint, Pin, Security, TlsFiles, TlsVersion, Trust};
use super::raw::{Entry, Section};

/// The keys of TLS between a section's other ones.
macro_rules! with_tls_keys {
    ([$($before:literal),*], [$($behind:literal),*]) => {
        &[
            $($before,)*
            "ca_file", "ca_dir", "pin", "tls_name", "tls_min", "client_cert", "client_key",
            $($behind,)*
        ]
    };
}
pub(super) use with_tls_keys;

/// The keys, wherever they may stand.
const KEYS: &[&str] = with_tls_keys!([], []);

/// What a section says of TLS.
pub(super) struct Written<'a> {
    /// One of the keys that are there.
    first: Option<Entry<'a>>,
    trust: Trust,
}

/// Reads the keys of a section.
pub(super) fn written<'a>(section: &Section<'a>) -> Option<Written<'a>> {
    let path = |key: &str| section.or(key, None, |entry| entry.path().map(Some));
    let (ca_file, ca_dir) = (path("ca_file"), path("ca_dir"));
    let pin = section.or("pin", None, |entry| entry.parse(str::parse::<Pin>).map(Some));
    let name = section.or("tls_name", None, |entry| entry.text().map(|text| Some(text.to_owned())));
    let oldest = section.or("tls_min", TlsVersion::V12, |entry| match entry.text()? {
        "1.2" => Some(TlsVersion::V12),
        "1.3" => Some(TlsVersion::V13),
        other => entry.fail(format!("\"{other}\" is neither \"1.2\" nor \"1.3\"")),
    });
    let client = match (section.get("client_cert"), section.get("client_key")) {
        (None, None) => Some(None),
        (Some(cert), Some(key)) => match (cert.path(), key.path()) {
            (Some(cert), Some(key)) => Some(Some(TlsFiles { cert, key })),
            _ => None,
        },
        (Some(cert), None) => cert.fail("needs client_key as well"),
        (None, Some(key)) => key.fail("needs client_cert as well"),
    };
    if let (Some(pin), true) = (section.get("pin"), section.get("ca_file").or(section.get("ca_dir")).is_some()) {
        let other = if section.get("ca_file").is_some() { "ca_file" } else { "ca_dir" };
        return pin.fail(format!("has no use beside {other}: a pinned key is trusted whoever signed its certificate"));
    }
    if let (Some(dir), true) = (section.get("ca_dir"), section.get("ca_file").is_some()) {
        return dir.fail("has no use beside ca_file: give one of them");
    }
    let trust = Trust { ca: ca_file?.or(ca_dir?), pin: pin?, name: name?, oldest: oldest?, client: client? };
    Some(Written { first: KEYS.iter().find_map(|key| section.get(key)), trust })
}

impl Written<'_> {
    /// Tells those endpoints that are inside TLS; `none` is the complaint if there is none.
    pub(super) fn give<'a>(self, endpoints: impl IntoIterator<Item = &'a mut Endpoint>, none: &str) -> Option<()> {
        let mut protected = endpoints.into_iter().filter(|endpoint| endpoint.security != Security::Clear).peekable();
        if let (Some(entry), None) = (&self.first, protected.peek()) {
            return entry.fail(format!("has no use: {none}"));
        }
        for endpoint in protected {
            endpoint.trust = self.trust.clone();
        }
        Some(())
    }
}
