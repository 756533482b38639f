//! One Service as DNS sees it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::rr::Name;
use model::Key;
use model::types::{EndpointPort, EndpointSlice, Service};

use super::Pointer;

/// One Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub kind: Kind,
    /// What its own name has: ClusterIPs, or those of the ready endpoints. Sorted, no address twice.
    pub v4: Box<[Ipv4Addr]>,
    pub v6: Box<[Ipv6Addr]>,
    pub service: Arc<Service>,
    slices: Box<[Arc<EndpointSlice>]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ClusterIp,
    /// Exists in DNS while it has a ready endpoint (specification, section 2.4).
    Headless,
    /// Leads to another name; `None` if what stands there is none, or an address.
    External(Option<Name>),
}

/// An endpoint that is ready, at one of its addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint<'a> {
    pub address: IpAddr,
    hostname: Option<&'a str>,
    pub ports: &'a [EndpointPort],
}

impl Entry {
    pub fn new(service: &Arc<Service>, slices: Option<&BTreeMap<String, Arc<EndpointSlice>>>) -> Self {
        let kind = if service.spec.type_ == "ExternalName" {
            Kind::External(external_name(&service.spec.external_name))
        } else if service.headless() {
            Kind::Headless
        } else {
            Kind::ClusterIp
        };
        let slices = slices.into_iter().flat_map(BTreeMap::values).cloned().collect();
        let mut entry = Self { kind, v4: Box::default(), v6: Box::default(), service: Arc::clone(service), slices };
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let mut add = |address: IpAddr| match address {
            IpAddr::V4(address) => v4.push(address),
            IpAddr::V6(address) => v6.push(address),
        };
        match entry.kind {
            Kind::ClusterIp => service.addresses().for_each(&mut add),
            Kind::Headless => entry.endpoints().for_each(|endpoint| add(endpoint.address)),
            Kind::External(_) => {}
        }
        (entry.v4, entry.v6) = (set(v4), set(v6));
        entry
    }

    /// The endpoints that are ready. (All are in the slices of a Service with `publishNotReadyAddresses`.)
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint<'_>> {
        self.slices.iter().flat_map(|slice| {
            let ready = slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready != Some(false));
            ready.flat_map(move |endpoint| {
                let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
                let addresses = endpoint.addresses.iter().filter_map(|address| address.parse().ok());
                addresses.map(move |address| Endpoint { address, hostname, ports: &slice.ports })
            })
        })
    }

    /// What the Service's addresses are called. Endpoints have a name back only where they have a hostname: another label
    /// would say no more than the address does.
    pub fn pointers<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = (IpAddr, Pointer)> + 'a {
        let own = self.kind == Kind::ClusterIp;
        let own = self.service.addresses().filter(move |_| own).map(|at| (at, Pointer::Service(key.clone())));
        let external = matches!(self.kind, Kind::External(_));
        let endpoints = self.endpoints().filter(move |_| !external).filter_map(|endpoint| {
            let hostname = endpoint.hostname?.to_ascii_lowercase();
            Some((endpoint.address, Pointer::Endpoint(key.clone(), hostname.into())))
        });
        own.chain(endpoints)
    }
}

impl Endpoint<'_> {
    /// The label before the Service's name: the hostname, else the address with hyphens, as CoreDNS makes it.
    pub fn label(&self) -> String {
        match (self.hostname, self.address) {
            (Some(hostname), _) => hostname.to_ascii_lowercase(),
            (None, IpAddr::V4(address)) => address.to_string().replace('.', "-"),
            (None, IpAddr::V6(address)) => {
                let mut label = address.to_string().replace(':', "-");
                if label.ends_with('-') {
                    label.push('0');
                }
                label
            }
        }
    }
}

/// The name that an `externalName` is. An address in its place has no CNAME, since it would lead nowhere.
fn external_name(text: &str) -> Option<Name> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    if bare.is_empty() || bare.parse::<IpAddr>().is_ok() {
        return None;
    }
    let mut name = Name::from_ascii(bare).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn set<T: Ord>(mut addresses: Vec<T>) -> Box<[T]> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into()
}
