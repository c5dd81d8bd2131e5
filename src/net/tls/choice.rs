//! Which of several certificates a client is shown: by the name it asks for (SNI, RFC 6066 §3), then by the signatures that
//! it can check.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::rustls::SignatureScheme;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

/// A certificate that can be shown.
#[derive(Debug)]
pub(super) struct Offer {
    /// To clients that ask for one of these (lower case, `*.` in front for any one label); none: to everybody else.
    pub(super) names: Arc<[String]>,
    /// The certificate and its key.
    pub(super) key: Arc<CertifiedKey>,
}

/// The certificates there are, which may be replaced at any time.
#[derive(Debug)]
pub(super) struct Choice(RwLock<Arc<Sets>>);

/// In each set the first one comes first.
#[derive(Debug, Default)]
struct Sets {
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    otherwise: Vec<Arc<CertifiedKey>>,
}

impl Choice {
    pub(super) fn new(offers: Vec<Offer>) -> Self {
        Self(RwLock::new(Arc::new(Sets::of(offers))))
    }

    pub(super) fn replace(&self, offers: Vec<Offer>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Sets::of(offers));
    }

    pub(super) fn pick(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let sets = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let keys = sets.for_name(name);
        let usable = keys.iter().find(|key| key.key.choose_scheme(schemes).is_some());
        // With one that it can't check the handshake says so.
        usable.or(keys.first()).cloned()
    }
}

impl Sets {
    fn of(offers: Vec<Offer>) -> Self {
        let mut sets = Self::default();
        for Offer { names, key } in offers {
            for name in names.iter() {
                sets.by_name.entry(name.clone()).or_default().push(Arc::clone(&key));
            }
            if names.is_empty() {
                sets.otherwise.push(key);
            }
        }
        sets
    }

    fn for_name(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let named = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wild = || Some(format!("*.{}", name.split_once('.')?.1));
            self.by_name.get(&name).or_else(|| self.by_name.get(&wild()?))
        });
        named.unwrap_or(&self.otherwise)
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.pick(hello.server_name(), hello.signature_schemes())
    }
}

/// Whether clients that ask for `name` will take this certificate.
pub(super) fn covers(key: &CertifiedKey, name: &str) -> Result<(), String> {
    let certificate = key.end_entity_cert().map_err(|error| error.to_string())?;
    let certificate = ParsedCertificate::try_from(certificate).map_err(|error| error.to_string())?;
    // Any name below: a wildcard is in the certificate, or the names are not all covered.
    let example = name.strip_prefix('*').map_or_else(|| name.to_owned(), |rest| format!("any-name{rest}"));
    let wanted = ServerName::try_from(example).map_err(|_| "that is no host name".to_owned())?;
    verify_server_name(&certificate, &wanted).map_err(|error| error.to_string())
}
