//! The settings that are said once for all listeners of a Service.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::annotations::Reader;
use super::{NLB_CLASS, backend, health, tls};
use crate::syntax::parse_cidr;
use crate::types::{
    AccessControl, AccessType, BackendSource, HttpSettings, Scheduler, Service, StickyKind, StickySession,
};

/// The annotation that `spec.loadBalancerSourceRanges` comes before.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// Kubernetes' default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_SECONDS: u32 = 10_800;

const IDLE_SECONDS: u32 = 15;
const REQUEST_SECONDS: u32 = 60;
pub(super) const ESTABLISHED_SECONDS: u32 = 900;
const DRAIN_SECONDS: u32 = 300;

/// The longest name of a cookie.
const COOKIE_MOST: usize = 200;

pub(super) struct Settings {
    pub(super) scheduler: Option<Scheduler>,
    /// `sessionAffinity: ClientIP`, and for how long.
    pub(super) affinity: Option<u32>,
    pub(super) persistence: Option<u32>,
    pub(super) established: Option<u32>,
    pub(super) drain: Drain,
    pub(super) proxy_protocol: bool,
    pub(super) preserve_client_ip: Option<bool>,
    pub(super) connections_per_second: Option<u32>,
    pub(super) access: Option<AccessControl>,
    pub(super) source_ranges: Vec<IpNet>,
    /// Without `http2` and `redirect_port`.
    pub(super) http: HttpSettings,
    pub(super) http2: bool,
    pub(super) tls: tls::Tls,
    pub(super) health: health::Health,
    /// Without port and protocol.
    pub(super) source: BackendSource,
}

/// What becomes of connections whose backend has gone.
pub(super) struct Drain {
    pub(super) on: Option<bool>,
    pub(super) seconds: Option<u32>,
}

pub(super) fn read(service: &Service, reader: &Reader<'_>) -> Settings {
    let nlb = service.spec.load_balancer_class.as_deref() == Some(NLB_CLASS);
    let words = [("rr", Scheduler::Rr), ("wrr", Scheduler::Wrr), ("wlc", Scheduler::Wlc), ("sch", Scheduler::Sch)];
    let idle = reader.number("idle-timeout", if nlb { 1..=900 } else { 1..=60 });
    let established = reader.number("established-timeout", 10..=900);
    Settings {
        scheduler: reader.choice("scheduler", &words),
        affinity: affinity(service),
        persistence: reader.number("persistence-timeout", 0..=3600),
        established: established.or(idle.filter(|_| nlb)),
        drain: Drain {
            on: reader.switch("connection-drain"),
            seconds: reader.number("connection-drain-timeout", 10..=900),
        },
        proxy_protocol: reader.switch("proxy-protocol") == Some(true),
        preserve_client_ip: reader.switch("preserve-client-ip"),
        connections_per_second: reader.number("cps", 0..=1_000_000).filter(|most| *most > 0),
        access: access(reader),
        source_ranges: source_ranges(service, reader),
        http: HttpSettings {
            idle_seconds: idle.unwrap_or(IDLE_SECONDS),
            request_seconds: reader.number("request-timeout", 1..=180).unwrap_or(REQUEST_SECONDS),
            http2: false,
            forwarded_proto: reader.switch("xforwardedfor-proto") == Some(true),
            forwarded_port: reader.switch("xforwardedfor-slbport") == Some(true),
            forwarded_client_port: reader.switch("xforwardedfor-clientsrcport") == Some(true),
            sticky: sticky(reader),
            redirect_port: None,
        },
        http2: reader.switch("http2-enabled") != Some(false),
        tls: tls::read(service, reader),
        health: health::read(reader, nlb),
        source: backend::read(service, reader),
    }
}

impl Drain {
    /// A request that is under way may always end, within the time that it may take anyhow, unless that is turned off.
    pub(super) fn seconds(&self, http: Option<&HttpSettings>) -> Option<u32> {
        let default = http.map_or(DRAIN_SECONDS, |http| http.request_seconds);
        self.on.unwrap_or(http.is_some()).then(|| self.seconds.unwrap_or(default))
    }
}

fn affinity(service: &Service) -> Option<u32> {
    if service.spec.session_affinity != "ClientIP" {
        return None;
    }
    let config = service.spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|config| config.timeout_seconds).and_then(|seconds| u32::try_from(seconds).ok());
    Some(seconds.unwrap_or(AFFINITY_SECONDS))
}

fn access(reader: &Reader<'_>) -> Option<AccessControl> {
    let type_ = reader.choice("acl-type", &[("white", AccessType::White), ("black", AccessType::Black)]);
    let lists: Vec<String> = reader.list("acl-id").into_iter().map(str::to_owned).collect();
    if reader.switch("acl-status") != Some(true) {
        return None;
    }
    if lists.is_empty() {
        reader.refuse_setting("acl-id", "acl-status is on; name an AccessList, or several with commas between");
    }
    if type_.is_none() {
        reader.refuse_setting("acl-type", "acl-status is on; say white or black");
    }
    Some(AccessControl { type_: type_?, lists })
}

/// The field, or else the annotation; entries may have blanks round them. None: everybody.
fn source_ranges(service: &Service, reader: &Reader<'_>) -> Vec<IpNet> {
    let field = &service.spec.load_balancer_source_ranges;
    let annotation = service.metadata.annotations.get(SOURCE_RANGES);
    let (place, texts): (_, Vec<&str>) = match annotation.filter(|_| field.is_empty()) {
        None => ("spec.loadBalancerSourceRanges", field.iter().map(String::as_str).collect()),
        Some(text) => (SOURCE_RANGES, text.split(',').filter(|part| !part.trim().is_empty()).collect()),
    };
    let mut ranges = Vec::new();
    for text in texts.into_iter().map(str::trim) {
        match parse_cidr(text) {
            Some(cidr) => ranges.push(cidr.network),
            None => reader.refuse(place, format!("{text:?} is not a CIDR, as 192.0.2.0/24")),
        }
    }
    let everybody = |range: &IpNet| range.prefix_len() == 0;
    let all = ranges.iter().any(|r| everybody(r) && matches!(r.addr(), IpAddr::V4(_)))
        && ranges.iter().any(|r| everybody(r) && matches!(r.addr(), IpAddr::V6(_)));
    if all { Vec::new() } else { ranges }
}

fn sticky(reader: &Reader<'_>) -> Option<StickySession> {
    let words = [("insert", StickyKind::Insert), ("server", StickyKind::Server)];
    let kind = reader.choice("sticky-session-type", &words);
    let timeout_seconds = reader.number("cookie-timeout", 1..=86_400).unwrap_or(0);
    let cookie = reader.text("cookie");
    if cookie.is_some_and(|name| name.len() > COOKIE_MOST || !name.bytes().all(is_token)) {
        reader.refuse_setting(
            "cookie",
            format!(
                "a cookie's name has 1 to {COOKIE_MOST} letters, digits and signs, and no blank, comma or semicolon"
            ),
        );
    }
    if reader.switch("sticky-session") != Some(true) {
        return None;
    }
    match kind {
        None => reader.refuse_setting("sticky-session-type", "sticky-session is on; say insert or server"),
        Some(StickyKind::Server) if cookie.is_none() => {
            reader.refuse_setting("cookie", "sticky-session-type is server; name the application's cookie");
        }
        Some(_) => {}
    }
    Some(StickySession { kind: kind?, cookie: cookie.map(str::to_owned), timeout_seconds })
}

/// RFC 9110's token, which RFC 6265 wants of a cookie's name.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
