//! Signs the certificates of nodes and edge nodes with the server's authority.
//!
//! Of a request the public key alone is taken: what a certificate says is decided here, from the name that the API has
//! admitted. There is no list of what was issued and nothing can be called back, so certificates are short-lived, as
//! `--cluster-signing-duration` has it, and agents renew them.

use std::time::Duration;

use access::User;
use access::user::AUTHENTICATED;
use api::{IssueError, Issued, MachineRole};
use jiff::Timestamp;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};

/// How long before its making a certificate begins, for clients and servers whose clocks are apart (kube-controller-manager's
/// number). Of a short life it is a tenth, so that an agent can still tell from the certificate when its time has come.
const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// The authority, and how long what it signs is to hold.
pub struct NodeIssuer {
    authority: rcgen::Issuer<'static, KeyPair>,
    ca_pem: String,
    lifetime: Duration,
}

impl NodeIssuer {
    pub fn new(authority: rcgen::Issuer<'static, KeyPair>, ca_pem: String, lifetime: Duration) -> Self {
        Self { authority, ca_pem, lifetime }
    }

    fn issue_at(
        &self,
        (role, name): (MachineRole, &str),
        request: &str,
        serial: [u8; 16],
        now: Timestamp,
    ) -> Result<Issued, IssueError> {
        let user = match role {
            MachineRole::Node => User::node(name),
            MachineRole::Edge => User::edge(name),
        };
        let request =
            CertificateSigningRequestParams::from_pem(request).map_err(|e| IssueError::Request(e.to_string()))?;
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| IssueError::Failed(error);
        let (from, until) = validity(now, self.lifetime).map_err(|e| failed(e.into()))?;
        let params = client_params(&user, serial, from, until);
        let certificate = params.signed_by(&request.public_key, &self.authority).map_err(|e| failed(e.into()))?;
        Ok(Issued { certificate: certificate.pem(), ca: self.ca_pem.clone(), not_after: until })
    }
}

impl api::Issuer for NodeIssuer {
    fn issue(&self, role: MachineRole, name: &str, request: &str) -> Result<Issued, IssueError> {
        let mut serial = [0; 16];
        let random = SystemRandom::new().fill(&mut serial);
        random.map_err(|_| IssueError::Failed("the system's random number generator failed".into()))?;
        self.issue_at((role, name), request, serial, Timestamp::now())
    }
}

/// From when until when a certificate holds that is made now, in whole seconds.
fn validity(now: Timestamp, lifetime: Duration) -> Result<(Timestamp, Timestamp), jiff::Error> {
    let now = Timestamp::from_second(now.as_second())?;
    Ok((now.checked_sub(BACKDATED.min(lifetime / 10))?, now.checked_add(lifetime)?))
}

fn client_params(user: &User, mut serial: [u8; 16], from: Timestamp, until: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for group in user.groups.iter().filter(|group| *group != AUTHENTICATED) {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.distinguished_name.push(DnType::CommonName, &user.name);
    // A positive number (RFC 5280, 4.1.2.2), and none that begins with a zero byte.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let date = |time: Timestamp| {
        // The library's dates are of a crate that is only its own: they are counted from the epoch.
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(time.as_second().max(0).unsigned_abs())
    };
    params.not_before = date(from);
    params.not_after = date(until);
    params
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, IsCa};

    use super::*;

    fn issuer() -> NodeIssuer {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        NodeIssuer::new(rcgen::Issuer::new(params, key), pem, Duration::from_secs(3600))
    }

    fn at() -> Timestamp {
        "2024-05-06T07:08:09.5Z".parse().unwrap()
    }

    #[test]
    fn what_is_asked_for_beside_the_key_means_nothing() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["admin.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let issued = issuer().issue_at((MachineRole::Node, "web-1"), &request, [0xff; 16], at()).unwrap();
        assert_eq!(issued.not_after.to_string(), "2024-05-06T08:08:09Z");
        let der = rustls_pki_types::CertificateDer::from(pem_bytes(&issued.certificate));
        let has = |text: &[u8]| der.windows(text.len()).any(|part| part == text);
        assert!(has(b"system:node:web-1") && has(b"system:nodes") && has(b"240506070309Z") && has(b"240506080809Z"));
        assert!(!has(b"admin.example") && !has(b"system:masters"));
    }

    #[test]
    fn what_is_no_request_is_the_askers_fault() {
        let key = KeyPair::generate().unwrap();
        let mut request =
            CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap().trim().to_owned();
        for text in ["", "nonsense", &issuer().ca_pem] {
            assert!(
                matches!(issuer().issue_at((MachineRole::Node, "n"), text, [1; 16], at()), Err(IssueError::Request(_))),
                "{text}"
            );
        }
        // A byte of the signature.
        let near_end = request.find("\n-----END").unwrap() - 6;
        let other = if request.as_bytes()[near_end] == b'A' { "B" } else { "A" };
        request.replace_range(near_end..=near_end, other);
        assert!(matches!(
            issuer().issue_at((MachineRole::Node, "n"), &request, [1; 16], at()),
            Err(IssueError::Request(_))
        ));
    }

    fn pem_bytes(pem: &str) -> Vec<u8> {
        use rustls_pki_types::pem::PemObject;
        rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
    }
}
