//! Bearer tokens that are objects: what is shown, what is stored, and whether the one is worth what the other says.
//!
//! A Token (portolan.dev/v1alpha1) keeps the SHA-256 of a secret of 32 characters or more. A secret of such length needs no salt
//! and no slow hash: there is nothing to guess.

use jiff::Timestamp;
use serde::Deserialize;

use crate::User;
use crate::certificate::{CREDENTIAL_ID, hex, sha256};

const ID_SHORTEST: usize = 6;
const ID_LONGEST: usize = 16;
const SECRET_SHORTEST: usize = 32;
const SECRET_LONGEST: usize = 256;

/// What stands in a Token's hash before the digits.
const HASH_PREFIX: &str = "sha256:";

/// A token of an object, as it is shown: `ID.SECRET`. No `Debug`, so that no log can show it.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The name of the object.
    pub id: &'a str,
    secret: &'a str,
}

impl<'a> Shown<'a> {
    /// Takes apart what was shown; None for what is no such token.
    pub fn parse(token: &'a str) -> Option<Self> {
        let (id, secret) = token.split_once('.')?;
        let good = |text: &str, shortest: usize, longest: usize| {
            (shortest..=longest).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        (good(id, ID_SHORTEST, ID_LONGEST) && good(secret, SECRET_SHORTEST, SECRET_LONGEST))
            .then_some(Self { id, secret })
    }
}

/// What a token may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Purpose {
    /// For a machine's first certificate, and for nothing else.
    NodeJoin,
    /// The same for an edge node's.
    EdgeJoin,
    /// To be somebody.
    Access,
}

/// `spec` of a Token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenSpec {
    pub purpose: Purpose,
    hash: String,
    #[serde(default)]
    expires_at: Option<String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    groups: Option<Vec<String>>,
}

/// Why a token is worth nothing. For the log, and for nobody who shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the stored token cannot be read")]
    Stored,
    #[error("the secret is another one")]
    Secret,
    #[error("it has expired")]
    Expired,
}

impl TokenSpec {
    /// Reads the JSON of a Token.
    ///
    /// # Errors
    /// Where it is none; never for what validation has let in.
    pub fn read(bytes: &[u8]) -> Result<Self, TokenError> {
        #[derive(Deserialize)]
        struct Wire {
            spec: TokenSpec,
        }
        serde_json::from_slice::<Wire>(bytes).map(|wire| wire.spec).map_err(|_| TokenError::Stored)
    }

    /// Whose token it is. `shown` names the object that this is the spec of.
    ///
    /// # Errors
    /// When the secret is another, or the time is over.
    pub fn user(&self, shown: Shown<'_>, now: Timestamp) -> Result<User, TokenError> {
        let digits = self.hash.strip_prefix(HASH_PREFIX).ok_or(TokenError::Stored)?;
        // Who can time this learns about the hash of what they have sent, which they know.
        if digits != hex(&sha256(shown.secret.as_bytes())) {
            return Err(TokenError::Secret);
        }
        let expires: Option<Timestamp> =
            self.expires_at.as_deref().map(str::parse).transpose().map_err(|_| TokenError::Stored)?;
        if expires.is_some_and(|expires| now >= expires) {
            return Err(TokenError::Expired);
        }
        match self.purpose {
            // One without an end would be a door that stays open.
            Purpose::NodeJoin | Purpose::EdgeJoin if expires.is_none() => Err(TokenError::Stored),
            Purpose::NodeJoin => Ok(User::bootstrapper(shown.id)),
            Purpose::EdgeJoin => Ok(User::edge_bootstrapper(shown.id)),
            Purpose::Access => {
                let name = self.user.as_deref().filter(|name| !name.is_empty()).ok_or(TokenError::Stored)?;
                let mut user = User::named(name, self.groups.clone().unwrap_or_default());
                user.extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("TOKEN={}", shown.id)]);
                Ok(user)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

    fn spec(purpose: &str, rest: &str) -> Result<TokenSpec, TokenError> {
        let hash = hex(&sha256(SECRET.as_bytes()));
        TokenSpec::read(format!(r#"{{"spec":{{"purpose":"{purpose}","hash":"sha256:{hash}"{rest}}}}}"#).as_bytes())
    }

    fn user(spec: &TokenSpec, token: &str) -> Result<User, TokenError> {
        spec.user(Shown::parse(token).unwrap(), "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn what_is_a_token_at_all() {
        let good = format!("abcdef.{SECRET}");
        assert_eq!(Shown::parse(&good).unwrap().id, "abcdef");
        let short = format!("abcdef.{}", &SECRET[1..]);
        let long = format!("abcdef.{}", "a".repeat(257));
        let (upper, no_id) = (good.to_uppercase(), format!("abc.{SECRET}"));
        for bad in [&short, &long, &upper, &no_id, "", ".", "abcdef", &format!("{good}.x"), &format!("{good} ")] {
            assert!(Shown::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_its_purposes() {
        let token = format!("abcdef.{SECRET}");
        let join = spec("NodeJoin", r#","expiresAt":"2026-01-01T00:00:01Z","user":"root","groups":["system:masters"]"#);
        assert_eq!(user(&join.unwrap(), &token).unwrap(), User::bootstrapper("abcdef"), "whatever it says besides");
        let access = spec("Access", r#","user":"alice","groups":["ops"]"#).unwrap();
        let alice = user(&access, &token).unwrap();
        assert_eq!(
            (alice.name.as_str(), &*alice.groups),
            ("alice", &["ops".to_owned(), "system:authenticated".to_owned()][..])
        );
    }

    #[test]
    fn what_opens_nothing() {
        let token = format!("abcdef.{SECRET}");
        let access = spec("Access", r#","user":"alice""#).unwrap();
        let other = format!("abcdef.{}w", &SECRET[1..]);
        assert_eq!(user(&access, &other), Err(TokenError::Secret));
        for purpose in ["NodeJoin", "Access"] {
            let ended = spec(purpose, r#","user":"alice","expiresAt":"2026-01-01T00:00:00Z""#).unwrap();
            assert_eq!(user(&ended, &token), Err(TokenError::Expired), "{purpose}");
        }
        assert_eq!(user(&spec("NodeJoin", "").unwrap(), &token), Err(TokenError::Stored), "without an end");
        assert_eq!(user(&spec("Access", "").unwrap(), &token), Err(TokenError::Stored), "without a user");
        assert_eq!(spec("Everything", "").unwrap_err(), TokenError::Stored);
    }
}
