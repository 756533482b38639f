mod shared;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::testing::{Fake, Reply};

fn client(fake: &Fake) -> Client {
    Client::new(&fake.url(), None, Some("secret")).unwrap()
}

#[tokio::test]
async fn requests_carry_what_the_api_wants() {
    let fake = Fake::start(|asked| Reply::json(200, &json!({"method": asked.method}))).await;
    let client = client(&fake);
    let object = json!({"a": 1});
    assert_eq!(client.get("/api/v1/x").await.unwrap()["method"], "GET");
    assert_eq!(client.post("/api/v1/x", &object).await.unwrap()["method"], "POST");
    assert_eq!(client.put("/api/v1/x/y", &object).await.unwrap()["method"], "PUT");
    assert_eq!(client.patch("/api/v1/x/y", MERGE_PATCH, &object).await.unwrap()["method"], "PATCH");
    assert_eq!(client.delete("/api/v1/x/y", None).await.unwrap()["method"], "DELETE");
    let asked = fake.asked();
    for one in &asked {
        assert!(one.head.contains("authorization: Bearer secret\r\n"), "{}", one.head);
        assert!(one.head.contains(&format!("host: {}\r\n", fake.address)), "{}", one.head);
        assert_eq!(one.connection, 0, "one connection is enough for one request after the other");
    }
    assert_eq!(asked[1].json(), object);
    assert!(asked[3].head.contains("content-type: application/merge-patch+json\r\n"));
    assert!(asked[0].body.is_empty() && asked[4].body.is_empty());
}

#[tokio::test]
async fn a_status_becomes_an_error_with_its_words() {
    let fake = Fake::scripted(vec![
        Reply::status(404, "NotFound", "services \"web\" not found"),
        Reply::Whole(502, b"<html>bad gateway</html>".to_vec()),
        Reply::Whole(500, Vec::new()),
    ])
    .await;
    let client = client(&fake);
    let error = client.get("/x").await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "services \"web\" not found");
    let ClientError::Status(status) = error else { panic!("{error:?}") };
    assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
    assert_eq!(client.get("/x").await.unwrap_err().to_string(), "<html>bad gateway</html>");
    assert_eq!(client.get("/x").await.unwrap_err().to_string(), "the server answered 500");
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_is_no_error() {
    let fake = Fake::start(|_| Reply::Last(200, b"{}".to_vec())).await;
    let client = client(&fake);
    for _ in 0..5 {
        client.post("/x", &json!({})).await.unwrap();
        // Lets the end of the connection arrive, as it does between two requests of an agent.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(fake.asked().iter().map(|asked| asked.connection).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let fake = Fake::scripted(vec![
        Reply::With(429, "Retry-After: 0", Vec::new()),
        Reply::With(429, "Retry-After: 0", Vec::new()),
        Reply::json(201, &json!({"ok": true})),
    ])
    .await;
    assert_eq!(client(&fake).post("/x", &json!({})).await.unwrap()["ok"], true);
    assert_eq!(fake.asked().len(), 3);

    let list = Reply::json(200, &json!({"metadata": {"resourceVersion": "7"}, "items": []}));
    let fake = Fake::scripted(vec![Reply::With(429, "Retry-After: 0", Vec::new()), list]).await;
    let mut list = client(&fake).list("/x").await.unwrap();
    assert!(list.next().await.unwrap().is_none());
    assert_eq!((list.revision().unwrap(), fake.asked().len()), (7, 2));
}

#[tokio::test]
async fn many_requests_share_few_connections() {
    let fake = Fake::start(|_| Reply::json(200, &json!({}))).await;
    let client = client(&fake);
    let requests: Vec<_> = (0..200)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/x").await.map(drop) })
        })
        .collect();
    for request in requests {
        request.await.unwrap().unwrap();
    }
    let connections = fake.asked().iter().map(|asked| asked.connection).max().unwrap() + 1;
    assert!(connections <= MAX_CONNECTIONS, "{connections} connections for 200 requests");
}

#[tokio::test]
async fn a_list_is_handed_out_object_by_object() {
    let fake = Fake::scripted(vec![
        Reply::Chunks(vec![
            br#"{"metadata":{"resourceVersion":"7"},"items":[{"a""#.to_vec(),
            b":1},{\"b\":2}]}".to_vec(),
        ]),
        Reply::Chunks(vec![br#"{"metadata":{"resourceVersion":"7"},"items":[{"a":1}"#.to_vec()]),
        Reply::Cut(vec![br#"{"metadata":{"resourceVersion":"7"},"items":[{"a":1}"#.to_vec()]),
        Reply::Chunks(vec![br#"{"metadata":{},"items":[]}"#.to_vec()]),
    ])
    .await;
    let client = client(&fake);
    let mut list = client.list("/x").await.unwrap();
    assert_eq!(list.next().await.unwrap().unwrap(), &b"{\"a\":1}"[..]);
    assert_eq!(list.next().await.unwrap().unwrap(), &b"{\"b\":2}"[..]);
    assert_eq!(list.next().await.unwrap(), None);
    assert_eq!(list.revision().unwrap(), 7);

    let mut list = client.list("/x").await.unwrap();
    while list.next().await.unwrap().is_some() {}
    assert_eq!(list.revision().unwrap_err().to_string(), "a list: it was cut off");

    let mut list = client.list("/x").await.unwrap();
    list.next().await.unwrap();
    assert!(matches!(list.next().await.unwrap_err(), ClientError::Http { .. }));

    let mut list = client.list("/x").await.unwrap();
    assert_eq!(list.next().await.unwrap(), None);
    assert!(matches!(list.revision().unwrap_err(), ClientError::Json { .. }));
}

#[tokio::test]
async fn a_watch_gives_whole_events_until_its_end() {
    let fake = Fake::scripted(vec![Reply::Chunks(vec![
        br#"{"type":"ADDED","object":{"metadata":{"name":"a"}}}"#.to_vec(),
        b"\n{\"type\":\"BOOKMARK\",".to_vec(),
        b"\"object\":{}}\n\n{\"type\":\"ADD".to_vec(),
    ])])
    .await;
    let mut watch = client(&fake).watch("/x?watch=true").await.unwrap();
    let event = watch.next().await.unwrap().unwrap();
    assert_eq!(event.kind, "ADDED");
    assert_eq!(event.decode::<Value>().unwrap()["metadata"]["name"], "a");
    assert_eq!(watch.next().await.unwrap().unwrap().kind, "BOOKMARK");
    assert_eq!(watch.next().await.unwrap(), None, "a cut line was not sent");
}

#[tokio::test]
async fn a_watch_is_refused_with_a_status() {
    let fake = Fake::scripted(vec![Reply::status(410, "Expired", "too old resource version: 1 (5)")]).await;
    let ClientError::Status(status) = client(&fake).watch("/x?watch=true").await.unwrap_err() else { panic!() };
    assert!(status.is_expired());
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let address = {
        let fake = Fake::scripted(Vec::new()).await;
        fake.address
    };
    let client = Client::new(&format!("http://{address}"), None, None).unwrap();
    assert_eq!(client.get("/x").await.unwrap_err().to_string(), format!("connecting to {address}"));
}

#[test]
fn urls_that_cannot_be_used_are_said_so() {
    for (url, reason) in [
        ("127.0.0.1:6443", "must begin with https:// or http://"),
        ("ftp://x", "must begin with https:// or http://"),
        ("http://user:pw@x", "has a user name in it; use a token"),
        ("not a url", "is not a URL"),
    ] {
        let error = Client::new(url, None, None).unwrap_err().to_string();
        assert!(error.contains(reason), "{url}: {error}");
    }
    let error = Client::new("https://127.0.0.1", None, None).unwrap_err().to_string();
    assert!(error.contains("certificate-authority"), "{error}");
    let error = Client::new("https://127.0.0.1", Some("no pem"), None).unwrap_err().to_string();
    assert_eq!(error, "the certificate authority cannot be used: there is no PEM certificate in it");
    let error = Client::new("http://x", None, Some("a\nb")).unwrap_err().to_string();
    assert!(error.starts_with("the bearer token cannot be used"), "{error}");
}

/// An authority, and a server that it vouches for under `name`, which offers these protocols.
fn authority(name: &str, protocols: &[&[u8]]) -> (String, TlsAcceptor) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    (ca.pem(), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn tls_trusts_the_given_authority_and_no_other() {
    for (listen, name, host) in [("127.0.0.1:0", "127.0.0.1", "127.0.0.1"), ("[::1]:0", "::1", "[::1]")] {
        let (ca, acceptor) = authority(name, &[]);
        let (other, _) = authority(name, &[]);
        let fake = Fake::listen(listen, Some(acceptor), |_| Reply::json(200, &json!({"ok": true}))).await;
        let url = format!("https://{host}:{}", fake.address.port());
        let client = Client::new(&url, Some(&ca), None).unwrap();
        assert_eq!(client.get("/x").await.unwrap()["ok"], true);
        let client = Client::new(&url, Some(&other), None).unwrap();
        assert!(matches!(client.get("/x").await.unwrap_err(), ClientError::Handshake { .. }));
    }
}

#[tokio::test]
async fn tls_refuses_another_name() {
    let (ca, acceptor) = authority("portolan.example", &[]);
    let fake = Fake::listen("127.0.0.1:0", Some(acceptor), |_| Reply::json(200, &json!({}))).await;
    let url = format!("https://{}", fake.address);
    let client = Client::new(&url, Some(&ca), None).unwrap();
    assert!(matches!(client.get("/x").await.unwrap_err(), ClientError::Handshake { .. }));

    // Unless the kubeconfig says under which name the server is known.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.crt"), ca).unwrap();
    let kubeconfig = json!({
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": url, "certificate-authority": "ca.crt", "tls-server-name": "portolan.example"}}],
    });
    let path = dir.path().join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    Client::from_kubeconfig(&path).unwrap().get("/x").await.unwrap();
}
