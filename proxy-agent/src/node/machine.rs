//! What this machine is, in the words of a Node's `status.nodeInfo`. Read once: it changes with a boot.

use std::fs;

use serde_json::{Value, json};

/// As `kubectl get nodes -o wide` shows it. What cannot be read is empty, as the schema wants it.
pub fn info() -> Value {
    let text = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    json!({
        "architecture": architecture(std::env::consts::ARCH),
        "bootID": text("/proc/sys/kernel/random/boot_id"),
        "containerRuntimeVersion": concat!("portolan://", env!("CARGO_PKG_VERSION")),
        "kernelVersion": text("/proc/sys/kernel/osrelease"),
        "kubeProxyVersion": "",
        "kubeletVersion": concat!("v", env!("CARGO_PKG_VERSION"), "-portolan"),
        "machineID": text("/etc/machine-id"),
        "operatingSystem": std::env::consts::OS,
        "osImage": os_image(&text("/etc/os-release")),
        "systemUUID": "",
    })
}

/// `PRETTY_NAME="Debian GNU/Linux 13 (trixie)"` (os-release(5)).
fn os_image(os_release: &str) -> &str {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    name.trim_matches(['"', '\''])
}

/// Go's name of a processor architecture, which Kubernetes uses.
pub fn architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_called_by_its_name() {
        assert_eq!(
            os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n"),
            "Debian GNU/Linux 13 (trixie)"
        );
        assert_eq!(os_image("PRETTY_NAME=Alpine\n"), "Alpine");
        assert_eq!(os_image(""), "Linux");
        assert_eq!(architecture("x86_64"), "amd64");
    }

    #[test]
    fn every_field_that_kubernetes_requires_is_there() {
        let info = info();
        let fields = info.as_object().unwrap();
        assert!(fields.len() == 10 && fields.values().all(Value::is_string), "{info}");
        assert_ne!(info["kernelVersion"], "");
    }
}
