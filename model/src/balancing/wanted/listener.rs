//! A listener for each port of a Service, and the annotations that are said per port.

use super::super::annotations::{Reader, port as read_port};
use super::super::backends::relayed;
use super::settings::{self, ESTABLISHED_SECONDS, Settings};
use super::{Join, is_eni};
use crate::types::{
    BackendSource, HttpSettings, Listener, ListenerProtocol, Protocol, Scheduler, Service, ServicePort,
};

pub(super) struct Listeners {
    pub(super) own: Vec<Listener>,
    pub(super) joins: Vec<Join>,
}

/// `reuses`: the instance is one that is there already.
pub(super) fn read(service: &Service, reader: &Reader<'_>, reuses: bool) -> Listeners {
    let settings = settings::read(service, reader);
    let per_port = PerPort::read(reader, reuses);
    let mut listeners = Listeners { own: Vec::new(), joins: Vec::new() };
    for (index, port) in service.spec.ports.iter().enumerate() {
        let (Ok(number), Some(transport)) = (u16::try_from(port.port), Protocol::parse(&port.protocol)) else {
            continue;
        };
        if transport == Protocol::Sctp {
            let message = "SCTP is not balanced; take the port out, or set another loadBalancerClass";
            reader.refuse(format!("spec.ports[{index}].protocol"), message);
            continue;
        }
        let source = BackendSource { port: number, protocol: transport, ..settings.source.clone() };
        let groups = per_port.groups.iter().filter(|(_, of)| *of == number).map(|(group, _)| *group);
        let joins: Vec<Join> = groups.map(|group| Join { group: group.to_owned(), source: source.clone() }).collect();
        if joins.is_empty() {
            let source = BackendSource { weight: None, ..source };
            listeners.own.push(listener(service, port, number, source, &settings, &per_port, reader));
        } else {
            listeners.joins.extend(joins);
        }
    }
    per_port.check(&listeners.own, reader);
    listeners
}

/// What is said for single ports.
struct PerPort<'a> {
    protocols: Vec<(ListenerProtocol, u16)>,
    redirects: Vec<(u16, u16)>,
    /// First and last port of the range, and the Service's.
    ranges: Vec<(u16, u16, u16)>,
    groups: Vec<(&'a str, u16)>,
}

impl<'a> PerPort<'a> {
    fn read(reader: &Reader<'a>, reuses: bool) -> Self {
        let protocols = reader.entries("protocol-port", |part| {
            let entry =
                part.split_once(':').and_then(|(name, number)| Some((protocol(name.trim())?, read_port(number)?)));
            entry.ok_or_else(|| {
                "is not of the form https:443; protocols are tcp, udp, http, https and tcpssl".to_owned()
            })
        });
        let redirects = reader.entries("forward-port", |part| {
            let entry = part.split_once(':').and_then(|(from, to)| Some((read_port(from)?, read_port(to)?)));
            entry.ok_or_else(|| "is not of the form 80:443".to_owned())
        });
        let ranges = reader.entries("listener-port-range", |part| {
            let entry = part.split_once(':').and_then(|(range, of)| {
                let (first, last) = range.split_once('-')?;
                Some((read_port(first)?, read_port(last)?, read_port(of)?))
            });
            entry.filter(|(first, last, _)| first < last).ok_or_else(|| "is not of the form 1000-2000:80".to_owned())
        });
        let groups = reader.ports("vgroup-port", "GROUP:80");
        if !groups.is_empty() && !reuses {
            reader.refuse_setting(
                "vgroup-port",
                "it joins a listener of an instance that is there; name that one with id",
            );
        }
        Self { protocols, redirects, ranges, groups }
    }

    /// What the listener of a port speaks.
    fn protocol(&self, port: u16, transport: Protocol, reader: &Reader<'_>) -> ListenerProtocol {
        let said = self.protocols.iter().filter(|(_, of)| *of == port).map(|(protocol, _)| *protocol);
        let mut fitting: Vec<ListenerProtocol> = said.filter(|said| said.transport() == transport).collect();
        fitting.sort();
        fitting.dedup();
        match fitting.as_slice() {
            [] if transport == Protocol::Udp => ListenerProtocol::Udp,
            [] => ListenerProtocol::Tcp,
            [one] => *one,
            [first, ..] => {
                reader.refuse_setting("protocol-port", format!("port {port} has more than one protocol"));
                *first
            }
        }
    }

    /// What can only be seen of all listeners together.
    fn check(&self, listeners: &[Listener], reader: &Reader<'_>) {
        let is = |port: u16, protocol| listeners.iter().any(|l| l.port == port && l.protocol == protocol);
        for (from, to) in &self.redirects {
            if !is(*from, ListenerProtocol::Http) {
                let message = format!("port {from} is no HTTP listener; add http:{from} to protocol-port");
                reader.refuse_setting("forward-port", message);
            }
            if !is(*to, ListenerProtocol::Https) {
                let message = format!("port {to} is no HTTPS listener; add https:{to} to protocol-port");
                reader.refuse_setting("forward-port", message);
            }
        }
        for (index, one) in listeners.iter().enumerate() {
            let range = |l: &Listener| l.port..=l.end_port.unwrap_or(l.port);
            let meets = |other: &&Listener| {
                let (one, other) = (range(one), range(other));
                one.start().max(other.start()) <= one.end().min(other.end())
            };
            let same = listeners[..index].iter().filter(|l| l.protocol.transport() == one.protocol.transport());
            if let Some(other) = same.clone().find(meets) {
                let message = format!("the listeners at ports {} and {} overlap", other.port, one.port);
                reader.refuse_setting("listener-port-range", message);
            }
        }
    }
}

fn listener(
    service: &Service,
    port: &ServicePort,
    number: u16,
    source: BackendSource,
    settings: &Settings,
    per_port: &PerPort<'_>,
    reader: &Reader<'_>,
) -> Listener {
    let protocol = per_port.protocol(number, source.protocol, reader);
    if let Some((said, _)) = mismatch(service, port, per_port) {
        let message = format!("port {number} is {}, which {said} does not stand on", source.protocol);
        reader.refuse_setting("protocol-port", message);
    }
    let range = per_port.ranges.iter().find(|(_, _, of)| *of == number);
    if range.is_some() && (!is_eni(&source) || protocol.is_http() || protocol == ListenerProtocol::TcpSsl) {
        let message = "a range of ports is only for TCP and UDP listeners with backend-type eni";
        reader.refuse_setting("listener-port-range", message);
    }
    let http = protocol.is_http().then(|| HttpSettings {
        http2: settings.http2 && protocol == ListenerProtocol::Https,
        redirect_port: per_port.redirects.iter().find(|(from, _)| *from == number).map(|(_, to)| *to),
        ..settings.http.clone()
    });
    let redirects = http.as_ref().is_some_and(|http| http.redirect_port.is_some());
    let l4 = matches!(protocol, ListenerProtocol::Tcp | ListenerProtocol::Udp);
    let tcp = matches!(protocol, ListenerProtocol::Tcp | ListenerProtocol::TcpSsl);
    let local = service.spec.external_traffic_policy.as_deref() == Some("Local");
    let keeps = settings.preserve_client_ip.unwrap_or(local || is_eni(&source));
    let mut listener = Listener {
        port: range.map_or(number, |(first, _, _)| *first),
        end_port: range.map(|(_, last, _)| *last),
        protocol,
        scheduler: scheduler(settings, http.is_some()),
        persistence_seconds: settings.persistence.or(settings.affinity).filter(|_| l4).unwrap_or(0),
        established_seconds: if tcp { settings.established.unwrap_or(ESTABLISHED_SECONDS) } else { 0 },
        drain_seconds: settings.drain.seconds(http.as_ref()),
        proxy_protocol: settings.proxy_protocol && l4,
        connections_per_second: settings.connections_per_second,
        access: settings.access.clone(),
        source_ranges: settings.source_ranges.clone(),
        health_check: settings.health.of(protocol, range.is_some()).filter(|_| !redirects),
        http,
        tls: settings.tls.of(protocol, number, reader),
        backends: vec![source],
        ..Listener::default()
    };
    listener.keep_client_address = keeps && !relayed(&listener);
    listener
}

/// Requests have no address to stick by but the client's.
fn scheduler(settings: &Settings, http: bool) -> Scheduler {
    let sticks = http && settings.affinity.is_some() && settings.http.sticky.is_none();
    settings.scheduler.unwrap_or(if sticks { Scheduler::Sch } else { Scheduler::Rr })
}

/// An entry of `protocol-port` for this port that stands on another transport than any port of this number has.
fn mismatch(service: &Service, port: &ServicePort, per_port: &PerPort<'_>) -> Option<(ListenerProtocol, u16)> {
    let numbers = service.spec.ports.iter().filter(|other| other.port == port.port);
    let transports: Vec<Option<Protocol>> = numbers.map(|other| Protocol::parse(&other.protocol)).collect();
    let of_port = per_port.protocols.iter().filter(|(_, of)| i32::from(*of) == port.port);
    of_port.copied().find(|(said, _)| !transports.contains(&Some(said.transport())))
}

/// In whatever case: the cloud's two kinds of load balancers write them differently.
fn protocol(text: &str) -> Option<ListenerProtocol> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Some(ListenerProtocol::Tcp),
        "udp" => Some(ListenerProtocol::Udp),
        "http" => Some(ListenerProtocol::Http),
        "https" => Some(ListenerProtocol::Https),
        "tcpssl" => Some(ListenerProtocol::TcpSsl),
        _ => None,
    }
}
