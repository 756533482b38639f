//! Where other machines reach the server. The kubeconfig of its admin may say loopback, which is right on one machine alone.

use std::net::{IpAddr, SocketAddr};

use proxy_agent::client::Client;
use serde_json::Value;

use crate::Failure;

/// Where the addresses stand that the server advertises.
const ADVERTISED: &str = "/api/v1/namespaces/default/endpoints/kubernetes";

/// The URL for others: what was asked for, else the kubeconfig's, else what the server advertises.
pub async fn for_others(client: &Client, asked: Option<&str>) -> Result<String, Failure> {
    if let Some(asked) = asked {
        let trimmed = asked.trim_end_matches('/');
        if !trimmed.starts_with("https://") || trimmed.len() == "https://".len() {
            return Err(Failure::text(format!("--server {asked}: write it as https://192.0.2.1:6443")));
        }
        return Ok(trimmed.to_owned());
    }
    let known = client.server_url().trim_end_matches('/');
    if !is_loopback(known) {
        return Ok(known.to_owned());
    }
    let endpoints = match client.get(ADVERTISED).await {
        Ok(endpoints) => endpoints,
        Err(error) if error.is_not_found() => Value::Null,
        Err(error) => return Err(Failure::new("asking where the server is", &error)),
    };
    advertised(&endpoints).map(|address| format!("https://{address}")).ok_or_else(|| {
        Failure::text(
            "the server listens on loopback alone, where no other machine reaches it: start it with --listen 0.0.0.0:6443, or \
             say with --server where it is",
        )
    })
}

/// Whether a URL's host is this machine for everybody who reads it.
fn is_loopback(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or(authority);
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

/// The first address of the Endpoints of default/kubernetes; IPv4 before IPv6, as everybody has it.
fn advertised(endpoints: &Value) -> Option<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for subset in endpoints["subsets"].as_array()? {
        let port = subset["ports"].as_array()?.iter().find_map(|port| port["port"].as_u64());
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
        let addresses = subset["addresses"].as_array().into_iter().flatten();
        let addresses = addresses.filter_map(|address| address["ip"].as_str()?.parse::<IpAddr>().ok());
        all.extend(addresses.map(|ip| SocketAddr::new(ip, port)));
    }
    all.sort();
    all.first().copied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn loopback_is_recognised() {
        for url in ["https://127.0.0.1:6443", "https://localhost:6443", "https://[::1]:6443/", "https://0.0.0.0:1/x"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in
            ["https://192.0.2.1:6443", "https://[2001:db8::1]:6443", "https://api.example", "https://api.example:1/p"]
        {
            assert!(!is_loopback(url), "{url}");
        }
    }

    #[test]
    fn the_advertised_address_comes_from_the_endpoints() {
        let endpoints = |addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
            json!({"subsets": [{"addresses": addresses, "ports": [{"name": "https", "port": 6443}]}]})
        };
        let found = |value: &Value| advertised(value).map(|address| address.to_string());
        assert_eq!(found(&endpoints(&["2001:db8::1", "192.0.2.1"])).as_deref(), Some("192.0.2.1:6443"));
        assert_eq!(found(&endpoints(&["2001:db8::1"])).as_deref(), Some("[2001:db8::1]:6443"));
        assert_eq!(found(&endpoints(&[])), None);
        assert_eq!(found(&Value::Null), None);
    }
}
