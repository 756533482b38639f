//! Tokens of ServiceAccounts: JSON Web Tokens (RFC 7519), signed with ES256 (RFC 7518, 3.4), with Kubernetes' claims.
//!
//! The signature says that this server has made the token; whether it is worth something is asked of the store with each
//! request, since a token goes with its account, and with the object that it is bound to.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};

use crate::User;
use crate::certificate::{CREDENTIAL_ID, sha256};

/// Who signs, and whom a token is for if nobody says otherwise.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Bytes of a token.
const TOKEN_MOST: usize = 8 * 1024;

/// Signs tokens, and knows its own again. Its `Debug` shows no key.
pub struct Signer {
    pair: EcdsaKeyPair,
    /// The header of every token that it signs, encoded.
    header: String,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub aud: Vec<String>,
    /// Seconds since 1970, as the other two.
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Kubernetes,
    pub nbf: i64,
    pub sub: String,
}

/// Kubernetes' own claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubernetes {
    pub namespace: String,
    /// The Pod or Node that the token goes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    pub serviceaccount: Reference,
}

/// An object, and which one of its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    pub uid: String,
}

#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    #[error("the key is no P-256 key in PKCS #8")]
    Key,
    #[error("signing failed")]
    Sign,
}

/// Why a token is worth nothing. For the log, and for nobody who shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    #[error("it is no JSON Web Token of this server")]
    Foreign,
    #[error("it has expired, or does not hold yet")]
    Expired,
    #[error("it is for another audience")]
    Audience,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer with this private key (P-256, PKCS #8, DER).
    ///
    /// # Errors
    /// When it is none.
    pub fn new(pkcs8: &[u8]) -> Result<Self, SignerError> {
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).map_err(|_| SignerError::Key)?;
        let kid = URL_SAFE_NO_PAD.encode(sha256(pair.public_key().as_ref()));
        let header = serde_json::to_vec(&Header { alg: "ES256".to_owned(), kid }).map_err(|_| SignerError::Key)?;
        Ok(Self { pair, header: URL_SAFE_NO_PAD.encode(header) })
    }

    /// The token that says this.
    ///
    /// # Errors
    /// When there is no chance to be had from the system.
    pub fn sign(&self, claims: &Claims) -> Result<String, SignerError> {
        let payload = serde_json::to_vec(claims).map_err(|_| SignerError::Sign)?;
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(payload));
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| SignerError::Sign)?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature.as_ref()));
        Ok(token)
    }

    /// What a token says, if this signer has signed it. The header must be the very one that it writes: there is one
    /// algorithm and one key, and nothing for a token to choose.
    ///
    /// # Errors
    /// [`JwtError::Foreign`].
    pub fn read(&self, token: &str) -> Result<Claims, JwtError> {
        if token.len() > TOKEN_MOST {
            return Err(JwtError::Foreign);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Foreign)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtError::Foreign)?;
        if header != self.header {
            return Err(JwtError::Foreign);
        }
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| JwtError::Foreign);
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        key.verify(signed.as_bytes(), &decode(signature)?).map_err(|_| JwtError::Foreign)?;
        serde_json::from_slice(&decode(payload)?).map_err(|_| JwtError::Foreign)
    }
}

impl Claims {
    /// Whether they hold now, and here.
    ///
    /// # Errors
    /// When they do not.
    pub fn check(&self, now: Timestamp) -> Result<(), JwtError> {
        let now = now.as_second();
        if self.iss != ISSUER || !self.aud.iter().any(|audience| audience == ISSUER) {
            return Err(JwtError::Audience);
        }
        if now >= self.exp || now < self.nbf {
            return Err(JwtError::Expired);
        }
        Ok(())
    }

    /// Whose they are.
    pub fn user(&self) -> User {
        let Kubernetes { namespace, node, pod, serviceaccount } = &self.kubernetes;
        let mut user = User::service_account(namespace, &serviceaccount.name, &serviceaccount.uid);
        let mut extra = |key: &str, value: &str| user.extra.insert(key.to_owned(), vec![value.to_owned()]);
        extra(CREDENTIAL_ID, &format!("JTI={}", self.jti));
        if let Some(pod) = pod {
            extra("authentication.kubernetes.io/pod-name", &pod.name);
            extra("authentication.kubernetes.io/pod-uid", &pod.uid);
        }
        if let Some(node) = node {
            extra("authentication.kubernetes.io/node-name", &node.name);
            extra("authentication.kubernetes.io/node-uid", &node.uid);
        }
        user
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Signer::new(pkcs8.as_ref()).unwrap()
    }

    fn claims() -> Claims {
        let reference = |name: &str| Reference { name: name.to_owned(), uid: format!("uid-of-{name}") };
        Claims {
            aud: vec![ISSUER.to_owned()],
            exp: 2000,
            iat: 1000,
            iss: ISSUER.to_owned(),
            jti: "1-2".to_owned(),
            kubernetes: Kubernetes {
                namespace: "shop".to_owned(),
                node: None,
                pod: Some(reference("web-1")),
                serviceaccount: reference("robot"),
            },
            nbf: 1000,
            sub: "system:serviceaccount:shop:robot".to_owned(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_token_is_read_back_by_whoever_signed_it() {
        let (signer, claims) = (signer(), claims());
        let token = signer.sign(&claims).unwrap();
        assert_eq!(signer.read(&token).unwrap(), claims);
        assert_eq!(super::tests::signer().read(&token), Err(JwtError::Foreign), "another key");
        let user = claims.user();
        assert_eq!((&*user.name, &*user.uid), ("system:serviceaccount:shop:robot", "uid-of-robot"));
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["web-1"]);
    }

    #[test]
    fn what_is_changed_is_no_token_any_more() {
        let signer = signer();
        let token = signer.sign(&claims()).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let mut richer = claims();
        richer.kubernetes.namespace = "bank".to_owned();
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&richer).unwrap());
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":""}"#);
        for changed in [
            format!("{}.{payload}.{}", parts[0], parts[2]),
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{}.{}", parts[0], parts[1]),
            token[..token.len() - 1].to_owned(),
            format!("{token}x"),
            format!("{token}{}", "x".repeat(TOKEN_MOST)),
            "a.b.c".to_owned(),
            String::new(),
        ] {
            assert_eq!(signer.read(&changed), Err(JwtError::Foreign), "{changed}");
        }
    }

    #[test]
    fn claims_hold_for_their_time_and_audience() {
        let claims = claims();
        for (second, expected) in
            [(999, Err(JwtError::Expired)), (1000, Ok(())), (1999, Ok(())), (2000, Err(JwtError::Expired))]
        {
            assert_eq!(claims.check(at(second)), expected, "{second}");
        }
        let elsewhere = Claims { aud: vec!["vault".to_owned()], ..claims };
        assert_eq!(elsewhere.check(at(1500)), Err(JwtError::Audience));
    }
}
