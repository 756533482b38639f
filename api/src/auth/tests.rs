//! Which credentials are whose.

use access::Certificate;
use http::HeaderValue;

use super::*;

fn headers(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))])
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn name(auth: &Authenticator, headers: &HeaderMap, peer: Option<&Peer>) -> Result<String, Worthless> {
    auth.authenticate(headers, peer, now()).map(|user| user.name.clone())
}

fn node(not_after: &str) -> Peer {
    let certificate = Certificate { user: Arc::new(User::node("web-1")), not_after: not_after.parse().unwrap() };
    Peer { address: "192.0.2.1:5".parse().unwrap(), certificate: Some(Arc::new(certificate)) }
}

#[test]
fn only_the_token_itself_is_the_admins() {
    let auth = Authenticator::new("sesame");
    for good in ["Bearer sesame", "bearer  sesame "] {
        assert_eq!(name(&auth, &headers(good), None).unwrap(), "system:admin");
    }
    for wrong in ["Bearer sesam", "Bearer sesamee", "Bearer Sesame", "Basic sesame", "sesame", "Bearer ", ""] {
        assert_eq!(name(&auth, &headers(wrong), None), Err(Worthless), "{wrong}");
    }
    assert_eq!(name(&auth, &HeaderMap::new(), None).unwrap(), "system:anonymous");
}

#[test]
fn an_empty_token_is_nobodys() {
    assert_eq!(name(&Authenticator::new(""), &headers("Bearer "), None), Err(Worthless));
}

#[test]
fn a_certificate_goes_before_a_token_while_it_holds() {
    let auth = Authenticator::new("sesame");
    let (good, ended) = (node("2026-01-02T00:00:00Z"), node("2025-12-31T23:59:59Z"));
    assert_eq!(name(&auth, &HeaderMap::new(), Some(&good)).unwrap(), "system:node:web-1");
    assert_eq!(name(&auth, &headers("Bearer sesame"), Some(&good)).unwrap(), "system:node:web-1");
    assert_eq!(name(&auth, &headers("Bearer sesame"), Some(&ended)).unwrap(), "system:admin");
    assert_eq!(name(&auth, &HeaderMap::new(), Some(&ended)), Err(Worthless), "it is not anybody any more");
}
