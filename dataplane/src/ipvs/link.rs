//! The interface that carries the addresses of Services, and which addresses a machine has, by rtnetlink.
//!
//! IPVS takes what comes in for the machine itself, so the machine must have the addresses. They are on an interface of the
//! type `dummy`, which leads nowhere, as other proxies for IPVS have it and as people who look at a node expect. No connection
//! to elsewhere takes one of them as its source: those of IPv4 have the scope `host`, those of IPv6 are deprecated.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_ROUTE;
use nix::libc;

use crate::nftables::expr::family_number;
use crate::nftables::netlink::batch::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use crate::nftables::netlink::socket::{Request, Socket};
use crate::nftables::netlink::{NetlinkError, Writer, attribute};
use crate::plan::Family;

/// What the interface is called.
pub const NAME: &str = "portolan-ipvs";

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
// IFLA_*
const LINK_NAME: u16 = 3;
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;
const DUMMY: &str = "dummy";
// IFF_*
const UP: u32 = 0x1;
const NO_ARP: u32 = 0x80;
// IFA_*
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const CACHE_INFO: u16 = 6;
/// `IFA_F_NODAD`: an address of IPv6 counts at once.
const NO_DETECTION: u8 = 0x02;
/// `RT_SCOPE_UNIVERSE`, `RT_SCOPE_HOST`.
const UNIVERSE: u8 = 0;
const HOST: u8 = 254;
/// The bytes of `struct ifinfomsg` behind its first four, and where the index stands in them.
const LINK_REST: usize = 12;
/// Where the prefix length, the flags and the scope stand in a message about an address that is being written.
const LENGTH_AT: usize = 17;

/// Interfaces of the network namespace in which this was opened.
pub struct Links(Socket);

/// An interface by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub up: bool,
}

impl Links {
    /// # Errors
    /// When the kernel has no routing socket.
    pub fn open() -> io::Result<Self> {
        Socket::open_to(NETLINK_ROUTE).map(Self)
    }

    /// The interface of this name.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn find(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut found = None;
        let request = Request { kind: RTM_GETLINK, flags: NLM_F_ACK, family: 0, what: "looking for an interface" };
        let outcome = self.0.exchange(
            request,
            |w| {
                w.bytes.extend_from_slice(&[0; LINK_REST]);
                w.text(LINK_NAME, name);
            },
            |link| found = read_link(link),
        );
        match outcome {
            Ok(_) => Ok(found),
            Err(error) if error.refusal() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The interface of this name, made if there is none, and up.
    ///
    /// # Errors
    /// When the kernel refuses: with `EOPNOTSUPP`, because it has no interfaces of the type `dummy`.
    pub fn ensure(&self, name: &str) -> Result<Link, NetlinkError> {
        let what = format!("adding the interface {name}");
        let request =
            Request { kind: RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, family: 0, what: &what };
        match self.0.exchange(request, |w| new_link(w, name), |_| {}) {
            Err(error) if error.refusal() == Some(libc::EEXIST) => {}
            Err(NetlinkError::Refused { what, source, detail })
                if detail.is_empty() && source.raw_os_error() == Some(libc::EOPNOTSUPP) =>
            {
                let detail = "the kernel has no interfaces of the type dummy: its module is not there".to_owned();
                return Err(NetlinkError::Refused { what, detail, source });
            }
            outcome => {
                outcome?;
            }
        }
        let link = self.find(name)?.ok_or(NetlinkError::NoAnswer)?;
        if !link.up {
            let what = format!("setting the interface {name} up");
            let request = Request { kind: RTM_NEWLINK, flags: NLM_F_ACK, family: 0, what: &what };
            self.0.exchange(request, |w| w.bytes.extend_from_slice(&link_rest(link.index, UP, UP)), |_| {})?;
        }
        Ok(Link { up: true, ..link })
    }

    /// Takes the interface away, with its addresses. `false`: there was none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self, name: &str) -> Result<bool, NetlinkError> {
        let Some(link) = self.find(name)? else { return Ok(false) };
        let what = format!("removing the interface {name}");
        let request = Request { kind: RTM_DELLINK, flags: NLM_F_ACK, family: 0, what: &what };
        let body = |w: &mut Writer| w.bytes.extend_from_slice(&link_rest(link.index, 0, 0));
        match self.0.exchange(request, body, |_| {}) {
            Err(error) if error.refusal() == Some(libc::ENODEV) => Ok(false),
            outcome => outcome.map(|_| true),
        }
    }

    /// Every address that an interface has, with the interface's number. IPv6 addresses of a link alone are left out.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn addresses(&self) -> Result<BTreeSet<(u32, IpAddr)>, NetlinkError> {
        let mut found = BTreeSet::new();
        let what = "listing addresses";
        let request = Request { kind: RTM_GETADDR, flags: NLM_F_DUMP, family: 0, what };
        // The rest of `struct ifaddrmsg`, of which nothing is asked for.
        self.0.exchange(
            request,
            |w| w.bytes.extend_from_slice(&[0; 4]),
            |address| found.extend(read_address(address)),
        )?;
        Ok(found)
    }

    /// Gives the interface an address. `false`: it had it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add(&self, link: Link, address: IpAddr) -> Result<bool, NetlinkError> {
        let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
        self.change(RTM_NEWADDR, flags, link, address, &format!("adding the address {address}"), libc::EEXIST)
    }

    /// Takes an address from the interface. `false`: it had it not.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take(&self, link: Link, address: IpAddr) -> Result<bool, NetlinkError> {
        self.change(
            RTM_DELADDR,
            NLM_F_ACK,
            link,
            address,
            &format!("removing the address {address}"),
            libc::EADDRNOTAVAIL,
        )
    }

    /// `false` when the kernel says `already`.
    fn change(
        &self,
        kind: u16,
        flags: u16,
        link: Link,
        address: IpAddr,
        what: &str,
        already: i32,
    ) -> Result<bool, NetlinkError> {
        let request = Request { kind, flags, family: family_number(Family::of(address)), what };
        match self.0.exchange(request, |w| put_address(w, link.index, address), |_| {}) {
            Ok(_) => Ok(true),
            Err(error) if error.refusal() == Some(already) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What follows the first four bytes of `struct ifinfomsg`: the index, the flags, and which of them count.
fn link_rest(index: u32, flags: u32, change: u32) -> [u8; LINK_REST] {
    let mut rest = [0; LINK_REST];
    for (part, number) in rest.chunks_mut(4).zip([index, flags, change]) {
        part.copy_from_slice(&number.to_ne_bytes());
    }
    rest
}

fn new_link(w: &mut Writer, name: &str) {
    w.bytes.extend_from_slice(&link_rest(0, UP | NO_ARP, UP | NO_ARP));
    w.text(LINK_NAME, name);
    w.nest(LINK_INFO, |w| w.text(INFO_KIND, DUMMY));
}

/// The rest of a `struct ifaddrmsg`, and its attributes.
fn put_address(w: &mut Writer, index: u32, address: IpAddr) {
    let head = match address {
        IpAddr::V4(_) => [32, 0, HOST],
        IpAddr::V6(_) => [128, NO_DETECTION, UNIVERSE],
    };
    if let Some(bytes) = w.bytes.get_mut(LENGTH_AT..LENGTH_AT + head.len()) {
        bytes.copy_from_slice(&head);
    }
    w.bytes.extend_from_slice(&index.to_ne_bytes());
    match address {
        IpAddr::V4(address) => {
            w.bytes(LOCAL, &address.octets());
            w.bytes(ADDRESS, &address.octets());
        }
        IpAddr::V6(address) => {
            w.bytes(LOCAL, &address.octets());
            w.bytes(ADDRESS, &address.octets());
            // `struct ifa_cacheinfo`: preferred for no time, valid for ever, and two stamps that the kernel makes.
            let mut times = [0; 16];
            times[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
            w.bytes(CACHE_INFO, &times);
        }
    }
}

/// Reads what follows the first four bytes of `struct ifinfomsg`.
fn read_link(link: &[u8]) -> Option<Link> {
    let index = link.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b))?;
    let flags = link.get(4..8)?.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b))?;
    Some(Link { index, up: flags & UP != 0 })
}

/// Reads what follows the first four bytes of `struct ifaddrmsg`.
fn read_address(message: &[u8]) -> Option<(u32, IpAddr)> {
    let (index, attributes) = message.split_first_chunk::<4>()?;
    // Of two ends of a line, ours is the local one.
    let bytes = attribute(attributes, LOCAL).or_else(|| attribute(attributes, ADDRESS))?;
    let address = match bytes.len() {
        4 => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
        _ => {
            let address = Ipv6Addr::from(*bytes.first_chunk::<16>()?);
            if address.is_unicast_link_local() {
                return None;
            }
            address.into()
        }
    };
    Some((u32::from_ne_bytes(*index), address))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::nftables::netlink::tests::hex;

    /// With a message's first 20 bytes, which are zero.
    fn written(body: impl FnOnce(&mut Writer)) -> Writer {
        let mut w = Writer { bytes: vec![0; 20] };
        body(&mut w);
        w
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn bytes() {
        let text = |w: Writer| hex(&w.bytes[16..]);
        expect![[r#"
            00000000 00000000 81000000 81000000
            12000300 706f7274 6f6c616e 2d697076
            73000000 10001280 0a000100 64756d6d
            79000000
        "#]]
        .assert_eq(&text(written(|w| new_link(w, NAME))));
        expect![[r#"
            002000fe 07000000 08000200 0a600001
            08000100 0a600001
        "#]]
        .assert_eq(&text(written(|w| put_address(w, 7, "10.96.0.1".parse().unwrap()))));
        expect![[r#"
            00800200 07000000 14000200 fd000000
            00000000 00000000 00000001 14000100
            fd000000 00000000 00000000 00000001
            14000600 00000000 ffffffff 00000000
            00000000
        "#]]
        .assert_eq(&text(written(|w| put_address(w, 7, "fd00::1".parse().unwrap()))));
    }

    #[test]
    fn what_is_written_can_be_read() {
        for address in ["10.96.0.1", "fd00::1"] {
            let address = address.parse().unwrap();
            let w = written(|w| put_address(w, 7, address));
            assert_eq!(read_address(&w.bytes[20..]), Some((7, address)));
        }
        assert_eq!(read_address(&written(|w| put_address(w, 7, "fe80::1".parse().unwrap())).bytes[20..]), None);
        let w = written(|w| w.bytes.extend_from_slice(&link_rest(7, UP | NO_ARP, 0)));
        assert_eq!(read_link(&w.bytes[20..]), Some(Link { index: 7, up: true }));
        for length in 20..32 {
            assert_eq!(read_link(&w.bytes[20..length]).is_some(), length >= 28);
        }
    }
}
