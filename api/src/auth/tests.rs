//! Which credentials are whose.

use access::Certificate;
use http::HeaderValue;
use store::Store;

use super::*;
use crate::peer::Shown;

fn headers(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))])
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// An authenticator over an empty store.
async fn authenticator(token: &str) -> (Authenticator, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(store::Config::new(directory.path().join("portolan.db"))).await.unwrap();
    (Authenticator::new(&Config::new(store, token, "v0.0.0-test")), directory)
}

fn name(auth: &Authenticator, headers: &HeaderMap, peer: Option<&Peer>) -> Result<String, Worthless> {
    auth.authenticate(headers, peer, now()).map(|user| user.name.clone())
}

fn node(not_after: &str) -> Peer {
    let certificate = Certificate { user: Arc::new(User::node("web-1")), not_after: not_after.parse().unwrap() };
    Peer { address: "192.0.2.1:5".parse().unwrap(), certificate: Some(Arc::new(Shown::judged(certificate))) }
}

#[tokio::test]
async fn only_the_token_itself_is_the_admins() {
    let (auth, _directory) = authenticator("sesame").await;
    for good in ["Bearer sesame", "bearer  sesame "] {
        assert_eq!(name(&auth, &headers(good), None).unwrap(), "system:admin");
    }
    for wrong in ["Bearer sesam", "Bearer sesamee", "Bearer Sesame", "Basic sesame", "sesame", "Bearer ", ""] {
        assert_eq!(name(&auth, &headers(wrong), None), Err(Worthless), "{wrong}");
    }
    assert_eq!(name(&auth, &HeaderMap::new(), None).unwrap(), "system:anonymous");
}

#[tokio::test]
async fn an_empty_token_is_nobodys() {
    let (auth, _directory) = authenticator("").await;
    assert_eq!(name(&auth, &headers("Bearer "), None), Err(Worthless));
}

#[tokio::test]
async fn a_certificate_goes_before_a_token_while_it_holds() {
    let (auth, _directory) = authenticator("sesame").await;
    let (good, ended) = (node("2026-01-02T00:00:00Z"), node("2025-12-31T23:59:59Z"));
    assert_eq!(name(&auth, &HeaderMap::new(), Some(&good)).unwrap(), "system:node:web-1");
    assert_eq!(name(&auth, &headers("Bearer sesame"), Some(&good)).unwrap(), "system:node:web-1");
    assert_eq!(name(&auth, &headers("Bearer sesame"), Some(&ended)).unwrap(), "system:admin");
    assert_eq!(name(&auth, &HeaderMap::new(), Some(&ended)), Err(Worthless), "it is not anybody any more");
}
