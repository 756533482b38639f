//! What a machine is known by: its certificate and key, with the server and its authority, in one file.
//!
//! The file is a kubeconfig, so that everything else that speaks to the server can use it, and one file, so that no
//! certificate ever stands beside another one's key. It is readable by its owner alone, and written whole or not at all
//! (beside, synced, renamed), since what a machine has once given up it cannot get again without a token.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::json;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::JoinError;
use super::role::Role;
use crate::client::authority::CaHash;
use crate::client::kubeconfig;

/// One machine's certificate and what belongs to it. PEM throughout.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub server: String,
    pub ca_pem: String,
    pub certificate_pem: String,
    pub key_pem: String,
    /// What the certificate says.
    pub facts: Facts,
}

/// What is in a certificate of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub role: Role,
    /// The machine's name.
    pub node: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// The public key's SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
}

impl Facts {
    /// Reads a certificate in PEM.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(certificate_pem: &str) -> Result<Self, String> {
        let der =
            CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|e| format!("it is no PEM ({e})"))?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|e| format!("it is no certificate ({e})"))?;
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let (role, node) = name.and_then(Role::of_user).ok_or("it is no node's")?;
        let time = |seconds| Timestamp::from_second(seconds).map_err(|e| e.to_string());
        Ok(Self {
            role,
            node: node.to_owned(),
            not_before: time(certificate.validity().not_before.timestamp())?,
            not_after: time(certificate.validity().not_after.timestamp())?,
            public_key: certificate.public_key().raw.to_vec(),
        })
    }
}

impl Credentials {
    /// The hash of the authority, where it is one.
    pub fn ca_hash(&self) -> Option<CaHash> {
        CaHash::of_pem(self.ca_pem.as_bytes())
    }

    /// As the file's text.
    fn kubeconfig(&self) -> String {
        let (name, user) = ("portolan", format!("{}{}", self.facts.role.user_prefix(), self.facts.node));
        let data = |pem: &str| STANDARD.encode(pem);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{
                "name": name,
                "cluster": { "server": self.server, "certificate-authority-data": data(&self.ca_pem) },
            }],
            "contexts": [{ "name": name, "context": { "cluster": name, "user": user } }],
            "users": [{
                "name": user,
                "user": {
                    "client-certificate-data": data(&self.certificate_pem),
                    "client-key-data": data(&self.key_pem),
                },
            }],
        });
        // JSON is YAML, too.
        format!("{config:#}\n")
    }

    fn read(text: &str, directory: &Path) -> Result<Self, String> {
        let loaded = kubeconfig::parse(text, directory).map_err(|e| crate::chain(&e))?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| "it holds what is no text".to_owned());
        let identity = loaded.trust.identity.ok_or("there is no client certificate in it")?;
        let certificate_pem = text(identity.certificate_pem)?;
        Ok(Self {
            server: loaded.server,
            ca_pem: text(loaded.trust.ca_pem.ok_or("there is no certificate authority in it")?)?,
            key_pem: text(identity.key_pem)?,
            facts: Facts::of(&certificate_pem)?,
            certificate_pem,
        })
    }
}

/// Without the key.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("server", &self.server).field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Where the credentials of a data directory stand.
pub fn path(directory: &Path, role: Role) -> PathBuf {
    directory.join(role.file())
}

/// The credentials of a data directory, if there are any.
///
/// # Errors
/// When the file is there and cannot be used.
pub fn load(directory: &Path, role: Role) -> Result<Option<Credentials>, JoinError> {
    let path = path(directory, role);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(JoinError::File { path, source }),
    };
    let read = Credentials::read(&text, directory).and_then(|credentials| match credentials.facts.role {
        has if has != role => Err(format!("it is the certificate of a machine that is another thing, {has}")),
        _ => Ok(credentials),
    });
    read.map(Some).map_err(|problem| JoinError::Damaged { path, problem })
}

/// Writes the credentials, and the data directory if it is missing.
///
/// # Errors
/// When that cannot be; what was there before is there still.
pub fn store(directory: &Path, credentials: &Credentials) -> Result<(), JoinError> {
    let path = path(directory, credentials.facts.role);
    let written = || {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let beside = path.with_extension("new");
        // One that was left is gone first: it may have been opened by others, or be others' link.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(credentials.kubeconfig().as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(directory)?.sync_all()
    };
    written().map_err(|source| JoinError::File { path: path.clone(), source })
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    /// Credentials that nobody has signed.
    pub fn credentials(node: &str, not_before: &str, not_after: &str) -> Credentials {
        let date = |text: &str| {
            let seconds = text.parse::<Timestamp>().unwrap().as_second();
            rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds.unsigned_abs())
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
        (params.not_before, params.not_after) = (date(not_before), date(not_after));
        let key = KeyPair::generate().unwrap();
        let certificate_pem = params.self_signed(&key).unwrap().pem();
        Credentials {
            server: "https://192.0.2.1:6443".to_owned(),
            ca_pem: certificate_pem.clone(),
            key_pem: key.serialize_pem(),
            facts: Facts::of(&certificate_pem).unwrap(),
            certificate_pem,
        }
    }

    #[test]
    fn what_was_stored_is_loaded_and_is_private() {
        let files = tempfile::tempdir().unwrap();
        let directory = files.path().join("a/b");
        assert!(load(&directory, Role::Node).unwrap().is_none());
        let first = credentials("web", "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z");
        store(&directory, &first).unwrap();
        let second = credentials("web", "2024-01-20T00:00:00Z", "2024-02-20T00:00:00Z");
        fs::write(directory.join("agent.new"), "left by a crash").unwrap();
        store(&directory, &second).unwrap();
        let loaded = load(&directory, Role::Node).unwrap().unwrap();
        assert_eq!(loaded, second);
        assert_eq!(
            (loaded.facts.node.as_str(), loaded.facts.not_after.to_string().as_str()),
            ("web", "2024-02-20T00:00:00Z")
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path(&directory, Role::Node)), mode(&directory)), (0o600, 0o700));
        let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [Role::Node.file()]);
        // Everybody who reads a kubeconfig reads this.
        crate::client::Client::from_kubeconfig(&path(&directory, Role::Node)).unwrap();
    }

    #[test]
    fn damage_is_named() {
        let files = tempfile::tempdir().unwrap();
        let whole = credentials("web", "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z").kubeconfig();
        let half = &whole[..whole.len() / 2];
        for text in ["", "{}", "nonsense", half, &whole.replace("client-certificate-data", "x")] {
            fs::write(path(files.path(), Role::Node), text).unwrap();
            let error = load(files.path(), Role::Node).unwrap_err();
            assert!(matches!(error, JoinError::Damaged { .. }), "{error:?}");
            assert!(error.to_string().contains(Role::Node.file()), "{error}");
        }
    }
}
