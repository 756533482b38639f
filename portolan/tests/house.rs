//! The house rules: which crate may import which, and that the map still names what is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Crate → the workspace crates that it may depend on.
fn arrows() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("model", &[][..]),
        ("allocator", &["model"]),
        ("access", &["model"]),
        ("store", &["model", "allocator"]),
        ("controller", &["model", "store"]),
        ("api", &["access", "model", "store"]),
        ("dataplane", &["model"]),
        ("dns", &["model"]),
        ("proxy-agent", &["model", "dataplane", "dns"]),
        ("edge", &["model", "dataplane", "proxy-agent"]),
        ("lab", &["model", "proxy-agent"]),
        ("bench", &["model", "proxy-agent"]),
        ("conformance", &[]),
        (
            "portolan",
            &[
                "access",
                "api",
                "bench",
                "controller",
                "dataplane",
                "dns",
                "edge",
                "lab",
                "model",
                "proxy-agent",
                "store",
            ],
        ),
    ])
}

/// Names under `[dependencies]`, without dev- and build-dependencies.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    manifest
        .lines()
        .skip_while(|l| l.trim() != "[dependencies]")
        .skip(1)
        .take_while(|l| !l.starts_with('['))
        .filter_map(|l| l.split(['.', '=', ' ']).next())
        .filter(|n| !n.is_empty() && !n.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn crates_import_only_what_the_map_allows() {
    let arrows = arrows();
    let members: BTreeSet<String> = fs::read_dir(root())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.join("Cargo.toml").exists())
        .map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(members, arrows.keys().map(|k| (*k).to_owned()).collect(), "a crate is not in the map");
    for (name, allowed) in &arrows {
        let used = dependencies(&fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap());
        for dependency in &used {
            if arrows.contains_key(dependency.as_str()) {
                assert!(allowed.contains(&dependency.as_str()), "{name} must not import {dependency}");
            }
        }
        for (only, home) in [
            ("sqlx", "store"),
            ("axum", "api"),
            ("netlink-sys", "dataplane"),
            ("rtnetlink", "lab"),
            ("hickory-proto", "dns"),
            ("hickory-resolver", "dns"),
            ("clap", "portolan"),
            ("kube", "conformance"),
        ] {
            assert!(!used.contains(only) || *name == home, "{only} belongs to {home} alone, not to {name}");
        }
    }
}

#[test]
fn the_map_names_what_is_there() {
    for page in ["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        // Every other piece between backticks is code.
        for name in text.split('`').skip(1).step_by(2) {
            let is_path =
                name.contains('/') && !name.contains([' ', ':', '*', '$', '<']) && !name.starts_with(['/', '.', '-']);
            if is_path && arrows().keys().any(|c| name.starts_with(&format!("{c}/"))) {
                assert!(root().join(name).exists(), "{page} names `{name}`, which is not there");
            }
        }
    }
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn every_golden_file_is_read_by_a_test() {
    let mut all = Vec::new();
    for name in arrows().keys() {
        files(&root().join(name), &mut all);
    }
    // What a script installs from a list, it reads, too.
    let scripts = [root().join("scripts/install-deps")];
    let sources: String = all
        .iter()
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .chain(&scripts)
        .map(|p| fs::read_to_string(p).unwrap())
        .collect();
    for golden in all.iter().filter(|p| {
        !p.iter().any(|c| c == "proptest-regressions") && p.extension().is_some_and(|e| e == "golden" || e == "txt")
    }) {
        let name = golden.file_name().unwrap().to_str().unwrap();
        assert!(sources.contains(name), "no test reads {}", golden.display());
    }
}

/// A source file that begins with its design can be read by a stranger.
#[test]
fn every_source_file_begins_with_its_design() {
    let mut all = Vec::new();
    for name in arrows().keys() {
        files(&root().join(name), &mut all);
    }
    let is_test = |p: &Path| p.ends_with("tests.rs") || p.components().any(|c| c.as_os_str() == "tests");
    for source in all.iter().filter(|p| p.extension().is_some_and(|e| e == "rs") && !is_test(p)) {
        let text = fs::read_to_string(source).unwrap();
        assert!(text.starts_with("//!"), "{} does not begin with //!", source.display());
    }
}
