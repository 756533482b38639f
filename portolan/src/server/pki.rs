//! The server's own certificate authority, certificate and admin token, kept under the data directory.
//!
//! The authority's key is made once and kept; its certificate is a function of that key and of a fixed name,
//! so nothing has to be parsed back. The server's certificate is made anew at every start from the names
//! that it is reached by: clients trust the authority, never the certificate itself. The authority's own certificate is sent
//! along, so that a machine that joins can compare it with the hash that it was told, before it says anything.
//!
//! What must stay true: every file is written with mode 0600, whole or not at all (write beside, fsync, rename).

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use access::service_account::{Signer, SignerError};
use jiff::{Timestamp, ToSpan};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::VerifierBuilderError;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{self, crypto::ring};

use super::clients;

/// What the server needs for TLS and authentication.
pub struct Pki {
    pub ca_pem: String,
    /// Signs in the authority's name.
    pub authority: Issuer<'static, KeyPair>,
    pub tls: Arc<rustls::ServerConfig>,
    /// Judges the certificates of clients.
    pub clients: Arc<dyn ClientCertVerifier>,
    /// The admin's bearer token: 64 hexadecimal digits.
    pub token: String,
    /// Signs the tokens of ServiceAccounts.
    pub signer: Arc<Signer>,
}

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot use {path}; check that the directory exists and belongs to you", path = path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the key in {path}; restore it from a backup, or remove the pki directory to make a new authority", path = path.display())]
    Key {
        path: PathBuf,
        #[source]
        source: rcgen::Error,
    },
    #[error(
        "{key} is missing, and {certificate} is there; restore the key from a backup, or remove the pki directory to make a \
         new authority, which no client and no node will know",
        key = key.display(), certificate = certificate.display()
    )]
    NoKey { key: PathBuf, certificate: PathBuf },
    #[error(
        "{certificate} is not the certificate of {key}; restore both from one backup, or remove the pki directory to make a \
         new authority, which no client and no node will know",
        key = key.display(), certificate = certificate.display()
    )]
    Mismatch { key: PathBuf, certificate: PathBuf },
    #[error("{0:?} is no name or address that a certificate can carry; give --tls-san a DNS name or an IP address")]
    Name(String),
    #[error("making a certificate")]
    Certificate(#[source] rcgen::Error),
    #[error("{path} cannot sign tokens; restore it from a backup, or remove it to make a new key, which ends every token of a ServiceAccount", path = path.display())]
    Signer {
        path: PathBuf,
        #[source]
        source: SignerError,
    },
    #[error("pki/ca.crt is no certificate that clients could be verified by; restore it from a backup")]
    Clients(#[source] VerifierBuilderError),
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
    #[error("the system's random number generator failed")]
    Random,
}

/// Validity of the authority and of the server's certificate, in years from now.
const CA_YEARS: i64 = 20;
const SERVER_YEARS: i64 = 10;

/// Reads or makes everything under `dir/pki` and `dir/admin.token`.
///
/// `names` are the DNS names and addresses that the server's certificate is to carry.
///
/// # Errors
/// A file that cannot be read or written, a key that is damaged, a name that no certificate can carry.
pub fn load_or_create(dir: &Path, names: &[String]) -> Result<Pki, PkiError> {
    let pki = dir.join("pki");
    fs::create_dir_all(&pki).map_err(|source| PkiError::File { path: pki.clone(), source })?;

    let (ca_pem, ca_der, authority) = load_or_make_authority(&pki)?;

    let server_key = load_or_make_key(&pki.join("server.key"))?;
    let server_cert = server_params(names)?.signed_by(&server_key, &authority).map_err(PkiError::Certificate)?;
    write_private(&pki.join("server.crt"), server_cert.pem().as_bytes())?;

    let token_path = dir.join("admin.token");
    let token = match read(&token_path)?.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()) {
        Some(token) => token,
        None => {
            let token = random_hex()?;
            write_private(&token_path, format!("{token}\n").as_bytes())?;
            token
        }
    };

    let clients = clients::verifier(&ca_pem).map_err(PkiError::Clients)?;
    let chain = vec![server_cert.der().clone(), ca_der];
    let tls = server_config(chain, &server_key, Arc::new(clients::Asking(clients.clone())))?;
    let signer = load_or_make_signer(&pki.join("sa.key"))?;
    Ok(Pki { ca_pem, authority, tls, clients, token, signer })
}

/// The authority's certificate and key. A key without its certificate is enough, a certificate without its key is not: a new
/// key would be nobody's that clients trust.
fn load_or_make_authority(pki: &Path) -> Result<(String, CertificateDer<'static>, Issuer<'static, KeyPair>), PkiError> {
    let (key_path, certificate_path) = (pki.join("ca.key"), pki.join("ca.crt"));
    let known = read(&certificate_path)?;
    if known.is_some() && read(&key_path)?.is_none() {
        return Err(PkiError::NoKey { key: key_path, certificate: certificate_path });
    }
    let key = load_or_make_key(&key_path)?;
    let params = authority();
    let pem = match known {
        Some(pem) => pem,
        None => {
            let pem = params.self_signed(&key).map_err(PkiError::Certificate)?.pem();
            write_private(&certificate_path, pem.as_bytes())?;
            pem
        }
    };
    let public_key = key.subject_public_key_info();
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .ok()
        // It stands in the certificate as it is.
        .filter(|der| der.windows(public_key.len()).any(|part| part == public_key));
    match der {
        Some(der) => Ok((pem, der, Issuer::new(params, key))),
        None => Err(PkiError::Mismatch { key: key_path, certificate: certificate_path }),
    }
}

/// What signs the tokens of ServiceAccounts.
fn load_or_make_signer(path: &Path) -> Result<Arc<Signer>, PkiError> {
    let key = load_or_make_key(path)?;
    let signer = Signer::new(&key.serialize_der());
    signer.map(Arc::new).map_err(|source| PkiError::Signer { path: path.to_owned(), source })
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<rustls::ServerConfig>, PkiError> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(PkiError::Tls)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(PkiError::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Not-before lies a day back, for clients whose clock is behind.
fn validity(params: &mut CertificateParams, years: i64) {
    let now = Timestamp::now();
    let date = |t: Timestamp| {
        let day = t.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(i32::from(day.year()), day.month().unsigned_abs(), day.day().unsigned_abs())
    };
    params.not_before = date(now.checked_sub(24.hours()).unwrap_or(now));
    params.not_after = date(now.checked_add((years * 365 * 24).hours()).unwrap_or(now));
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("portolan-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    validity(&mut params, CA_YEARS);
    params
}

fn server_params(names: &[String]) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("portolan-server");
    params.serial_number = Some(SerialNumber::from(Timestamp::now().as_microsecond().unsigned_abs()));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(|_| PkiError::Name(name.clone()))?),
        });
    }
    validity(&mut params, SERVER_YEARS);
    Ok(params)
}

fn load_or_make_key(path: &Path) -> Result<KeyPair, PkiError> {
    if let Some(pem) = read(path)? {
        return KeyPair::from_pem(&pem).map_err(|source| PkiError::Key { path: path.to_owned(), source });
    }
    let key = KeyPair::generate().map_err(PkiError::Certificate)?;
    write_private(path, key.serialize_pem().as_bytes())?;
    Ok(key)
}

fn random_hex() -> Result<String, PkiError> {
    let mut bytes = [0u8; 32];
    ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| PkiError::Random)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File { path: path.to_owned(), source }),
    }
}

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// As the file system gives them, with the path.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), PkiError> {
    let file_error = |source| PkiError::File { path: path.to_owned(), source };
    let beside = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(file_error)?;
    file.write_all(content).map_err(file_error)?;
    file.sync_all().map_err(file_error)?;
    fs::rename(&beside, path).map_err(file_error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_start_keeps_authority_and_token() {
        let dir = tempfile::tempdir().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let first = load_or_create(dir.path(), &names).unwrap();
        let second = load_or_create(dir.path(), &names).unwrap();
        assert_eq!(first.ca_pem, second.ca_pem);
        assert_eq!(first.token, second.token);
        assert_eq!(first.token.len(), 64);
    }

    #[test]
    fn secrets_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path(), &["localhost".to_owned()]).unwrap();
        for file in ["pki/ca.key", "pki/ca.crt", "pki/server.key", "pki/server.crt", "pki/sa.key", "admin.token"] {
            let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn a_name_that_no_certificate_can_carry_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refused = load_or_create(dir.path(), &["naïve.example".to_owned()]);
        assert!(matches!(refused, Err(PkiError::Name(_))));
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned()];
        let first = load_or_create(dir.path(), &names).unwrap();
        let (key, certificate) = (dir.path().join("pki/ca.key"), dir.path().join("pki/ca.crt"));
        let kept = fs::read(&key).unwrap();
        fs::remove_file(&key).unwrap();
        let refused = load_or_create(dir.path(), &names).map(|_| ()).unwrap_err();
        assert!(matches!(refused, PkiError::NoKey { .. }) && refused.to_string().contains("restore"), "{refused}");
        assert!(!key.exists(), "no other key was made");
        fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let refused = load_or_create(dir.path(), &names).map(|_| ()).unwrap_err();
        assert!(matches!(refused, PkiError::Mismatch { .. }), "{refused}");
        // The certificate alone can be made again from the key.
        fs::write(&key, kept).unwrap();
        fs::remove_file(&certificate).unwrap();
        let again = load_or_create(dir.path(), &names).unwrap();
        assert_eq!(again.authority.key().serialize_pem(), first.authority.key().serialize_pem());
    }

    #[test]
    fn a_damaged_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pki")).unwrap();
        fs::write(dir.path().join("pki/ca.key"), "not a key").unwrap();
        let Err(error) = load_or_create(dir.path(), &["localhost".to_owned()]) else {
            panic!("a damaged key was taken")
        };
        assert!(error.to_string().contains("pki/ca.key"), "{error}");
    }
}
