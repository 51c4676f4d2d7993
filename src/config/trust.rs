//! Whom connections with TLS trust, besides the authorities that the platform knows.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The platform's own file of all the authorities there are has 220 KiB.
const MOST_BYTES: u64 = 4 << 20;

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
        let pem = read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
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

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut pem)?;
    if pem.len() as u64 > MOST_BYTES {
        return Err(std::io::Error::other(format!("it is longer than {MOST_BYTES} bytes")));
    }
    Ok(pem)
}
