//! One attempt to become a node, or to stay one: a key and a request are made, the server is asked, its answer is checked.

use std::error::Error;

use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};
use serde::Deserialize;
use serde_json::json;
use tokio_rustls::rustls::{self, CertificateError};

use super::credentials::{Credentials, Facts};
use super::error::JoinError;
use super::role::Role;
use super::settle::Invitation;
use crate::client::authority::{self, AuthorityError, CaHash};
use crate::client::{Client, ClientError};

/// Whether it is worth while to try again.
#[derive(Debug)]
pub enum Verdict {
    /// The server is away, or busy.
    Later(Box<ClientError>),
    Final(Box<JoinError>),
}

impl From<JoinError> for Verdict {
    fn from(error: JoinError) -> Self {
        Self::Final(Box::new(error))
    }
}

/// Somebody with a key who asks for its certificate. The request stays the same however often it is sent: so the server
/// knows a second one, whose first answer was lost, from another machine's.
pub struct Applicant {
    role: Role,
    node: String,
    key: KeyPair,
    request_pem: String,
}

/// What the server answers.
#[derive(Deserialize)]
struct CertificateResponse {
    certificate: String,
    ca: String,
}

impl Applicant {
    /// With a new key.
    ///
    /// # Errors
    /// When none can be made.
    pub fn new(role: Role, node: &str) -> Result<Self, JoinError> {
        let key = KeyPair::generate().map_err(JoinError::Key)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, role.group());
        params.distinguished_name.push(DnType::CommonName, format!("{}{node}", role.user_prefix()));
        let request_pem = params.serialize_request(&key).and_then(|request| request.pem()).map_err(JoinError::Key)?;
        Ok(Self { role, node: node.to_owned(), key, request_pem })
    }

    /// By a token: the server must have the right authority before it is shown.
    ///
    /// # Errors
    /// Why there are no credentials, and whether there may be some later.
    pub async fn attempt(&self, invitation: &Invitation) -> Result<Credentials, Verdict> {
        let Invitation { server, token, ca_hash } = invitation;
        if !server.starts_with("https://") {
            let problem = "a machine joins by https:// alone; copy the line that the server prints".to_owned();
            return Err(JoinError::Server { server: server.clone(), problem }.into());
        }
        let ca_pem = authority::find(server, *ca_hash).await.map_err(|error| match error {
            AuthorityError::Other { shown } => {
                JoinError::WrongAuthority { server: server.clone(), told: *ca_hash, shown }.into()
            }
            AuthorityError::Client(error) => judge(error, self.role, server, Timestamp::now()),
        })?;
        let judged = |error| judge(error, self.role, server, Timestamp::now());
        let client = Client::new(server, Some(&ca_pem), Some(token)).map_err(judged)?;
        let answer = self.ask(&client).await.map_err(judged)?;
        Ok(self.accept(answer, server, *ca_hash, Timestamp::now())?)
    }

    /// By the certificate that the node has.
    ///
    /// # Errors
    /// Why there is no new one.
    pub async fn renew(&self, client: &Client, current: &Credentials) -> Result<Credentials, IssueError> {
        let answer = self.ask(client).await?;
        let ca_hash = current.ca_hash().ok_or_else(|| JoinError::Answer("our own authority is not readable".into()))?;
        Ok(self.accept(answer, &current.server, ca_hash, Timestamp::now())?)
    }

    /// By the word of somebody who may ask for it, such as an administrator.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn introduced(&self, by: &Client) -> Result<Credentials, IssueError> {
        let unknown = || ClientError::Setup {
            what: "the server",
            reason: "only one that is named by https:// gives certificates".into(),
        };
        let ca_hash = by.ca_pem().and_then(CaHash::of_pem).ok_or_else(unknown)?;
        let answer = self.ask(by).await?;
        Ok(self.accept(answer, by.server_url(), ca_hash, Timestamp::now())?)
    }

    async fn ask(&self, client: &Client) -> Result<CertificateResponse, ClientError> {
        let path = format!("/apis/portolan.dev/v1alpha1/nodes/{}/certificate", self.node);
        let request = json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "CertificateRequest", "request": self.request_pem,
        });
        let answer = client.post(&path, &request).await?;
        serde_json::from_value(answer).map_err(|source| ClientError::Json { what: "the certificate", source })
    }

    /// Takes what was answered if it is what was asked for.
    fn accept(
        &self,
        answer: CertificateResponse,
        server: &str,
        ca_hash: CaHash,
        now: Timestamp,
    ) -> Result<Credentials, JoinError> {
        let facts = Facts::of(&answer.certificate).map_err(JoinError::Answer)?;
        if facts.role != self.role {
            // The server goes by what the token is for.
            return Err(JoinError::Purpose { message: format!("it is for a {}", facts.role), role: self.role });
        }
        if facts.node != self.node {
            return Err(JoinError::Answer(format!("it is for {} {:?}", facts.role, facts.node)));
        }
        if facts.public_key != self.key.subject_public_key_info() {
            return Err(JoinError::Answer("it is for another key".to_owned()));
        }
        if CaHash::of_pem(answer.ca.as_bytes()) != Some(ca_hash) {
            return Err(JoinError::Answer("its authority is another one".to_owned()));
        }
        if now < facts.not_before || facts.not_after <= now {
            return Err(JoinError::Clock { now, from: facts.not_before, until: facts.not_after });
        }
        Ok(Credentials {
            server: server.to_owned(),
            ca_pem: answer.ca,
            certificate_pem: answer.certificate,
            key_pem: self.key.serialize_pem(),
            facts,
        })
    }
}

/// Why somebody who is known got no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// What an error of a machine that joins means for it.
pub fn judge(error: ClientError, role: Role, server: &str, now: Timestamp) -> Verdict {
    let named = || server.to_owned();
    let judged = match error {
        ClientError::Status(status) => match status.code {
            401 => JoinError::Token { role },
            403 => JoinError::Purpose { message: status.message, role },
            409 => JoinError::Taken { message: status.message },
            429 | 500.. => return Verdict::Later(Box::new(status.into())),
            _ => JoinError::Refused(status.into()),
        },
        ClientError::Handshake { ref source, .. } => match certificate_error(source) {
            Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
                JoinError::ServerName { server: named() }
            }
            Some(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => JoinError::ServerTime { server: named(), now },
            Some(_) => JoinError::Unbelievable { server: named(), source: error },
            None => return Verdict::Later(Box::new(error)),
        },
        ClientError::Connect { .. }
        | ClientError::GivenUp
        | ClientError::Http { .. }
        | ClientError::Timeout { .. }
        | ClientError::Malformed { .. } => return Verdict::Later(Box::new(error)),
        ClientError::Setup { .. } => JoinError::Server { server: named(), problem: error.to_string() },
        ClientError::Kubeconfig { .. }
        | ClientError::Tls(_)
        | ClientError::TooLarge { .. }
        | ClientError::Json { .. } => JoinError::Refused(error),
    };
    judged.into()
}

/// Why a server's certificate was not taken, if that is why a handshake failed.
fn certificate_error(error: &std::io::Error) -> Option<&CertificateError> {
    let inner: &(dyn Error + 'static) = error.get_ref()?;
    match inner.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::InvalidCertificate(error)) => Some(error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::credentials::tests::credentials;
    use super::*;
    use crate::client::StatusError;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn judged(error: ClientError) -> Result<String, ClientError> {
        match judge(error, Role::Node, "https://192.0.2.1:6443", at("2020-01-01T00:00:00Z")) {
            Verdict::Later(error) => Err(*error),
            Verdict::Final(error) => Ok(error.to_string()),
        }
    }

    fn status(code: u16) -> ClientError {
        StatusError { code, reason: String::new(), message: "as the server says".into() }.into()
    }

    fn handshake(error: impl Into<rustls::Error>) -> ClientError {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error.into());
        ClientError::Handshake { address: "192.0.2.1:6443".into(), source }
    }

    #[test]
    fn what_does_not_go_away_says_what_to_do() {
        for (error, words) in [
            (status(401), &["expired", "portolan token create --node-join"][..]),
            (status(403), &["another purpose", "as the server says", "portolan token create --node-join"]),
            (status(409), &["as the server says"]),
            (status(400), &["refuses"]),
            (handshake(CertificateError::NotValidYet), &["2020-01-01", "set the clock"]),
            (handshake(CertificateError::Expired), &["2020-01-01", "set the clock"]),
            (handshake(CertificateError::NotValidForName), &["--tls-san"]),
            (handshake(CertificateError::UnknownIssuer), &["192.0.2.1", "not to be believed"]),
            (ClientError::Setup { what: "the server URL", reason: "names no host".into() }, &["--server", "no host"]),
        ] {
            let text = judged(error).unwrap();
            assert!(words.iter().all(|word| text.contains(word)), "{text} lacks one of {words:?}");
        }
    }

    #[test]
    fn a_server_that_is_away_or_busy_is_waited_for() {
        let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let address = || "192.0.2.1:6443".to_owned();
        for error in [
            status(429),
            status(500),
            status(503),
            ClientError::Connect { address: address(), source: refused() },
            ClientError::Handshake { address: address(), source: refused() },
            ClientError::Timeout { what: "connecting", limit: std::time::Duration::from_secs(5) },
        ] {
            judged(error).unwrap_err();
        }
    }

    #[test]
    fn only_what_was_asked_for_is_taken() {
        let applicant = Applicant::new(Role::Node, "web").unwrap();
        let now = at("2024-01-10T00:00:00Z");
        let signed = |node: &str, key: &KeyPair| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
            params.not_before = rcgen::date_time_ymd(2024, 1, 1);
            params.not_after = rcgen::date_time_ymd(2024, 2, 1);
            params.self_signed(key).unwrap().pem()
        };
        let authority = credentials("x", "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z");
        let hash = authority.ca_hash().unwrap();
        let taken = |certificate: String, ca: &str, now| {
            applicant.accept(CertificateResponse { certificate, ca: ca.to_owned() }, "https://s", hash, now)
        };
        let right = signed("web", &applicant.key);
        let credentials = taken(right.clone(), &authority.ca_pem, now).unwrap();
        assert_eq!((credentials.server.as_str(), credentials.facts.node.as_str()), ("https://s", "web"));
        for (certificate, ca, now, problem) in [
            (signed("db", &applicant.key), &authority.ca_pem, now, "for node \"db\""),
            (signed("web", &KeyPair::generate().unwrap()), &authority.ca_pem, now, "another key"),
            (right.clone(), &right, now, "authority is another"),
            (right.clone(), &authority.ca_pem, at("2023-12-31T00:00:00Z"), "set the clock"),
            (right.clone(), &authority.ca_pem, at("2024-02-01T00:00:00Z"), "set the clock"),
            ("nonsense".to_owned(), &authority.ca_pem, now, "PEM"),
        ] {
            let error = taken(certificate, ca, now).unwrap_err().to_string();
            assert!(error.contains(problem), "{error} lacks {problem}");
        }
    }
}
