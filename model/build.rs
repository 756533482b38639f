//! Makes the schema of the served kinds, once, at build time.
//!
//! `k8s-openapi` carries Kubernetes' definitions as Rust types that can describe themselves; this script asks
//! the served kinds (`src/resource.rs` and `src/review.rs`, read here as they stand) to do so and writes three
//! artifacts:
//!
//! - `openapi.json`: the component schemas with their descriptions, as OpenAPI 3.0 has them. It is large, is
//!   embedded as text, and costs no memory until somebody asks for it.
//! - `structs.rs`: the same without descriptions, as Rust statics. Field checks and merges walk these; they
//!   need no parsing and no heap.
//! - `protobuf.rs`: the messages of the same kinds, for the transcoder; `build/protobuf.txt` has the facts.
//!
//! Kinds of Portolan's own stand in `build/own.txt`, which `build/own.rs` brings into the same forms.
//!
//! The definitions know no merge keys (the crate keeps them in code), so `build/lists.rs` says how each list
//! merges. A list that it does not know, or that no longer exists, fails the build.

#[path = "build/definitions.rs"]
mod definitions;
#[path = "build/lists.rs"]
mod lists;
#[path = "build/own.rs"]
mod own;
#[path = "build/protobuf.rs"]
mod protobuf;
#[path = "src/resource.rs"]
#[allow(dead_code, reason = "the build needs the table alone")]
mod resource;
#[path = "src/review.rs"]
#[allow(dead_code, reason = "the build needs the table alone")]
mod review;
#[path = "build/structs.rs"]
mod structs;

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for input in ["build.rs", "build", "src/resource.rs", "src/review.rs"] {
        println!("cargo:rerun-if-changed={input}");
    }
    let definitions = definitions::definitions()?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("openapi.json"), serde_json::to_vec(&definitions)?)?;
    std::fs::write(out.join("structs.rs"), structs::render(&definitions)?)?;
    std::fs::write(out.join("protobuf.rs"), protobuf::render(&definitions)?)?;
    Ok(())
}
