//! Whom connections with TLS trust, besides the authorities that the platform knows.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The certificates of `tls.ca_file`, checked; without the file there are none.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    own: Option<Arc<Own>>,
}

#[derive(Debug)]
struct Own {
    roots: RootCertStore,
    pem: Vec<u8>,
}

impl Trust {
    /// Reads a file of PEM certificates; whatever else is in it is ignored.
    ///
    /// # Errors
    /// What a person has to know: the file cannot be read, holds no certificate, or one that is none.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let pem = std::fs::read(path).map_err(|error| format!("the file cannot be read: {error}"))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate =
                certificate.map_err(|error| format!("{} is no PEM file: {error}", path.display()))?;
            roots
                .add(certificate)
                .map_err(|error| format!("{} holds a bad certificate: {error}", path.display()))?;
        }
        if roots.is_empty() {
            return Err(format!("{} holds no certificate in PEM", path.display()));
        }
        Ok(Trust { own: Some(Arc::new(Own { roots, pem })) })
    }

    /// The authorities of the file; empty without one.
    pub fn roots(&self) -> RootCertStore {
        self.own.as_ref().map_or_else(RootCertStore::empty, |own| own.roots.clone())
    }

    /// The file as it was read; `None` without one.
    pub fn pem(&self) -> Option<&[u8]> {
        self.own.as_ref().map(|own| own.pem.as_slice())
    }
}
