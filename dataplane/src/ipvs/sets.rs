//! The sets that the rules ask, and what can stand in them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::state::Place;
use crate::plan::Family;

/// A set, of which each family has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Set {
    /// Everything on the dummy interface: what is asked here and has no server is refused.
    Addresses,
    /// ClusterIPs: what is asked at one of them and at no frontend is refused, and who asks from one is hidden.
    ClusterIps,
    /// ClusterIPs of Services that belong to another proxy.
    OtherProxies,
    /// Where somebody answers: the virtual servers, and where the node itself does.
    Servers,
    /// Frontends that are refused.
    Refused,
    /// Frontends that are answered by silence.
    Dropped,
    /// Frontends that lead elsewhere for clients on this node, which rules in `nat` see to.
    Inside,
    /// Frontends that not everybody may ask.
    Guarded,
    /// Who may ask these.
    Allowed,
    /// Frontends whose clients from outside this node are hidden from endpoints of others.
    Masqueraded,
    /// Endpoints of this node: an answer of theirs passes here by itself.
    Local,
    /// The same with themselves as clients.
    Hairpin,
    /// Clients that are hidden when they ask a ClusterIP.
    Strangers,
    /// Every virtual server that was made here, those among them that only wait for the end of their connections. No rule
    /// asks it: it says which of a machine's virtual servers are whose.
    Owned,
}

/// The kernel's type of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `hash:ip`
    Address,
    /// `hash:net`
    Net,
    /// `hash:ip,port`
    Port,
    /// `hash:ip,port,ip`
    PortAddress,
    /// `hash:ip,port,net`
    PortNet,
}

/// An element of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    Address(IpAddr),
    /// Never of length 0, which the kernel does not take: [`halves`].
    Net(IpNet),
    Port(Place),
    PortAddress(Place, IpAddr),
    /// As [`Entry::Net`].
    PortNet(Place, IpNet),
}

/// An element and the set that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    pub set: Set,
    pub entry: Entry,
}

impl Set {
    pub const ALL: [Self; 14] = [
        Self::Addresses,
        Self::ClusterIps,
        Self::OtherProxies,
        Self::Servers,
        Self::Refused,
        Self::Dropped,
        Self::Inside,
        Self::Guarded,
        Self::Allowed,
        Self::Masqueraded,
        Self::Local,
        Self::Hairpin,
        Self::Strangers,
        Self::Owned,
    ];

    /// Its name: sets of both families share one space of names of at most 31 characters.
    pub fn name(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Addresses, Family::V4) => "PORTOLAN-4-ADDRESSES",
            (Self::Addresses, Family::V6) => "PORTOLAN-6-ADDRESSES",
            (Self::ClusterIps, Family::V4) => "PORTOLAN-4-CLUSTER-IPS",
            (Self::ClusterIps, Family::V6) => "PORTOLAN-6-CLUSTER-IPS",
            (Self::OtherProxies, Family::V4) => "PORTOLAN-4-OTHER-PROXIES",
            (Self::OtherProxies, Family::V6) => "PORTOLAN-6-OTHER-PROXIES",
            (Self::Servers, Family::V4) => "PORTOLAN-4-SERVERS",
            (Self::Servers, Family::V6) => "PORTOLAN-6-SERVERS",
            (Self::Refused, Family::V4) => "PORTOLAN-4-REFUSED",
            (Self::Refused, Family::V6) => "PORTOLAN-6-REFUSED",
            (Self::Dropped, Family::V4) => "PORTOLAN-4-DROPPED",
            (Self::Dropped, Family::V6) => "PORTOLAN-6-DROPPED",
            (Self::Inside, Family::V4) => "PORTOLAN-4-INSIDE",
            (Self::Inside, Family::V6) => "PORTOLAN-6-INSIDE",
            (Self::Guarded, Family::V4) => "PORTOLAN-4-GUARDED",
            (Self::Guarded, Family::V6) => "PORTOLAN-6-GUARDED",
            (Self::Allowed, Family::V4) => "PORTOLAN-4-ALLOWED",
            (Self::Allowed, Family::V6) => "PORTOLAN-6-ALLOWED",
            (Self::Masqueraded, Family::V4) => "PORTOLAN-4-MASQUERADED",
            (Self::Masqueraded, Family::V6) => "PORTOLAN-6-MASQUERADED",
            (Self::Local, Family::V4) => "PORTOLAN-4-LOCAL",
            (Self::Local, Family::V6) => "PORTOLAN-6-LOCAL",
            (Self::Hairpin, Family::V4) => "PORTOLAN-4-HAIRPIN",
            (Self::Hairpin, Family::V6) => "PORTOLAN-6-HAIRPIN",
            (Self::Strangers, Family::V4) => "PORTOLAN-4-STRANGERS",
            (Self::Strangers, Family::V6) => "PORTOLAN-6-STRANGERS",
            (Self::Owned, Family::V4) => "PORTOLAN-4-OWNED",
            (Self::Owned, Family::V6) => "PORTOLAN-6-OWNED",
        }
    }

    /// The set and the family of a name.
    pub fn named(name: &str) -> Option<(Self, Family)> {
        let all = Self::ALL.into_iter().flat_map(|set| Family::ALL.map(|family| (set, family)));
        all.into_iter().find(|(set, family)| set.name(*family) == name)
    }

    pub fn kind(self) -> Kind {
        match self {
            Self::Addresses | Self::ClusterIps | Self::OtherProxies => Kind::Address,
            Self::Servers | Self::Refused | Self::Dropped | Self::Inside | Self::Guarded => Kind::Port,
            Self::Masqueraded | Self::Local | Self::Owned => Kind::Port,
            Self::Allowed => Kind::PortNet,
            Self::Hairpin => Kind::PortAddress,
            Self::Strangers => Kind::Net,
        }
    }
}

impl Kind {
    /// As `ipset list` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "hash:ip",
            Self::Net => "hash:net",
            Self::Port => "hash:ip,port",
            Self::PortAddress => "hash:ip,port,ip",
            Self::PortNet => "hash:ip,port,net",
        }
    }
}

impl Entry {
    pub fn family(&self) -> Family {
        match self {
            Self::Address(address) => Family::of(*address),
            Self::Net(range) => Family::of(range.addr()),
            Self::Port(place) | Self::PortAddress(place, _) | Self::PortNet(place, _) => place.family(),
        }
    }
}

/// The range as sets take it: a range of everything is two of half of it.
pub fn halves(range: IpNet) -> Vec<IpNet> {
    if range.prefix_len() > 0 {
        return vec![range];
    }
    range.subnets(1).map_or_else(|_| vec![range], Iterator::collect)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_short_enough() {
        let names: BTreeSet<_> = Set::ALL.into_iter().flat_map(|set| Family::ALL.map(|f| set.name(f))).collect();
        assert_eq!(names.len(), Set::ALL.len() * 2);
        assert!(names.iter().all(|name| name.len() <= 31 && name.starts_with("PORTOLAN-")));
    }

    #[test]
    fn no_range_has_length_0() {
        let text =
            |range: &str| halves(range.parse().unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(text("0.0.0.0/0"), "0.0.0.0/1 128.0.0.0/1");
        assert_eq!(text("::/0"), "::/1 8000::/1");
        assert_eq!(text("10.0.0.0/8"), "10.0.0.0/8");
    }
}
