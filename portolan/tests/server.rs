//! `portolan server` as its operators meet it: mistakes, the files it makes, its two kinds of sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use proxy_agent::client::Client;
use support::{PORTOLAN, Server, free_port};

fn server(args: &[&str]) -> Output {
    Command::new(PORTOLAN).arg("server").args(args).output().unwrap()
}

/// Exit code 1 and one sentence on stderr that holds all of `words`.
fn refused(args: &[&str], words: &[&str]) {
    let output = server(args);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
    let last = text.lines().last().unwrap_or("");
    for word in words {
        assert!(last.contains(word), "{args:?} said {text:?}, without {word:?}");
    }
}

#[test]
fn mistakes_get_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let listen = free_port().to_string();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().unwrap().to_string();
    refused(&["--data-dir", &data, "--listen", &busy], &["--listen", &busy, "in use"]);
    refused(&["--data-dir", &data, "--listen", &listen, "--insecure-listen", "0.0.0.0:0"], &["loopback"]);
    refused(
        &["--data-dir", &data, "--listen", &listen, "--service-cidr", "10.96.0.1/16"],
        &["--service-cidr", "host bit"],
    );
    refused(&["--data-dir", "/proc/nope", "--listen", &listen], &["/proc/nope"]);
    let wrong = server(&["--node-port-range", "9-1"]);
    assert_eq!(wrong.status.code(), Some(2), "wrong usage");

    fs::create_dir_all(&data).unwrap();
    fs::write(format!("{data}/portolan.db"), "this is no database, and long enough to be looked at as one".repeat(40))
        .unwrap();
    refused(&["--data-dir", &data, "--listen", &listen], &["portolan.db"]);
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = Server::start(dir.path());
    let data = dir.path().join("data").display().to_string();
    refused(&["--data-dir", &data, "--listen", &free_port().to_string()], &["another"]);
    drop(first);
}

#[test]
fn secrets_are_private_and_the_token_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let insecure = free_port();
    let server = Server::start_on(dir.path(), free_port(), &["--insecure-listen", &insecure.to_string()]);
    for file in ["admin.kubeconfig", "admin.token", "portolan.db", "pki/ca.crt", "pki/ca.key", "pki/server.key"] {
        let mode = fs::metadata(dir.path().join("data").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let anonymous = Client::new(&format!("http://{insecure}"), None, None).unwrap();
        for open in ["/livez", "/readyz", "/healthz", "/version"] {
            anonymous.get_text(open).await.unwrap_or_else(|e| panic!("{open}: {e}"));
        }
        assert_eq!(anonymous.get("/api/v1/services").await.unwrap_err().code(), Some(401));
        let token = fs::read_to_string(dir.path().join("data/admin.token")).unwrap();
        let admin = Client::new(&format!("http://{insecure}"), None, Some(token.trim())).unwrap();
        admin.get("/api/v1/services").await.unwrap();
        // Another authority's client must not talk to it.
        let ca = fs::read_to_string(dir.path().join("data/pki/ca.crt")).unwrap();
        let url = format!("https://{}", server.address);
        Client::new(&url, Some(&ca), Some(token.trim())).unwrap().get("/api/v1/services").await.unwrap();
    });
}
