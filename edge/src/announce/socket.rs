//! The packet sockets of an interface: one for ARP, one for what neighbour discovery sends.
//!
//! They are datagram sockets of the packet family: the kernel makes the link header from the interface's own address, and
//! takes it off. A filter in the kernel passes solicitations and advertisements alone, so the traffic that is
//! balanced wakes nobody.
//!
//! Solicitations go to a group per address. The interface is told to take every group, and the groups are joined beside
//! that, for switches that send a group only to where it was asked for (MLD snooping); where a group cannot be joined, most
//! networks deliver all the same.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;
use tracing::debug;

use super::packet::{Heard, Mac, Packet, read_arp, read_ndp, solicited_node};

/// Of EtherTypes.
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// More than an ARP packet or any sensible message of neighbour discovery.
const LONGEST: usize = 1500;

/// Both sockets, of one interface.
#[derive(Debug)]
pub struct Link {
    arp: AsyncFd<OwnedFd>,
    ndp: AsyncFd<OwnedFd>,
    /// Joins groups, and does nothing else.
    groups: Option<Socket>,
    joined: BTreeSet<Ipv6Addr>,
    index: u32,
    mac: Mac,
}

impl Link {
    /// Opens both in the calling thread's network namespace, inside a runtime.
    ///
    /// # Errors
    /// Without the right to (`CAP_NET_RAW`), or when the interface is no Ethernet.
    pub fn open(index: u32) -> io::Result<Self> {
        let (arp, mac) = open(index, ARP, None)?;
        let (ndp, _) = open(index, IPV6, Some(&neighbour_discovery()))?;
        // A machine without IPv6 has none to answer for.
        let groups = Socket::new(Domain::IPV6, Type::DGRAM, None).ok();
        let (arp, ndp) = (watched(arp.into())?, watched(ndp.into())?);
        Ok(Self { arp, ndp, groups, joined: BTreeSet::new(), index, mac })
    }

    /// The interface's own address.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Waits for the next thing that somebody says about an address. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When the interface has gone, or is down.
    pub async fn hear(&self) -> io::Result<Heard> {
        let mut buffer = [0; LONGEST];
        loop {
            tokio::select! {
                guard = self.arp.readable() => {
                    if let Ok(received) = guard?.try_io(|socket| receive(socket.get_ref(), &mut buffer)) {
                        let (length, _) = received?;
                        if let Some(heard) = buffer.get(..length).and_then(read_arp) {
                            return Ok(heard);
                        }
                    }
                }
                guard = self.ndp.readable() => {
                    if let Ok(received) = guard?.try_io(|socket| receive(socket.get_ref(), &mut buffer)) {
                        let (length, from) = received?;
                        if let Some(heard) = buffer.get(..length).and_then(|bytes| read_ndp(bytes, from)) {
                            return Ok(heard);
                        }
                    }
                }
            }
        }
    }

    /// Sends at once, or not at all: what would have to wait would come late.
    ///
    /// # Errors
    /// When the interface has gone or is down, or its queue is full.
    pub fn send(&self, packet: &Packet) -> io::Result<()> {
        let (socket, ethertype) = if packet.v6 { (&self.ndp, IPV6) } else { (&self.arp, ARP) };
        let to = link_address(self.index, ethertype, Some(packet.to))?;
        // SAFETY: the address is `to.len()` octets long, and both it and the packet live across the call.
        let sent = unsafe {
            libc::sendto(
                socket.get_ref().as_raw_fd(),
                packet.bytes.as_ptr().cast(),
                packet.bytes.len(),
                libc::MSG_DONTWAIT,
                to.as_ptr().cast(),
                to.len(),
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Listens to the groups of these addresses, and to no others any more.
    pub fn listen_for(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        let Some(socket) = &self.groups else { return };
        let wanted: BTreeSet<Ipv6Addr> = addresses
            .filter_map(|address| if let IpAddr::V6(v6) = address { Some(solicited_node(v6)) } else { None })
            .collect();
        for group in self.joined.difference(&wanted) {
            let _ = socket.leave_multicast_v6(group, self.index);
        }
        for group in wanted.difference(&self.joined) {
            if let Err(error) = socket.join_multicast_v6(group, self.index) {
                debug!(%group, %error, "a group cannot be joined; solicitations come without, as a rule");
            }
        }
        self.joined = wanted;
    }
}

fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and the same, until it is dropped, and nothing here exchanges it.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

/// A socket that gets nothing before its filter is there, and then all that comes to the interface of this kind.
fn open(index: u32, ethertype: u16, filter: Option<&[SockFilter]>) -> io::Result<(Socket, Mac)> {
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
    socket.set_nonblocking(true)?;
    if let Some(filter) = filter {
        socket.attach_filter(filter)?;
    }
    let request = libc::packet_mreq {
        mr_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        mr_type: libc::PACKET_MR_ALLMULTI as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(&socket, libc::PACKET_ADD_MEMBERSHIP, &request)?;
    // What this machine itself says is no news. Kernels before 4.20 do not know the option; then its own words are heard
    // and passed over.
    let _ = set_option(&socket, PACKET_IGNORE_OUTGOING, &1_i32);
    socket.bind(&link_address(index, ethertype, None)?)?;
    let own = read_address(&socket.local_addr()?);
    let own = own.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "the interface is no Ethernet"))?;
    Ok((socket, own))
}

/// `linux/if_packet.h`.
const PACKET_IGNORE_OUTGOING: i32 = 23;

fn set_option<T>(socket: &Socket, option: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: `value` is of the length that is told, and lives across the call.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, std::ptr::from_ref(value).cast(), length)
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Passes ICMPv6 of the two types, from the network header on.
fn neighbour_discovery() -> [SockFilter; 7] {
    let load = |at| SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16, 0, 0, at);
    let equal = |to, yes, no| SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, yes, no, to);
    let give = |octets| SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, octets);
    [load(6), equal(58, 0, 3), load(40), equal(135, 2, 0), equal(136, 1, 0), give(0), give(u32::MAX)]
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, Mac)> {
    let mut storage = SockAddrStorage::zeroed();
    let mut length = storage.size_of();
    // SAFETY: buffer and storage are as long as is told, and live across the call.
    let received = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
            std::ptr::from_mut(&mut storage).cast(),
            &raw mut length,
        )
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written an address of this length.
    let from = read_address(&unsafe { SockAddr::new(storage, length) });
    Ok((received, from.unwrap_or(Mac([0; 6]))))
}

/// An address of the packet family; `mac` is where to.
fn link_address(index: u32, ethertype: u16, mac: Option<Mac>) -> io::Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is an address, and fits where every address does.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    if let Some(mac) = mac {
        address.sll_halen = 6;
        address.sll_addr[..6].copy_from_slice(&mac.0);
    }
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: it was filled in above, and is of this length.
    Ok(unsafe { SockAddr::new(storage, length) })
}

/// The Ethernet address in an address of the packet family.
fn read_address(address: &SockAddr) -> Option<Mac> {
    if i32::from(address.family()) != libc::AF_PACKET {
        return None;
    }
    // SAFETY: the family says what it is, and the storage is large enough for every family.
    let link = unsafe { &*address.as_ptr().cast::<libc::sockaddr_ll>() };
    let ethernet = link.sll_hatype == libc::ARPHRD_ETHER && link.sll_halen == 6;
    link.sll_addr.first_chunk().filter(|_| ethernet).map(|mac| Mac(*mac))
}
