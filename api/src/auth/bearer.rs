//! Bearer tokens: how one is shown, and the one that the server itself has made.

use std::hint::black_box;

/// The admin's token; has no `Debug`, so that no log can show it.
pub struct AdminToken(String);

impl AdminToken {
    pub fn new(token: &str) -> Self {
        Self(token.to_owned())
    }

    /// Compares in a time that depends on the lengths alone. An empty token is nobody's.
    pub fn is(&self, presented: &[u8]) -> bool {
        let token = self.0.as_bytes();
        let differing = token.iter().zip(presented).fold(0u8, |acc, (a, b)| black_box(acc | (a ^ b)));
        !token.is_empty() && token.len() == presented.len() && differing == 0
    }
}

/// The credentials of `Authorization: Bearer …`; the scheme's case does not matter (RFC 9110, 11.1).
pub fn presented(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    let token = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}
