//! An authority of the test's own and what it signs.

use std::path::{Path, PathBuf};

use devstack::{Identity, Workspace};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// A certificate authority; its files are in the workspace.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(workspace: &Workspace, name: &str) -> Self {
        let folder = workspace.reachable_folder(&format!("ca-{name}")).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { folder, issuer: Issuer::new(params, key) }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    pub fn path(&self) -> String {
        self.file().display().to_string()
    }

    /// A certificate for one host name.
    pub fn identity(&self, host: &str) -> Identity {
        self.sign(host, CertificateParams::new([host.to_owned()]).unwrap())
    }

    /// A certificate whose time is over.
    pub fn expired(&self, host: &str) -> Identity {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign("expired", params)
    }

    fn sign(&self, name: &str, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let put = |kind: &str, text: String| -> PathBuf {
            let path: &Path = &self.folder.join(format!("{name}.{kind}"));
            std::fs::write(path, text).unwrap();
            path.to_owned()
        };
        Identity {
            authority: self.file(),
            certificate: put("crt", certificate.pem()),
            key: put("key", key.serialize_pem()),
        }
    }
}
