//! TLS for every connection: rustls with ring, the platform's authorities and those of `tls.ca_file`.
//!
//! Speaks to nobody itself. A server that is not who its certificate says is never spoken to in plain text instead.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_native_certs::load_native_certs;

use crate::config::Trust;

/// What a server's certificate is checked against, HTTP and AMQP alike.
///
/// # Errors
/// When ring offers no version of TLS, which a build rules out.
pub(super) fn client(trust: &Trust) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = trust.roots();
    roots.add_parsable_certificates(load_native_certs().certs);
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(versions.with_root_certificates(roots).with_no_client_auth()))
}

/// The same authorities as one PEM text, for a client that takes nothing else; `None` where its own default does.
pub(super) fn bundle(trust: &Trust) -> Option<Vec<u8>> {
    let mut pem = trust.pem()?.to_vec();
    for certificate in load_native_certs().certs {
        pem.extend_from_slice(b"\n-----BEGIN CERTIFICATE-----\n");
        for line in STANDARD.encode(&certificate).as_bytes().chunks(64) {
            pem.extend_from_slice(line);
            pem.push(b'\n');
        }
        pem.extend_from_slice(b"-----END CERTIFICATE-----\n");
    }
    Some(pem)
}

/// What the clients' errors say when a handshake fails, and what a person can do about it.
///
/// The clients wrap rustls's error each in another way, some of them as text only: text is what they share.
const ADVICE: [(&str, &str); 7] = [
    (
        "UnknownIssuer",
        "nobody who is trusted here has signed the server's certificate: set UPLOADER_TLS_CA_FILE to a PEM file with \
         its authority",
    ),
    (
        "not valid for name",
        "the server's certificate is for another name: use that name in the address, or give the server a certificate \
         for this one",
    ),
    ("certificate expired", "the server's certificate has expired: renew it there"),
    ("certificate not valid yet", "the server's certificate begins later: compare the clocks"),
    (
        "InvalidContentType",
        "the server does not speak TLS on this port: correct the port, or use the address without TLS on purpose",
    ),
    (
        "server does not support TLS",
        "PostgreSQL has ssl off: switch it on there, or choose another sslmode in DB_CONNECTION_STRING on purpose",
    ),
    ("CaUsedAsEndEntity", "the server shows an authority's certificate as its own: give it one of its own"),
];

/// An error's text with what to do about it, if it is one of TLS.
pub(super) fn explained(error: String) -> String {
    match ADVICE.iter().find(|(sign, _)| error.contains(sign)) {
        Some((_, advice)) => format!("{error}; {advice}"),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rustls_says_what_the_advice_listens_for() {
        use rustls::pki_types::{ServerName, UnixTime};
        use rustls::{CertificateError, Error, InvalidMessage};
        let time = UnixTime::now();
        let misnamed = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("here").unwrap(),
            presented: vec!["there".to_owned()],
        };
        let errors = [
            (Error::from(CertificateError::UnknownIssuer), "UPLOADER_TLS_CA_FILE"),
            (Error::from(misnamed), "another name"),
            (Error::from(CertificateError::ExpiredContext { time, not_after: time }), "renew"),
            (Error::from(CertificateError::NotValidYetContext { time, not_before: time }), "clocks"),
            (Error::from(InvalidMessage::InvalidContentType), "does not speak TLS"),
        ];
        for (error, advice) in errors {
            let text = explained(error.to_string());
            assert!(text.contains(advice), "{text}");
        }
        assert_eq!(explained("connection refused".into()), "connection refused");
    }
}
