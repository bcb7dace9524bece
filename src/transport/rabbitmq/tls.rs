//! TLS to the broker: whom we trust, and who we are. The same for AMQP and the management API.

use super::Identity;
use crate::config::Hidden;
use lapin::tcp::RustlsConnector;
use rustls::{
    CertificateError, ClientConfig, Error, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::sync::Arc;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// Certificates and keys, read and checked.
pub(super) struct Tls {
    roots: Vec<CertificateDer<'static>>,
    own: Option<Own>,
}

struct Own {
    certificate: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// The same, as the other client wants it.
    key_pem: Hidden,
}

impl Tls {
    /// Of texts in PEM; `ca: None` trusts whom the system trusts.
    ///
    /// # Errors
    /// Names the setting.
    pub(super) fn new(ca: Option<&str>, identity: Option<&Identity>) -> Result<Self, String> {
        let roots = match ca {
            Some(ca) => certificates(ca, "ca_file")?,
            None => {
                let found = rustls_native_certs::load_native_certs();
                if found.certs.is_empty() {
                    return Err(
                        "the system trusts no certificate authority: set `ca_file` of the transport, or install \
                                ca-certificates"
                            .into(),
                    );
                }
                found.certs
            }
        };
        let own = identity.map(|identity| {
            let certificate = certificates(&identity.certificate, "client_cert")?;
            let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes()).map_err(|_| NO_KEY.to_owned())?;
            Ok::<_, String>(Own { certificate, key, key_pem: identity.key.clone() })
        });
        Ok(Self { roots, own: own.transpose()? })
    }

    /// For AMQP. Not the client's own: that one trusts the system beside `ca_file`, and fails where the system trusts nobody.
    pub(super) fn connector(&self) -> Result<RustlsConnector, String> {
        let mut roots = RootCertStore::empty();
        let (_, unreadable) = roots.add_parsable_certificates(self.roots.iter().cloned());
        if roots.is_empty() {
            return Err(format!("{unreadable} certificates of `ca_file` of the transport cannot be read"));
        }
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = builder.with_root_certificates(roots);
        let config = match &self.own {
            Some(Own { certificate, key, .. }) => {
                builder.with_client_auth_cert(certificate.clone(), key.clone_key()).map_err(|error| {
                    format!("`client_cert` and `client_key` of the transport do not go together: {error}")
                })?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config).into())
    }

    /// For the management API. Only of what [`connector`](Self::connector) found good: this client panics over a key of another
    /// certificate.
    pub(super) fn http(&self) -> Result<TlsConfig, String> {
        let certificates = |all: &[CertificateDer<'_>]| -> Vec<_> {
            all.iter().map(|one| Certificate::from_der(one).to_owned()).collect()
        };
        let own = self.own.as_ref().map(|own| {
            let key = PrivateKey::from_pem(own.key_pem.expose().as_bytes()).map_err(|_| NO_KEY.to_owned())?;
            Ok::<_, String>(ClientCert::new_with_certs(&certificates(&own.certificate), key))
        });
        let builder = TlsConfig::builder().unversioned_rustls_crypto_provider(provider());
        let roots = RootCerts::new_with_certs(&certificates(&self.roots));
        Ok(builder.root_certs(roots).client_cert(own.transpose()?).build())
    }
}

const NO_KEY: &str = "`client_key` of the transport has no private key (PEM, not encrypted)";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(pem: &str, setting: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(format!("`{setting}` of the transport has no certificate (PEM)")),
    }
}

/// What a failed handshake means, and the setting that mends it. `url` is the setting with the host that was tried.
pub(super) fn failure(error: &Error, url: &str, host: &str, port: u16) -> String {
    use rustls::AlertDescription as Alert;
    match error {
        // A bad signature: of another authority that has the same name.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => format!(
            "the certificate of {host}:{port} is signed by nobody whom we trust: set `ca_file` of the transport to the \
             certificate of who signed it"
        ),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            let names = match error {
                Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })
                    if !presented.is_empty() =>
                {
                    format!(" but for {}", presented.join(", "))
                }
                _ => String::new(),
            };
            format!("the certificate of {host}:{port} is not for `{host}`{names}: check the host in {url}")
        }
        Error::InvalidCertificate(other) => format!("the certificate of {host}:{port} is refused: {other}"),
        Error::AlertReceived(Alert::CertificateRequired) => {
            format!("{host}:{port} wants a client certificate: set `client_cert` and `client_key` of the transport")
        }
        Error::AlertReceived(
            alert @ (Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate
            | Alert::AccessDenied),
        ) => format!("{host}:{port} does not take the certificate of `client_cert`: it says {alert:?}"),
        Error::InvalidMessage(_) => {
            format!("{host}:{port} does not speak TLS: it has another port for it, or {url} begins without the s")
        }
        // In TLS 1.2 this is also what a missing client certificate looks like.
        Error::AlertReceived(Alert::HandshakeFailure) => format!(
            "{host}:{port} broke off the TLS handshake: it may want a client certificate (`client_cert` and `client_key` of \
             the transport)"
        ),
        other => format!("no TLS with {host}:{port}: {other}"),
    }
}
