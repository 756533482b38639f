//! Sessions that stay with a backend by a cookie, as pure rules.
//!
//! With `insert` the cookie is ours: its value names the backend. With `server` it is the application's, which alone decides
//! when a session begins and ends: on its way to the client `NAME=VALUE` becomes `NAME=backend~VALUE`, and on its way back
//! what we wrote is taken out again, so the application sees its own words. A backend is named by the hash of its address: the
//! same on every edge node and after a restart, and it tells nobody how the network inside looks.

use std::fmt::Write;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use model::types::{StickyKind, StickySession};

/// Of `insert`, where nobody chose a name.
const DEFAULT_NAME: &str = "SERVERID";

/// Between the backend and the application's value. Allowed in a cookie's value (RFC 6265 §4.1.1), and rare.
const SEPARATOR: char = '~';

/// A backend's hash in hexadecimal.
const ID_LENGTH: usize = 16;

/// How sessions of a listener are recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    kind: StickyKind,
    name: Box<str>,
    timeout_seconds: u32,
}

impl Cookie {
    pub fn new(session: &StickySession) -> Self {
        let name = session.cookie.as_deref().filter(|n| !n.is_empty()).unwrap_or(DEFAULT_NAME);
        Self { kind: session.kind, name: name.into(), timeout_seconds: session.timeout_seconds }
    }

    /// The backend that a request asks for. With `server`, our part is taken out of the request.
    pub fn wanted(&self, headers: &mut HeaderMap) -> Option<u64> {
        match self.kind {
            StickyKind::Insert => headers.get_all(COOKIE).iter().find_map(|line| parse_id(self.value(line)?)),
            StickyKind::Server => {
                let found = headers.get_all(COOKIE).iter().enumerate().find_map(|(place, line)| {
                    let value = self.value(line)?;
                    let (id, _) = value.split_once(SEPARATOR)?;
                    Some((place, parse_id(id)?, id.as_ptr().addr() - line.as_bytes().as_ptr().addr()))
                });
                let (place, id, start) = found?;
                let line = headers.get_all(COOKIE).iter().nth(place)?;
                let bytes = line.as_bytes();
                let (before, from) = bytes.split_at_checked(start)?;
                let after = from.get(ID_LENGTH + SEPARATOR.len_utf8()..)?;
                let line = HeaderValue::from_bytes(&[before, after].concat()).ok()?;
                if let Some(old) = headers.iter_mut().filter(|(n, _)| **n == COOKIE).map(|(_, v)| v).nth(place) {
                    *old = line;
                }
                Some(id)
            }
        }
    }

    /// Notes in an answer who gave it. `known`: the request has named this backend already.
    pub fn note(&self, headers: &mut HeaderMap, backend: u64, known: bool) {
        match self.kind {
            StickyKind::Insert if known => {}
            StickyKind::Insert => {
                let mut cookie = format!("{}={backend:016x}; Path=/; HttpOnly", self.name);
                if self.timeout_seconds > 0 {
                    // Writing to a String cannot fail.
                    let _ = write!(cookie, "; Max-Age={}", self.timeout_seconds);
                }
                if let Ok(cookie) = HeaderValue::try_from(cookie) {
                    headers.append(SET_COOKIE, cookie);
                }
            }
            StickyKind::Server => {
                for (name, value) in headers.iter_mut() {
                    if name == SET_COOKIE
                        && let Some(marked) = self.marked(value, backend)
                    {
                        *value = marked;
                    }
                }
            }
        }
    }

    /// The application's Set-Cookie with the backend written in, if it is the one.
    fn marked(&self, line: &HeaderValue, backend: u64) -> Option<HeaderValue> {
        let rest = line.to_str().ok()?.trim_start().strip_prefix(&*self.name)?.trim_start().strip_prefix('=')?;
        HeaderValue::try_from(format!("{}={backend:016x}{SEPARATOR}{}", self.name, rest.trim_start())).ok()
    }

    /// The cookie's value in a line of cookies.
    fn value<'a>(&self, line: &'a HeaderValue) -> Option<&'a str> {
        let mut pairs = line.to_str().ok()?.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == &*self.name).map(|(_, value)| value)
    }
}

fn parse_id(text: &str) -> Option<u64> {
    let is_ours = text.len() == ID_LENGTH && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_ours.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(kind: StickyKind, name: Option<&str>, timeout_seconds: u32) -> Cookie {
        Cookie::new(&StickySession { kind, cookie: name.map(str::to_owned), timeout_seconds })
    }

    fn lines(name: http::HeaderName, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|l| (name.clone(), HeaderValue::from_str(l).unwrap())).collect()
    }

    fn told(headers: &HeaderMap, name: http::HeaderName) -> Vec<&str> {
        headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect()
    }

    #[test]
    fn ours_names_the_backend_once() {
        let ours = cookie(StickyKind::Insert, None, 600);
        let mut answer = lines(SET_COOKIE, &["a=b"]);
        ours.note(&mut answer, 0xab, false);
        let expected = "SERVERID=00000000000000ab; Path=/; HttpOnly; Max-Age=600";
        assert_eq!(told(&answer, SET_COOKIE), ["a=b", expected]);
        ours.note(&mut answer, 0xab, true);
        assert_eq!(answer.len(), 2);

        let mut request = lines(COOKIE, &["x=1; SERVERID=00000000000000ab ;y=2"]);
        assert_eq!(ours.wanted(&mut request), Some(0xab));
        for foreign in ["SERVERID=ab", "SERVERID=00000000000000AB", "NOSERVERID=00000000000000ab", "SERVERID", "\u{e4}"]
        {
            assert_eq!(ours.wanted(&mut lines(COOKIE, &[foreign])), None, "{foreign}");
        }
    }

    #[test]
    fn theirs_is_marked_and_comes_back_as_it_was() {
        let theirs = cookie(StickyKind::Server, Some("JSESSIONID"), 0);
        let mut answer = lines(SET_COOKIE, &["JSESSIONID=s~1; Path=/app", "JSESSIONID2=x", "other=1"]);
        theirs.note(&mut answer, 0xcd, true);
        let marked = "JSESSIONID=00000000000000cd~s~1; Path=/app";
        assert_eq!(told(&answer, SET_COOKIE), [marked, "JSESSIONID2=x", "other=1"]);

        let mut request = lines(COOKIE, &["a=1", "b=2; JSESSIONID=00000000000000cd~s~1; c=3"]);
        assert_eq!(theirs.wanted(&mut request), Some(0xcd));
        assert_eq!(told(&request, COOKIE), ["a=1", "b=2; JSESSIONID=s~1; c=3"]);
        // Not ours: left alone.
        let mut request = lines(COOKIE, &["JSESSIONID=s~1"]);
        assert_eq!(theirs.wanted(&mut request), None);
        assert_eq!(told(&request, COOKIE), ["JSESSIONID=s~1"]);
    }
}
