//! What a Service wants of its load balancer: its annotations and fields, read, checked and with every default filled in.
//!
//! It is read whole or not at all: one wrong value, and nothing of the instance is changed. A default stands where it is
//! used and not where it is stored, so that an annotation that is taken away goes back to it by itself.

mod backend;
mod health;
mod listener;
mod settings;
#[cfg(test)]
mod tests;
mod tls;

use std::net::IpAddr;

use super::annotations::{Problem, Reader};
use super::backends::relayed;
use crate::admission::Family;
use crate::syntax::{dns1123_subdomain, parse_ip};
use crate::types::{AddressType, BackendMode, BackendSource, Listener, Service, TextMap};

/// The class that we are known by. Services of no class are ours, too.
pub const CLASS: &str = "portolan.dev/load-balancer";

/// The class of the cloud's network load balancer; its annotations mean what they mean there.
pub const NLB_CLASS: &str = "alibabacloud.com/nlb";

/// Annotation: a Service where it is not empty is left to another controller.
pub const CLASS_ANNOTATION: &str = "service.beta.kubernetes.io/class";

/// Characters of a name that people call an instance by.
const DISPLAY_NAME_MOST: usize = 80;

/// What a Service wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// An instance that is there already, by name.
    pub instance: Option<String>,
    /// What people call an instance of its own.
    pub display_name: String,
    pub address_type: AddressType,
    pub families: Vec<Family>,
    pub pool: Option<String>,
    /// Those asked for, at most one per family.
    pub addresses: Vec<IpAddr>,
    pub preferred_edge: Option<String>,
    pub labels: TextMap,
    /// Shown in place of the addresses.
    pub hostname: Option<String>,
    /// The instance stays when the Service goes.
    pub preserve: bool,
    /// Whether listeners are made, changed and removed for the ports; otherwise they are somebody else's.
    pub manages_listeners: bool,
    /// In the order of the Service's ports, without those that join others.
    pub listeners: Vec<Listener>,
    /// Ports whose backends join a listener of others.
    pub joins: Vec<Join>,
    /// Weights that stand on the instance stay as they are.
    pub keeps_weights: bool,
    /// Keys of annotations that have no effect, sorted.
    pub ignored: Vec<String>,
}

/// A Service's port that is served through a listener made by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// `group` of the listener.
    pub group: String,
    pub source: BackendSource,
}

/// Whether a Service shall have a load balancer of ours.
pub fn handles(service: &Service) -> bool {
    let class = service.spec.load_balancer_class.as_deref();
    service.spec.type_ == "LoadBalancer"
        && matches!(class, None | Some(CLASS | NLB_CLASS))
        && service.metadata.annotations.get(CLASS_ANNOTATION).is_none_or(String::is_empty)
}

/// Reads what a Service wants.
///
/// # Errors
/// Everything that is wrong, sorted by where it stands; never nothing.
pub fn wanted(service: &Service) -> Result<Wanted, Vec<Problem>> {
    let reader = Reader::new(&service.metadata.annotations);
    let wanted = read(service, &reader);
    let problems = reader.into_problems();
    if problems.is_empty() { Ok(wanted) } else { Err(problems) }
}

/// What counts when a Service leaves its instance. It is read even where other things are wrong: whoever deletes a Service
/// does not mend it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parting {
    /// The instance stays.
    pub preserve: bool,
    /// The Service's listeners are its own, and go.
    pub manages_listeners: bool,
}

/// Reads what a Service says of its leaving.
pub fn parting(service: &Service) -> Parting {
    let reader = Reader::new(&service.metadata.annotations);
    let manages_listeners = reader.text("id").is_none() || reader.text("force-override-listeners") == Some("true");
    Parting { preserve: reader.text("preserve-lb-on-delete").is_some(), manages_listeners }
}

fn read(service: &Service, reader: &Reader<'_>) -> Wanted {
    let instance = reader.text("id").map(str::to_owned);
    let overrides = reader.choice("force-override-listeners", &[("true", true), ("false", false)]) == Some(true);
    let address_type = address_type(reader);
    let addresses = addresses(service, reader);
    let listeners = listener::read(service, reader, instance.is_some());
    let families = families(service, reader, &addresses, &listeners.own);
    let manages_listeners = instance.is_none() || overrides;
    Wanted {
        display_name: display_name(service, reader),
        address_type,
        families,
        pool: reader.text("vswitch-id").map(str::to_owned),
        addresses,
        preferred_edge: reader.text("master-zoneid").map(str::to_owned),
        labels: reader.pairs("additional-resource-tags"),
        hostname: hostname(reader),
        preserve: reader.text("preserve-lb-on-delete").is_some(),
        manages_listeners,
        listeners: if manages_listeners { listeners.own } else { Vec::new() },
        joins: listeners.joins,
        keeps_weights: reader.switch("ignore-weight-update") == Some(true),
        ignored: reader.ignored(),
        instance,
    }
}

impl Wanted {
    /// Whether nodes may send to the endpoints themselves what is meant for the address. Not if the listener does something
    /// that nodes do not, or if what it does is not this Service's to say.
    pub fn short_cut(&self) -> bool {
        let plain = |listener: &Listener| {
            !relayed(listener) && listener.access.is_none() && listener.end_port.is_none() && listener.group.is_none()
        };
        self.manages_listeners && self.joins.is_empty() && self.listeners.iter().all(plain)
    }
}

fn address_type(reader: &Reader<'_>) -> AddressType {
    let words = [("internet", AddressType::Internet), ("intranet", AddressType::Intranet)];
    let both = reader.choice("address-type", &words);
    let v6 = reader.choice("ipv6-address-type", &words);
    let type_ = both.or(v6).unwrap_or_default();
    if v6.is_some_and(|v6| v6 != type_) {
        reader.refuse_setting(
            "ipv6-address-type",
            "it differs from address-type, and an instance faces one side; make a Service for each",
        );
    }
    type_
}

fn addresses(service: &Service, reader: &Reader<'_>) -> Vec<IpAddr> {
    let read = |text: &str| parse_ip(text).ok_or_else(|| "is not an IP address".to_owned());
    let mut addresses = reader.entries("ip", read);
    if addresses.is_empty() {
        let field = service.spec.load_balancer_ip.trim();
        match parse_ip(field) {
            Some(address) => addresses.push(address),
            None if field.is_empty() => {}
            None => reader.refuse("spec.loadBalancerIP", format!("{field:?} is not an IP address")),
        }
    }
    let of = |family: Family| addresses.iter().filter(|address| Family::of(**address) == family).count();
    if of(Family::V4) > 1 || of(Family::V6) > 1 {
        reader.refuse_setting("ip", "an instance has one address of each family");
    }
    addresses
}

/// In the order that the Service names them.
fn families(service: &Service, reader: &Reader<'_>, addresses: &[IpAddr], listeners: &[Listener]) -> Vec<Family> {
    let own: Vec<Family> = service.spec.ip_families.iter().filter_map(|text| Family::parse(text)).collect();
    let first = own.first().copied().unwrap_or(Family::V4);
    let both = if first == Family::V4 { [Family::V4, Family::V6] } else { [Family::V6, Family::V4] };
    let words = [("ipv4", &[Family::V4][..]), ("ipv6", &[Family::V6][..]), ("DualStack", &both[..])];
    let said = reader.choice("ip-version", &words);
    let asked: Vec<Family> = both.into_iter().filter(|f| addresses.iter().any(|a| Family::of(*a) == *f)).collect();
    let required = service.spec.ip_family_policy.as_deref() == Some("RequireDualStack");
    let families = match said {
        Some(said) => said.to_vec(),
        None if required => both.to_vec(),
        None if asked.is_empty() => vec![first],
        None => asked.clone(),
    };
    if let Some(family) = asked.iter().find(|family| !families.contains(family)) {
        reader.refuse_setting(
            "ip-version",
            format!("an {family} address is asked for; use DualStack, or ask for another"),
        );
    }
    let backend = [("ipv4", Family::V4), ("ipv6", Family::V6)];
    let backend = reader.choice("backend-ip-version", &backend);
    for family in &families {
        let other = backend.map_or_else(|| !own.is_empty() && !own.contains(family), |said| said != *family);
        if other && let Some(plain) = listeners.iter().find(|listener| !relayed(listener)) {
            let place = if backend.is_some() { "backend-ip-version" } else { "ip-version" };
            reader.refuse_setting(
                place,
                format!(
                    "the listener at port {} hands on packets, and those that come to an {family} address cannot go to a \
                     backend of the other family; add {family} to spec.ipFamilies, or use HTTP, HTTPS, TCPSSL or PROXY \
                     protocol",
                    plain.port
                ),
            );
        }
    }
    families
}

fn display_name(service: &Service, reader: &Reader<'_>) -> String {
    let Some(name) = reader.text("name") else {
        let uid: String = service.metadata.uid().chars().filter(|c| *c != '-').collect();
        return format!("a{uid}").chars().take(32).collect();
    };
    if name.chars().count() > DISPLAY_NAME_MOST {
        reader.refuse_setting("name", format!("it has more than {DISPLAY_NAME_MOST} characters"));
    }
    name.to_owned()
}

fn hostname(reader: &Reader<'_>) -> Option<String> {
    let name = reader.text("hostname")?;
    let problem = match name.parse::<IpAddr>() {
        Ok(_) => Some("it is an address; use ip for that".to_owned()),
        Err(_) => dns1123_subdomain(name).pop(),
    };
    if let Some(problem) = problem {
        reader.refuse_setting("hostname", format!("{name:?}: {problem}"));
    }
    Some(name.to_owned())
}

/// Whether backends are Pods.
fn is_eni(source: &BackendSource) -> bool {
    source.mode == BackendMode::Eni
}
