//! Who may ask: whoever shows the server's bearer token. Health and version are open to all, as a load balancer's
//! probe and a client's first question carry no token.

use std::hint::black_box;

use http::{HeaderMap, header::AUTHORIZATION};

/// The token of the server; has no `Debug`, so that no log can show it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    pub fn new(token: &str) -> Self {
        Self(token.to_owned())
    }

    /// Whether the request may pass.
    pub fn admits(&self, path: &str, headers: &HeaderMap) -> bool {
        open(path) || presented(headers).is_some_and(|token| self.is(token))
    }

    /// Compares in a time that depends on the lengths alone.
    fn is(&self, presented: &[u8]) -> bool {
        let token = self.0.as_bytes();
        let differing = token.iter().zip(presented).fold(0u8, |acc, (a, b)| black_box(acc | (a ^ b)));
        !token.is_empty() && token.len() == presented.len() && differing == 0
    }
}

fn open(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/healthz" | "/version" | "/version/")
}

/// The credentials of `Authorization: Bearer …`; the scheme's case does not matter (RFC 9110, 11.1).
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn only_the_token_itself_passes() {
        let token = Token::new("sesame");
        assert!(token.admits("/api", &headers("Bearer sesame")));
        assert!(token.admits("/api", &headers("bearer  sesame ")));
        for wrong in ["Bearer sesam", "Bearer sesamee", "Bearer Sesame", "Basic sesame", "sesame", "Bearer ", ""] {
            assert!(!token.admits("/api", &headers(wrong)), "{wrong}");
        }
        assert!(!token.admits("/api", &HeaderMap::new()));
    }

    #[test]
    fn health_and_version_are_open() {
        let token = Token::new("sesame");
        for path in ["/livez", "/readyz", "/healthz", "/version", "/version/"] {
            assert!(token.admits(path, &HeaderMap::new()), "{path}");
        }
        for path in ["/", "/metrics", "/livezz", "/version/x", "/openapi/v3"] {
            assert!(!token.admits(path, &HeaderMap::new()), "{path}");
        }
    }

    #[test]
    fn an_empty_token_admits_nobody() {
        assert!(!Token::new("").admits("/api", &headers("Bearer ")));
    }
}
