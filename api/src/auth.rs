//! Who may ask: whoever shows the server's bearer token. Which pages are open to all, the table of pages says.

use std::hint::black_box;

use http::{HeaderMap, header::AUTHORIZATION};

use crate::routes::Page;

/// The token of the server; has no `Debug`, so that no log can show it.
#[derive(Clone)]
pub struct Token {
    token: String,
    /// Paths that need none.
    open: Vec<String>,
}

impl Token {
    pub fn new(token: &str) -> Self {
        let open = Page::all().into_iter().filter(|page| page.open());
        Self { token: token.to_owned(), open: open.map(Page::path).collect() }
    }

    /// Whether the request may pass. A slash at the end of a path changes nothing, here as in the router.
    pub fn admits(&self, path: &str, headers: &HeaderMap) -> bool {
        presented(headers).is_some_and(|token| self.is(token)) || self.is_open(path)
    }

    fn is_open(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.open.iter().any(|open| open == path)
    }

    /// Compares in a time that depends on the lengths alone.
    fn is(&self, presented: &[u8]) -> bool {
        let token = self.token.as_bytes();
        let differing = token.iter().zip(presented).fold(0u8, |acc, (a, b)| black_box(acc | (a ^ b)));
        !token.is_empty() && token.len() == presented.len() && differing == 0
    }
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
    fn health_version_and_the_page_for_people_are_open() {
        let token = Token::new("sesame");
        for path in
            ["/livez", "/readyz", "/healthz", "/version", "/version/", "/openapi.json", "/docs", "/docs/page.js"]
        {
            assert!(token.admits(path, &HeaderMap::new()), "{path}");
        }
        for path in ["/", "/metrics", "/livezz", "/version/x", "/openapi/v3", "/docs/x", "/api"] {
            assert!(!token.admits(path, &HeaderMap::new()), "{path}");
        }
    }

    #[test]
    fn an_empty_token_admits_nobody() {
        assert!(!Token::new("").admits("/api", &headers("Bearer ")));
    }
}
