//! Who sends and where to: from the words of a command line to a packet at a node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use model::Key;
use model::snapshot::Snapshot;
use model::types::{Node, Pod, Protocol, Service};

use super::{Cluster, Head, Step, list, path};
use crate::plan::Family;
use crate::route::{Origin, Packet};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub protocol: Protocol,
    /// A node, `[namespace/]pod`, or an address.
    pub from: String,
    /// The node whose rules the packet meets first; needed where the sender does not say.
    pub at: Option<String>,
    /// An address, a Service, a node or `namespace/pod`, with or without port.
    pub to: String,
    /// Where names without a namespace are.
    pub namespace: String,
}

/// The question cannot be asked like this; what to say instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(String);

fn problem<T>(text: String) -> Result<T, Problem> {
    Err(Problem(text))
}

/// Who sends.
struct Client<'a> {
    /// E.g. `pod default/client on node-1`.
    words: String,
    addresses: Vec<IpAddr>,
    /// The node on which it is, and whether it is the node itself.
    home: Option<(&'a str, bool)>,
}

/// What is asked for.
struct Target<'a> {
    addresses: Vec<IpAddr>,
    service: Option<(&'a Key, &'a Service)>,
    /// What the name means.
    words: Option<String>,
}

/// Finds out who sends what, and at which node. There is no step where the destination is no address.
///
/// # Errors
/// When something does not exist or is not said clearly enough.
pub fn resolve(cluster: &Cluster, request: &Request) -> Result<(Head, Option<Step>), Problem> {
    let (host, port) = split(&request.to)?;
    let client = client(cluster, request)?;
    let target = target(cluster, request, host)?;
    let mut head = Head {
        protocol: request.protocol.to_string(),
        from: client.words.clone(),
        client: client.addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        to: request.to.clone(),
        name: target.words.clone().into_iter().collect(),
        destination: None,
    };
    if target.addresses.is_empty() {
        return Ok((head, None));
    }
    let port = port_of(request, &target, port)?;
    let common = target.addresses.iter().find_map(|to| Some((*to, client.address_for(*to)?)));
    let Some((destination, address)) = common else {
        if target.addresses.iter().all(IpAddr::is_loopback) {
            return problem(format!("{host} is asked by processes of a node itself alone; say --from NODE"));
        }
        let families: Vec<_> = target.addresses.iter().map(|a| Family::of(*a).to_string()).collect();
        return problem(format!("{} has no {} address, and {host} no other", client.words, families.join(" or ")));
    };
    head.client = address;
    head.destination = Some(SocketAddr::new(destination, port));
    let snapshot = &cluster.snapshot;
    let node = match (&request.at, client.home, node_with(snapshot, destination)) {
        (Some(at), ..) if snapshot.nodes.contains_key(at) => at.as_str(),
        (Some(at), ..) => return problem(format!("there is no Node {at}; there are {}", names(snapshot))),
        (None, Some((home, _)), _) => home,
        (None, None, Some(there)) => there,
        (None, None, None) => match snapshot.nodes.keys().next() {
            Some(only) if snapshot.nodes.len() == 1 => only,
            _ => {
                let nodes = names(snapshot);
                return problem(format!("say with --at at which node a packet of {address} comes in: {nodes}"));
            }
        },
    };
    let object = snapshot.nodes.get(node);
    let origin = match client.home {
        Some((home, itself)) if home == node => {
            // The rules know a node's pods by its podCIDRs.
            let known = object.is_some_and(|n| pod_ranges(n).any(|range| range.contains(&address)));
            match itself {
                true => Origin::ThisNode,
                false if known => Origin::Pod,
                false => Origin::Outside,
            }
        }
        _ => Origin::Outside,
    };
    let here = destination.is_loopback() || object.is_some_and(|n| own_addresses(n).any(|a| a == destination));
    let packet = Packet { client: address, origin, destination, protocol: request.protocol, port, here };
    Ok((head, Some(Step { node: node.to_owned(), packet })))
}

impl Client<'_> {
    /// From which address it would ask.
    fn address_for(&self, to: IpAddr) -> Option<IpAddr> {
        let itself = self.home.is_some_and(|(_, itself)| itself);
        match to {
            IpAddr::V4(a) if a.is_loopback() => itself.then_some(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(a) if a.is_loopback() => itself.then_some(Ipv6Addr::LOCALHOST.into()),
            _ => self.addresses.iter().copied().find(|a| Family::of(*a) == Family::of(to)),
        }
    }
}

fn client<'a>(cluster: &'a Cluster, request: &Request) -> Result<Client<'a>, Problem> {
    let (from, snapshot) = (request.from.as_str(), &cluster.snapshot);
    if let Ok(address) = from.parse::<IpAddr>() {
        if address.is_loopback() {
            return problem(format!("{address} is an address of every machine; say which node sends"));
        }
        if let Some((key, pod)) = pod_with(cluster, address) {
            return of_pod(key, pod, &[address]);
        }
        return Ok(match node_with(snapshot, address) {
            Some(name) => Client { words: format!("node {name}"), addresses: vec![address], home: Some((name, true)) },
            None => Client { words: address.to_string(), addresses: vec![address], home: None },
        });
    }
    if let Some((name, node)) = snapshot.nodes.get_key_value(from) {
        let addresses: Vec<_> = addresses(node).collect();
        return match addresses.is_empty() {
            true => problem(format!("node {name} has no address")),
            false => Ok(Client { words: format!("node {name}"), addresses, home: Some((name, true)) }),
        };
    }
    let (namespace, name) = from.split_once('/').unwrap_or((&request.namespace, from));
    match cluster.pods.get_key_value(&Key::new(namespace, name)) {
        Some((key, pod)) => of_pod(key, pod, &pod_addresses(pod)),
        None if from.contains('/') => problem(format!("there is no Pod {name} in namespace {namespace}")),
        None => problem(format!("{from} is no address, no Node, and no Pod in namespace {namespace}")),
    }
}

fn of_pod<'a>(key: &Key, pod: &'a Pod, addresses: &[IpAddr]) -> Result<Client<'a>, Problem> {
    let (name, node) = (path(key), pod.spec.node_name.as_str());
    if addresses.is_empty() {
        return problem(format!("Pod {name} has no address yet"));
    }
    if node.is_empty() {
        return Ok(Client { words: format!("pod {name}"), addresses: addresses.to_vec(), home: None });
    }
    let words = format!("pod {name} on {node}");
    Ok(Client { words, addresses: addresses.to_vec(), home: Some((node, pod.spec.host_network)) })
}

fn target<'a>(cluster: &'a Cluster, request: &Request, host: &str) -> Result<Target<'a>, Problem> {
    let snapshot = &cluster.snapshot;
    if let Ok(address) = host.parse::<IpAddr>() {
        let service = snapshot.services.iter().find(|(_, s)| has_address(s, address)).map(|(k, s)| (k, &**s));
        return Ok(Target { addresses: vec![address], service, words: None });
    }
    if let Some((namespace, name)) = host.split_once('/') {
        return match cluster.pods.get(&Key::new(namespace, name)) {
            Some(pod) => of_host(host, &format!("Pod {host}"), pod_addresses(pod)),
            None => problem(format!("there is no Pod {name} in namespace {namespace}")),
        };
    }
    let mut labels = host.split('.');
    let name = labels.next().unwrap_or(host);
    let namespace = labels.next().unwrap_or(&request.namespace);
    let is_service = labels.next().is_none_or(|svc| svc == "svc");
    if let Some((key, service)) = snapshot.services.get_key_value(&Key::new(namespace, name)).filter(|_| is_service) {
        return Ok(of_service(cluster, host, key, service));
    }
    if let Some(node) = snapshot.nodes.get(host) {
        return of_host(host, "a Node", addresses(node).collect());
    }
    if let Some(pod) = cluster.pods.get(&Key::new(&request.namespace, host)) {
        return of_host(host, &format!("Pod {}/{host}", request.namespace), pod_addresses(pod));
    }
    let elsewhere: Vec<_> =
        snapshot.services.keys().filter(|k| *k.name == *name).map(|k| k.namespace.to_string()).collect();
    let hint = match elsewhere.as_slice() {
        [] => String::new(),
        namespaces => format!("; there is one in {}", list(namespaces)),
    };
    problem(format!("there is no Service {name} in namespace {namespace}{hint}"))
}

fn of_host<'a>(host: &str, what: &str, addresses: Vec<IpAddr>) -> Result<Target<'a>, Problem> {
    if addresses.is_empty() {
        return problem(format!("{host} is {what}, which has no address"));
    }
    let words = Some(format!("{host} is {what}, {}", texts(&addresses)));
    Ok(Target { addresses, service: None, words })
}

fn of_service<'a>(cluster: &Cluster, host: &str, key: &'a Key, service: &'a Service) -> Target<'a> {
    let name = path(key);
    let addresses: Vec<_> = service.addresses().collect();
    let words = if service.spec.type_ == "ExternalName" {
        let other = &service.spec.external_name;
        format!("{host} is Service {name} of type ExternalName: another name for {other}, which no node translates")
    } else if service.headless() {
        let slices = cluster.snapshot.slices.get(key).into_iter().flat_map(|slices| slices.values());
        let ready = slices.flat_map(|s| &s.endpoints).filter(|e| e.conditions.ready.unwrap_or(true));
        let mut endpoints: Vec<String> = ready.flat_map(|e| e.addresses.clone()).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        let endpoints = if endpoints.is_empty() { "there are none".to_owned() } else { list(&endpoints) };
        format!("{host} is the headless Service {name}: its name leads straight to its endpoints ({endpoints})")
    } else if addresses.is_empty() {
        format!("{host} is Service {name}, which has no address yet")
    } else {
        format!("{host} is Service {name}, {}", texts(&addresses))
    };
    let addresses = if service.spec.type_ == "ExternalName" { Vec::new() } else { addresses };
    Target { addresses, service: Some((key, service)), words: Some(words) }
}

/// The port that is asked for: by number, by the name that the Service gives it, or its only one.
fn port_of(request: &Request, target: &Target<'_>, port: Option<&str>) -> Result<u16, Problem> {
    if let Some(number) = port.and_then(|p| p.parse::<u16>().ok()).filter(|n| *n > 0) {
        return Ok(number);
    }
    let Some((key, service)) = target.service else {
        return match port {
            Some(port) => problem(format!("{port} is no port; write a number from 1 to 65535")),
            None => problem(format!("{} needs a port, as in {0}:80", request.to)),
        };
    };
    let of_protocol = || service.spec.ports.iter().filter(|p| Protocol::parse(&p.protocol) == Some(request.protocol));
    let chosen = match port {
        Some(name) => of_protocol().find(|p| p.name == name),
        None => of_protocol().next().filter(|_| of_protocol().count() == 1),
    };
    match chosen.and_then(|p| u16::try_from(p.port).ok()) {
        Some(number) => Ok(number),
        None => {
            let said = port.map(|p| format!("Service {} has no {} port {p}", path(key), request.protocol));
            let said = said.unwrap_or_else(|| format!("say which port of Service {} is asked for", path(key)));
            problem(format!("{said}; it has {}", ports(service)))
        }
    }
}

/// `80/TCP (http) and 53/UDP (dns)`.
pub(super) fn ports(service: &Service) -> String {
    let port = |p: &model::types::ServicePort| {
        let protocol = if p.protocol.is_empty() { "TCP" } else { &p.protocol };
        let name = if p.name.is_empty() { String::new() } else { format!(" ({})", p.name) };
        format!("{}/{protocol}{name}", p.port)
    };
    match service.spec.ports.as_slice() {
        [] => "none".to_owned(),
        all => list(&all.iter().map(port).collect::<Vec<_>>()),
    }
}

/// Host and port of `host`, `host:port`, `[address]`, `[address]:port` or an address.
fn split(to: &str) -> Result<(&str, Option<&str>), Problem> {
    if let Some((host, rest)) = to.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => problem(format!("{to} is no address and port; write it as [{host}]:80")),
        };
    }
    if to.parse::<IpAddr>().is_ok() {
        return Ok((to, None));
    }
    if to.starts_with('[') {
        return problem(format!("{to} is no address and port; write it as [fd00::1]:80"));
    }
    Ok(to.split_once(':').map_or((to, None), |(host, port)| (host, Some(port))))
}

/// Every address that the Node says it has; first those of the machine itself.
pub(super) fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> + '_ {
    let others = node.status.addresses.iter().filter(|a| a.type_ != "InternalIP");
    own_addresses(node).chain(others.filter_map(|a| a.address.parse().ok()))
}

/// The addresses of the machine: its InternalIPs. An ExternalIP may be somebody's who translates.
pub(super) fn own_addresses(node: &Node) -> impl Iterator<Item = IpAddr> + '_ {
    node.status.addresses.iter().filter(|a| a.type_ == "InternalIP").filter_map(|a| a.address.parse().ok())
}

fn pod_ranges(node: &Node) -> impl Iterator<Item = IpNet> + '_ {
    let all = node.spec.pod_cidrs.iter().chain(std::iter::once(&node.spec.pod_cidr));
    all.filter_map(|range| range.parse().ok())
}

pub(super) fn pod_addresses(pod: &Pod) -> Vec<IpAddr> {
    let all = pod.status.pod_ips.iter().map(|ip| ip.ip.as_str()).chain(std::iter::once(pod.status.pod_ip.as_str()));
    let mut addresses: Vec<IpAddr> = all.filter_map(|ip| ip.parse().ok()).collect();
    // The first is in both.
    if let Some(at) = addresses.iter().skip(1).position(|a| Some(a) == addresses.first()) {
        addresses.remove(at + 1);
    }
    addresses
}

/// The Pod that has an address of its own, and this one.
pub(super) fn pod_with(cluster: &Cluster, address: IpAddr) -> Option<(&Key, &Pod)> {
    let running = |pod: &Pod| !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
    cluster.pods.iter().find(|(_, p)| !p.spec.host_network && running(p) && pod_addresses(p).contains(&address))
}

/// The Node that says it has this address.
pub(super) fn node_with(snapshot: &Snapshot, address: IpAddr) -> Option<&str> {
    snapshot.nodes.iter().find(|(_, node)| addresses(node).any(|a| a == address)).map(|(name, _)| name.as_str())
}

fn has_address(service: &Service, address: IpAddr) -> bool {
    let external = service.spec.external_ips.iter().map(String::as_str);
    let balanced = service.status.load_balancer.ingress.iter().map(|i| i.ip.as_str());
    service.addresses().any(|a| a == address) || external.chain(balanced).any(|a| a.parse() == Ok(address))
}

fn names(snapshot: &Snapshot) -> String {
    if snapshot.nodes.is_empty() {
        "none".to_owned()
    } else {
        list(&snapshot.nodes.keys().cloned().collect::<Vec<_>>())
    }
}

fn texts(addresses: &[IpAddr]) -> String {
    list(&addresses.iter().map(ToString::to_string).collect::<Vec<_>>())
}
