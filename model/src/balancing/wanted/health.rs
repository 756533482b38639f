//! Health checks: two switches, of which each listener knows one, and fields that the kinds of checks share.

use super::super::annotations::{Reader, integer};
use crate::types::{CheckKind, HealthCheckSpec, ListenerProtocol};

/// `health-check-connect-port` of the backend's own port.
const OWN_PORT: &str = "-520";

/// `health-check-domain` of the backend's address.
const OWN_ADDRESS: &str = "$_ip";

const DOMAIN_MOST: usize = 80;

pub(super) struct Health {
    nlb: bool,
    flag: Option<bool>,
    switch: Option<bool>,
    kind: CheckKind,
    connect_timeout: u32,
    timeout: u32,
    /// As an HTTP check would have it; `kind` and `timeout_seconds` are filled in per listener.
    fields: HealthCheckSpec,
}

pub(super) fn read(reader: &Reader<'_>, nlb: bool) -> Health {
    let number = |suffix, bounds, default| reader.number(suffix, bounds).unwrap_or(default);
    Health {
        nlb,
        flag: reader.switch("health-check-flag"),
        switch: reader.switch("health-check-switch"),
        kind: reader
            .choice("health-check-type", &[("tcp", CheckKind::Tcp), ("http", CheckKind::Http)])
            .unwrap_or_default(),
        connect_timeout: number("health-check-connect-timeout", 1..=300, 5),
        timeout: number("health-check-timeout", 1..=300, 5),
        fields: HealthCheckSpec {
            port: port(reader),
            interval_seconds: number("health-check-interval", 1..=50, 2),
            healthy_threshold: number("healthy-threshold", 2..=10, 3),
            unhealthy_threshold: number("unhealthy-threshold", 2..=10, 3),
            path: path(reader),
            host: host(reader),
            method: reader
                .choice("health-check-method", &[("head", "HEAD"), ("get", "GET")])
                .unwrap_or("HEAD")
                .to_owned(),
            codes: codes(reader),
            ..HealthCheckSpec::default()
        },
    }
}

impl Health {
    /// The check of a listener's backends; a range of ports is always checked.
    pub(super) fn of(&self, protocol: ListenerProtocol, range: bool) -> Option<HealthCheckSpec> {
        let http = protocol.is_http();
        let on = match (http, self.nlb) {
            (true, false) => self.flag == Some(true),
            (_, true) => self.flag != Some(false),
            (false, false) => self.switch != Some(false),
        };
        if !on && !range {
            return None;
        }
        let kind = match protocol {
            ListenerProtocol::Http | ListenerProtocol::Https => CheckKind::Http,
            ListenerProtocol::Udp => CheckKind::Udp,
            ListenerProtocol::Tcp | ListenerProtocol::TcpSsl => self.kind,
        };
        let timeout_seconds = if http { self.timeout.max(self.fields.interval_seconds) } else { self.connect_timeout };
        let fields = HealthCheckSpec { kind, timeout_seconds, ..self.fields.clone() };
        Some(if kind == CheckKind::Http { fields } else { without_http(fields) })
    }
}

fn without_http(fields: HealthCheckSpec) -> HealthCheckSpec {
    HealthCheckSpec { path: String::new(), host: None, method: String::new(), codes: Vec::new(), ..fields }
}

fn port(reader: &Reader<'_>) -> Option<u16> {
    let text = reader.text("health-check-connect-port").filter(|text| *text != OWN_PORT)?;
    let port = integer(text).and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
    if port.is_none() {
        let message = format!("{text:?} is no port from 1 to 65535, and not {OWN_PORT} for the backend's own");
        reader.refuse_setting("health-check-connect-port", message);
    }
    port
}

fn path(reader: &Reader<'_>) -> String {
    let path = reader.text("health-check-uri").unwrap_or("/");
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("{path:?} is no path: it begins with a slash and has no blanks");
        reader.refuse_setting("health-check-uri", message);
    }
    path.to_owned()
}

fn host(reader: &Reader<'_>) -> Option<String> {
    let host = reader.text("health-check-domain").filter(|text| *text != OWN_ADDRESS)?;
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.len() > DOMAIN_MOST || !host.bytes().all(letter) {
        let message = format!("{host:?} is no domain of at most {DOMAIN_MOST} characters, and not {OWN_ADDRESS}");
        reader.refuse_setting("health-check-domain", message);
    }
    Some(host.to_owned())
}

/// The first digits.
fn codes(reader: &Reader<'_>) -> Vec<u8> {
    const WORDS: [(&str, u8); 4] = [("http_2xx", 2), ("http_3xx", 3), ("http_4xx", 4), ("http_5xx", 5)];
    let mut codes = reader.entries("health-check-httpcode", |part| {
        let found = WORDS.iter().find(|(word, _)| *word == part);
        found.map(|(_, digit)| *digit).ok_or_else(|| "use http_2xx, http_3xx, http_4xx or http_5xx".to_owned())
    });
    codes.sort_unstable();
    codes.dedup();
    if codes.is_empty() { vec![2] } else { codes }
}
