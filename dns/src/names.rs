//! What is answered from: the Services of a snapshot under their names, and their addresses.
//!
//! Services stand under the first two labels of their name as a message has them (`\x03web\x07default`), so that the common
//! question is one look-up of its own bytes. An entry holds the addresses that a Service's own name has and shares
//! Service and slices with the snapshot; what is asked rarely (endpoints by name, SRV) is read from those. Addresses
//! lead back to names in one ordered set: taking an entry out is taking out what it says it has put in.
//!
//! Everything is kept up to date Service by Service. That this gives what loading from nothing would give is a property
//! that the tests hold it to.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::{Arc, RwLock};

use hickory_proto::rr::Name;
use ipnet::IpNet;
use model::Key;
use model::snapshot::Snapshot;
use model::syntax::dns1123_label;

pub(crate) use entry::{Entry, Kind};

/// What a server is told of the zone that it answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// `cluster.local.`, in lower case.
    pub domain: Name,
    /// Seconds that answers may be kept by whoever asked.
    pub ttl: u32,
    pub pods: PodRecords,
    /// The Service under whose addresses this zone is answered: `kube-system/kube-dns`.
    pub service: Key,
}

/// CoreDNS' default. Endpoints change, and a cache knows nothing of that.
pub const DEFAULT_TTL: u32 = 5;

/// The text is not the name of a zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no domain; write it as cluster.local: labels of letters, digits and hyphens, at most 100 characters"
)]
pub struct NoDomain {
    text: String,
}

/// A longer domain leaves too little room for the names of Services and endpoints in the 255 octets of a name.
const MAX_DOMAIN: usize = 100;

impl Zone {
    /// The zone `domain`, with everything else as it is by default.
    ///
    /// # Errors
    /// When `domain` is not one.
    pub fn new(domain: &str) -> Result<Self, NoDomain> {
        let wrong = || NoDomain { text: domain.to_owned() };
        let bare = domain.strip_suffix('.').unwrap_or(domain);
        let bare = bare.to_ascii_lowercase();
        if bare.len() > MAX_DOMAIN || !bare.split('.').all(|label| dns1123_label(label).is_empty()) {
            return Err(wrong());
        }
        let domain = Name::from_str(&format!("{bare}.")).map_err(|_| wrong())?;
        Ok(Self { domain, ttl: DEFAULT_TTL, pods: PodRecords::default(), service: Key::new("kube-system", "kube-dns") })
    }

    /// The name of these labels within the zone; `None` when it would be too long for a name.
    pub(crate) fn name(&self, labels: &[&str]) -> Option<Name> {
        Name::from_labels(labels.iter().map(|label| label.as_bytes())).ok()?.append_domain(&self.domain).ok()
    }
}

/// Whether `1-2-3-4.NAMESPACE.pod.ZONE` has an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodRecords {
    Disabled,
    /// Whatever the name says is the address; nobody looks whether there is such a Pod.
    #[default]
    Insecure,
}

/// The names of one server, shared by all that answer. Whoever writes holds the lock for microseconds.
pub type SharedNames = Arc<RwLock<Names>>;

/// The addresses behind a Service's own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses<'a> {
    pub v4: &'a [Ipv4Addr],
    pub v6: &'a [Ipv6Addr],
}

/// An index of a snapshot by name and by address.
#[derive(Debug, PartialEq)]
pub struct Names {
    zone: Zone,
    /// `svc.ZONE.` as a message has it.
    suffix: Box<[u8]>,
    synced: bool,
    /// The serial of the zone: it follows the snapshot's revision.
    serial: u32,
    /// By the first two labels of their names.
    services: HashMap<Box<[u8]>, Entry>,
    /// What addresses are called. A Service's own name stands before its endpoints'.
    pointers: BTreeSet<(IpAddr, Pointer)>,
    namespaces: BTreeSet<Box<str>>,
    service_cidrs: Vec<IpNet>,
}

/// What an address is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pointer {
    Service(Key),
    /// An endpoint that has a hostname: the Service and that.
    Endpoint(Key, Box<str>),
}

impl Names {
    /// Knows nothing, and says so: everything in the zone is SERVFAIL until [`Names::load`].
    pub fn new(zone: Zone) -> Self {
        let mut suffix = b"\x03svc".to_vec();
        for label in zone.domain.iter() {
            push_label(&mut suffix, label);
        }
        suffix.push(0);
        Self {
            zone,
            suffix: suffix.into(),
            synced: false,
            serial: 0,
            services: HashMap::new(),
            pointers: BTreeSet::new(),
            namespaces: BTreeSet::new(),
            service_cidrs: Vec::new(),
        }
    }

    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The ranges of the ClusterIPs, whose names are answered for.
    pub fn service_cidrs(&self) -> &[IpNet] {
        &self.service_cidrs
    }

    pub fn synced(&self) -> bool {
        self.synced
    }

    /// Takes everything from the snapshot.
    pub fn load(&mut self, snapshot: &Snapshot) {
        self.services = HashMap::with_capacity(snapshot.services.len());
        self.pointers.clear();
        for key in snapshot.services.keys() {
            self.take(snapshot, key);
        }
        self.serial = serial(snapshot.revision);
        self.update_cluster(snapshot);
        self.synced = true;
    }

    /// Takes what the snapshot has for these Services.
    pub fn update<'a>(&mut self, snapshot: &Snapshot, services: impl IntoIterator<Item = &'a Key>) {
        for key in services {
            self.take(snapshot, key);
        }
        self.serial = serial(snapshot.revision);
    }

    /// Takes the snapshot's namespaces and ranges: all of them, so to be called when there is another one.
    pub fn update_cluster(&mut self, snapshot: &Snapshot) {
        self.serial = serial(snapshot.revision);
        self.namespaces.clone_from(&snapshot.namespaces);
        self.service_cidrs.clone_from(&snapshot.service_cidrs);
    }

    fn take(&mut self, snapshot: &Snapshot, key: &Key) {
        let place = place(&key.namespace, &key.name);
        if let Some(former) = self.services.remove(&*place) {
            for pointer in former.pointers(key) {
                self.pointers.remove(&pointer);
            }
        }
        if let Some(service) = snapshot.services.get(key) {
            let entry = Entry::new(service, snapshot.slices.get(key));
            self.pointers.extend(entry.pointers(key));
            self.services.insert(place.into(), entry);
        }
    }

    /// The addresses of the Service whose own name this is: `SERVICE.NAMESPACE.svc.ZONE.`, as it stands in a message, in lower
    /// case. `None` for every other name, and for a Service that has none.
    pub fn addresses(&self, name: &[u8]) -> Option<Addresses<'_>> {
        let entry = self.services.get(name.strip_suffix(&*self.suffix)?)?;
        let has_any = !(entry.v4.is_empty() && entry.v6.is_empty());
        (self.synced && has_any).then_some(Addresses { v4: &entry.v4, v6: &entry.v6 })
    }

    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Entry> {
        self.services.get(&*place(namespace, name))
    }

    pub(crate) fn namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// What an address is called, in order.
    pub(crate) fn pointers(&self, address: IpAddr) -> impl Iterator<Item = &Pointer> {
        // The smallest pointer there can be.
        let first = Pointer::Service(Key::new("", ""));
        let from_there = self.pointers.range((address, first)..);
        from_there.take_while(move |(at, _)| *at == address).map(|(_, pointer)| pointer)
    }

    /// The range that ClusterIPs come from and this address or range lies in.
    pub(crate) fn service_cidr(&self, of: IpNet) -> Option<IpNet> {
        self.service_cidrs.iter().copied().find(|range| range.contains(&of))
    }
}

/// Serials are 32 bits and compared in a circle (RFC 1982); so is the end of a revision.
fn serial(revision: model::Revision) -> u32 {
    (revision & u64::from(u32::MAX)) as u32
}

/// `\x03web\x07default`
fn place(namespace: &str, name: &str) -> Vec<u8> {
    let mut place = Vec::with_capacity(name.len() + namespace.len() + 2);
    push_label(&mut place, name.as_bytes());
    push_label(&mut place, namespace.as_bytes());
    place
}

fn push_label(to: &mut Vec<u8>, label: &[u8]) {
    // A label has at most 63 octets; what is longer is no name of an object, and stands under one that nobody can ask for.
    to.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
    to.extend_from_slice(label);
}
