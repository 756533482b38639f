//! The `continue` token of a list: which state it goes on in, and from which key.
//!
//! Base64url of JSON, as kube-apiserver writes it (`storage.EncodeContinue`): opaque to clients, but people decode it when
//! they look for an error, and tools compare it.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use model::Revision;
use serde::{Deserialize, Serialize};
use store::Place;

/// Without padding; stray bits at the end are passed over, as in Go.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

const VERSION: &str = "meta.k8s.io/v1";

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// None: at the newest one, whatever has changed since the first page.
    pub revision: Option<Revision>,
    /// The first key of the page, below the key of the list: `name`, or `namespace/name`.
    start: String,
}

#[derive(Serialize, Deserialize)]
struct Token {
    #[serde(default)]
    v: String,
    /// -1 for the newest revision: 0 is what a token without the field would say.
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

impl Continuation {
    /// To go on at `place`, in a list over all namespaces or of one of them.
    pub fn new(revision: Option<Revision>, place: &Place, all_namespaces: bool) -> Self {
        let start = if all_namespaces { format!("{}/{}", place.namespace, place.name) } else { place.name.clone() };
        Self { revision, start }
    }

    /// Reads a token. Nothing in it is believed: it came from a client.
    ///
    /// # Errors
    /// With Kubernetes' words for what is wrong with it.
    pub fn decode(text: &str) -> Result<Self, String> {
        const INVALID: &str = "continue key is not valid";
        let json = BASE64.decode(text).map_err(|error| {
            use base64::DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength, InvalidPadding};
            let at = match error {
                InvalidByte(at, _) | InvalidLastSymbol(at, _) => at,
                InvalidLength(_) | InvalidPadding => text.len(),
            };
            format!("{INVALID}: illegal base64 data at input byte {at}")
        })?;
        let token: Token = serde_json::from_slice(&json).map_err(|error| format!("{INVALID}: {error}"))?;
        if token.v != VERSION {
            return Err(format!("{INVALID}: server does not recognize this encoded version {}", token.v));
        }
        if token.rv == 0 {
            return Err(format!("{INVALID}: incorrect encoded start resourceVersion (version {VERSION})"));
        }
        if token.start.is_empty() {
            return Err(format!("{INVALID}: encoded start key empty (version {VERSION})"));
        }
        let path = token.start.strip_prefix('/').unwrap_or(&token.start);
        if !path.is_empty() && path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("{INVALID}: {}", token.start));
        }
        Ok(Self { revision: Revision::try_from(token.rv).ok(), start: path.to_owned() })
    }

    pub fn encode(&self) -> String {
        let rv = self.revision.map_or(-1, |revision| i64::try_from(revision).unwrap_or(i64::MAX));
        let token = Token { v: VERSION.to_owned(), rv, start: self.start.clone() };
        // Two strings and a number: serialising them has no way to fail.
        BASE64.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    /// The key as a place of the store; `namespace` is that of the list, None over all namespaces.
    pub fn place(&self, namespace: Option<&str>) -> Place {
        let (namespace, name) = match namespace {
            Some(namespace) => (namespace, self.start.as_str()),
            None => self.start.split_once('/').unwrap_or((&self.start, "")),
        };
        Place { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The same place, at the newest revision.
    pub fn inconsistent(&self) -> Self {
        Self { revision: None, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_kubernetes_own() {
        let place = Place::after(&model::Key::new("default", "web"));
        let token = Continuation::new(Some(7), &place, false);
        assert_eq!(BASE64.decode(token.encode()).unwrap(), br#"{"v":"meta.k8s.io/v1","rv":7,"start":"web\u0000"}"#);
        assert_eq!(Continuation::decode(&token.encode()).unwrap(), token);
        assert_eq!(token.place(Some("default")), place);
        let everywhere = Continuation::new(Some(7), &place, true).inconsistent();
        assert_eq!(
            BASE64.decode(everywhere.encode()).unwrap(),
            br#"{"v":"meta.k8s.io/v1","rv":-1,"start":"default/web\u0000"}"#
        );
        let read = Continuation::decode(&everywhere.encode()).unwrap();
        assert_eq!((read.revision, read.place(None)), (None, place));
    }

    #[test]
    fn tokens_that_are_none() {
        let mut lines = Vec::new();
        let forged = [
            r#"{"v":"meta.k8s.io/v2","rv":1,"start":"a"}"#,
            r#"{"v":"meta.k8s.io/v1","start":"a"}"#,
            r#"{"v":"meta.k8s.io/v1","rv":1}"#,
            r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../kube-system/a"}"#,
            r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a/"}"#,
            r#"{"v":"meta.k8s.io/v1","rv":1.5,"start":"a"}"#,
            "[]",
        ];
        for text in ["a", "a!", "YQ=="].map(str::to_owned).into_iter().chain(forged.map(|json| BASE64.encode(json))) {
            lines.push(Continuation::decode(&text).unwrap_err());
        }
        expect_test::expect![[r#"
            continue key is not valid: illegal base64 data at input byte 1
            continue key is not valid: illegal base64 data at input byte 1
            continue key is not valid: illegal base64 data at input byte 4
            continue key is not valid: server does not recognize this encoded version meta.k8s.io/v2
            continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)
            continue key is not valid: encoded start key empty (version meta.k8s.io/v1)
            continue key is not valid: ../kube-system/a
            continue key is not valid: a/
            continue key is not valid: invalid type: floating point `1.5`, expected i64 at line 1 column 30
            continue key is not valid: server does not recognize this encoded version "#]]
        .assert_eq(&lines.join("\n"));
    }
}
