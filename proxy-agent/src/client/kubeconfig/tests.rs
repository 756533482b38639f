use super::*;

const WHOLE: &str = r#"
apiVersion: v1
kind: Config
current-context: lab
preferences: {}
clusters:
- name: lab
  cluster:
    server: https://127.0.0.1:6443
    certificate-authority-data: Q0E=
contexts:
- name: lab
  context: {cluster: lab, user: admin, namespace: default}
users:
- name: admin
  user:
    token: secret
"#;

fn message(text: &str) -> String {
    parse(text, Path::new("/etc/portolan")).err().unwrap().to_string()
}

#[test]
fn the_current_context_is_read() {
    let loaded = parse(WHOLE, Path::new("")).unwrap();
    assert_eq!(loaded.server, "https://127.0.0.1:6443");
    assert_eq!(loaded.token.as_deref(), Some("secret"));
    assert_eq!(loaded.trust.ca_pem.as_deref(), Some(b"CA".as_slice()));
    assert!(loaded.trust.identity.is_none());
}

#[test]
fn a_kubeconfig_may_be_json_and_without_a_user() {
    let text = r#"{"current-context":"a","contexts":[{"name":"a","context":{"cluster":"c"}}],
        "clusters":[{"name":"c","cluster":{"server":"http://[::1]:8080"}}]}"#;
    let loaded = parse(text, Path::new("")).unwrap();
    assert_eq!((loaded.server.as_str(), loaded.token), ("http://[::1]:8080", None));
}

#[test]
fn files_are_found_from_the_kubeconfigs_own_place() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.crt"), "FILE CA").unwrap();
    fs::write(dir.path().join("tok"), "from file\n").unwrap();
    let text = WHOLE
        .replace("certificate-authority-data: Q0E=", "certificate-authority: ca.crt")
        .replace("token: secret", "tokenFile: tok");
    let path = dir.path().join("kubeconfig");
    fs::write(&path, text).unwrap();
    let loaded = load(&path).unwrap();
    assert_eq!(loaded.trust.ca_pem.as_deref(), Some(b"FILE CA".as_slice()));
    assert_eq!(loaded.token.as_deref(), Some("from file"));
}

#[test]
fn a_client_certificate_needs_its_key() {
    let pair = WHOLE.replace("token: secret", "client-certificate-data: Yw==\n    client-key-data: aw==");
    let identity = parse(&pair, Path::new("")).unwrap().trust.identity.unwrap();
    assert_eq!((identity.certificate_pem.as_slice(), identity.key_pem.as_slice()), (b"c".as_slice(), b"k".as_slice()));
    assert_eq!(
        message(&WHOLE.replace("token: secret", "client-certificate-data: Yw==")),
        "client-key of the user is not set"
    );
}

#[test]
fn every_fault_is_named() {
    let cases = [
        (WHOLE.replace("current-context: lab", ""), "current-context is not set"),
        (WHOLE.replace("current-context: lab", "current-context: home"), "there is no context named \"home\""),
        (WHOLE.replace("cluster: lab,", "cluster: other,"), "there is no cluster named \"other\""),
        (WHOLE.replace("user: admin,", "user: other,"), "there is no user named \"other\""),
        (WHOLE.replace("server: https://127.0.0.1:6443", "tls-server-name: x"), "server of cluster \"lab\" is not set"),
        (WHOLE.replace("Q0E=", "'***'"), "certificate-authority-data is not base64"),
        (
            WHOLE.replace("certificate-authority-data: Q0E=", "certificate-authority: no.crt"),
            "certificate-authority names /etc/portolan/no.crt, which cannot be read",
        ),
        (
            WHOLE.replace("certificate-authority-data: Q0E=", "insecure-skip-tls-verify: true"),
            "insecure-skip-tls-verify is not supported: name the server's CA in certificate-authority instead",
        ),
        (
            WHOLE.replace("token: secret", "exec: {command: login}"),
            "exec is not supported: use token, tokenFile or a client certificate",
        ),
        ("[1, 2".to_owned(), "it is not a kubeconfig"),
    ];
    for (text, expected) in cases {
        assert_eq!(message(&text), expected);
    }
    assert_eq!(load(Path::new("/does/not/exist")).err().unwrap().to_string(), "the file cannot be read");
}
