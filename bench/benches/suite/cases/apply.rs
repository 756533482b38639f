//! `kubectl apply` of 1,000 manifests, client-side and `--server-side`, and again without a change, beside as many
//! fdatasyncs.

use std::process::{Command, Stdio};
use std::time::Instant;

use bench::figures::{Figure, Unit};
use serde_json::{Value, json};

use crate::case::Outcome;
use crate::support::{Server, alone, fdatasync_rate, number, service, target};

pub fn run(outcome: &mut Outcome) {
    let manifests = outcome.size.pick(10, 1_000, 1_000);
    let applied = alone().block_on(apply(manifests));
    let disk = manifests as f64 / number(&applied, "/fdatasyncPerSecond");
    let about = format!("{manifests} times write of 4 KiB and fdatasync, one file");
    outcome.figures.add(Figure::cost("apply/fdatasync", disk, Unit::Seconds, &about));
    for (name, pointer, about) in [
        ("apply/client-side", "/clientSideSeconds", "kubectl apply"),
        ("apply/client-side-again", "/clientSideAgainSeconds", "kubectl apply of the same again"),
        ("apply/server-side", "/serverSideSeconds", "kubectl apply --server-side"),
        ("apply/server-side-again", "/serverSideAgainSeconds", "kubectl apply --server-side of the same again"),
    ] {
        let about = format!("{about}; {manifests} manifests");
        let figure = Figure::cost(name, number(&applied, pointer), Unit::Seconds, &about);
        outcome.figures.add(figure.beside("apply/fdatasync"));
    }
    outcome.detail = applied;
}

async fn apply(manifests: usize) -> Value {
    let kubectl = target().join("tools/kubectl");
    let server = Server::start().await;
    let file = server.dir.path().join("manifests.yaml");
    let texts: Vec<String> = (0..manifests).map(|i| yaml(&service(&format!("m{i}"), &format!("m{i}")))).collect();
    std::fs::write(&file, texts.join("---\n")).unwrap();
    let run = |namespace: &str, more: &[&str]| {
        let start = Instant::now();
        let output = Command::new(&kubectl)
            .arg("--kubeconfig")
            .arg(server.kubeconfig())
            .args(["apply", "--request-timeout=30s", "-n", namespace, "-f"])
            .arg(&file)
            .args(more)
            .env("KUBECACHEDIR", server.dir.path().join("kubecache"))
            .env("HOME", server.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        start.elapsed().as_secs_f64()
    };
    let fsync = fdatasync_rate(server.dir.path(), manifests as u32);
    let client_side = run("default", &[]);
    let client_side_again = run("default", &[]);
    let server_side = run("kube-public", &["--server-side"]);
    let server_side_again = run("kube-public", &["--server-side"]);
    json!({"manifests": manifests, "fdatasyncPerSecond": fsync,
        "clientSideSeconds": client_side, "clientSideAgainSeconds": client_side_again,
        "serverSideSeconds": server_side, "serverSideAgainSeconds": server_side_again})
}

fn yaml(value: &Value) -> String {
    let text = serde_saphyr::to_string(value).unwrap();
    if text.ends_with('\n') { text } else { text + "\n" }
}
