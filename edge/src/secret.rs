//! core/v1 `Secret`, as far as an edge reads it: those with certificates. What is in one is never shown.

use std::collections::BTreeMap;
use std::fmt;

use model::types::ObjectMeta;
use proxy_agent::follow::HasMeta;
use serde::{Deserialize, Deserializer};

/// A Secret. Two with the same content are equal, whatever their versions.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Secret {
    pub metadata: ObjectMeta,
    /// By key, as `tls.crt`.
    #[serde(deserialize_with = "octets")]
    pub data: BTreeMap<String, Vec<u8>>,
}

impl HasMeta for Secret {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.data == other.data
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.data.keys().collect();
        f.debug_struct("Secret").field("name", &self.metadata.name()).field("keys", &keys).finish_non_exhaustive()
    }
}

/// What is no base64 is empty: the server has checked it, and a certificate that cannot be read is told elsewhere.
fn octets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<u8>>, D::Error> {
    use base64::Engine;
    let texts = Option::<BTreeMap<String, String>>::deserialize(deserializer)?.unwrap_or_default();
    let decode = |text: String| base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    Ok(texts.into_iter().map(|(key, text)| (key, decode(text))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_decoded_and_never_shown() {
        let text =
            r#"{"metadata":{"name":"web"},"type":"kubernetes.io/tls","data":{"tls.crt":"Y2VydA==","tls.key":"a2V5"}}"#;
        let secret: Secret = serde_json::from_str(text).unwrap();
        assert_eq!(secret.data["tls.crt"], b"cert");
        let shown = format!("{secret:?}");
        assert!(shown.contains("tls.key") && !shown.contains("107"), "{shown}");
    }
}
