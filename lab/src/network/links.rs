//! The handful of rtnetlink requests that the lab needs, with errors that say what was being done.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::netns::Netns;

/// The index of `lo`, always.
pub(super) const LO: u32 = 1;

pub(super) type Mac = [u8; 6];

/// A request to the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("opening a route netlink socket")]
    Open(#[source] io::Error),
    #[error("the kernel has no {kind} interfaces: load the module, as root: modprobe {kind}")]
    NoSuchKind { kind: &'static str },
    #[error("{what}")]
    Request {
        what: String,
        #[source]
        source: io::Error,
    },
}

/// One end of a veth pair.
pub(super) struct End<'a> {
    pub name: &'a str,
    pub index: u32,
    pub mac: Mac,
}

/// The links, addresses and routes of one namespace.
pub(super) struct Links {
    handle: Handle,
}

impl Links {
    pub fn open(netns: &Netns) -> Result<Self, LinkError> {
        Ok(Self { handle: netns.rtnetlink().map_err(LinkError::Open)? })
    }

    pub async fn up(&self, index: u32) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().set(message).execute().await.map_err(failed("bringing an interface up"))
    }

    pub async fn down(&self, index: u32) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).down().build();
        self.handle.link().set(message).execute().await.map_err(failed("taking an interface down"))
    }

    pub async fn bridge(&self, name: &str, index: u32, mac: Mac) -> Result<(), LinkError> {
        let message = LinkBridge::new(name).index(index).address(mac.to_vec()).up().build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(failed(format_args!("making the bridge {name}"))).map_err(or_no_kind("bridge"))
    }

    /// Makes a veth pair: `here` in this namespace, up; `there` in the other, still down (the kernel refuses to bring it
    /// up before it has its peer).
    pub async fn veth(&self, here: End<'_>, there: End<'_>, other: &Netns) -> Result<(), LinkError> {
        let peer = LinkUnspec::new_with_name(there.name)
            .index(there.index)
            .address(there.mac.to_vec())
            .setns_by_fd(other.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new(here.name, there.name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .index(here.index)
            .address(here.mac.to_vec())
            .up()
            .build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(failed(format_args!("making the veth pair {}", here.name))).map_err(or_no_kind("veth"))
    }

    pub async fn enslave(&self, index: u32, bridge: u32) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).controller(bridge).build();
        self.handle.link().set(message).execute().await.map_err(failed("putting an interface on the bridge"))
    }

    pub async fn delete(&self, index: u32) -> Result<(), LinkError> {
        self.handle.link().del(index).execute().await.map_err(failed("deleting an interface"))
    }

    /// Adds an address that is usable at once (no duplicate detection).
    pub async fn address(&self, index: u32, address: IpAddr, len: u8) -> Result<(), LinkError> {
        let mut request = self.handle.address().add(index, address, len);
        if address.is_ipv6() {
            let message = request.message_mut();
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await.map_err(failed(format_args!("adding the address {address}/{len}")))
    }

    /// Adds a route by `via`, which is taken to be on the link, or else to the link itself.
    pub async fn route(&self, to: IpNet, via: Option<IpAddr>, index: u32) -> Result<(), LinkError> {
        let what = failed(format!("adding the route to {to}"));
        let message = match (to, via) {
            (IpNet::V4(to), Some(IpAddr::V4(via))) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(to.addr(), to.prefix_len())
                .gateway(via)
                .onlink()
                .output_interface(index)
                .build(),
            (IpNet::V4(to), _) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(to.addr(), to.prefix_len())
                .scope(RouteScope::Link)
                .output_interface(index)
                .build(),
            (IpNet::V6(to), Some(IpAddr::V6(via))) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(to.addr(), to.prefix_len())
                .gateway(via)
                .onlink()
                .output_interface(index)
                .build(),
            (IpNet::V6(to), _) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(to.addr(), to.prefix_len())
                .output_interface(index)
                .build(),
        };
        self.handle.route().add(message).execute().await.map_err(what)
    }

    /// Adds a permanent neighbour, so that nobody has to ask for its hardware address.
    pub async fn neighbour(&self, index: u32, address: IpAddr, mac: Mac) -> Result<(), LinkError> {
        let request = self.handle.neighbours().add(index, address).link_layer_address(&mac);
        request.execute().await.map_err(failed(format_args!("adding the neighbour {address}")))
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}

fn failed(what: impl fmt::Display) -> impl FnOnce(rtnetlink::Error) -> LinkError {
    let what = what.to_string();
    move |error| {
        let source = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other),
        };
        LinkError::Request { what, source }
    }
}

/// The kernel answers EOPNOTSUPP when it does not know a kind of interface and cannot load its module.
fn or_no_kind(kind: &'static str) -> impl FnOnce(LinkError) -> LinkError {
    move |error| match error {
        LinkError::Request { source, .. } if source.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {
            LinkError::NoSuchKind { kind }
        }
        other => other,
    }
}
