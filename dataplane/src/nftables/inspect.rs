//! What the kernel of this machine would do with a packet: the rules of the layout ([`super::walk`]) over the elements
//! that the kernel has, asked for one by one.
//!
//! It shares nothing with who programs: it has sockets of its own, changes nothing, and may be used on another thread.
//! Elements change while they are read; a walk between whose beginning and end the rule set has changed is begun anew,
//! a few times.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use super::layout::{Chain, Owner, chains};
use super::netlink::NetlinkError;
use super::netlink::routes::Routes;
use super::netlink::socket::Socket;
use super::read::{self, Value};
use super::set::Set;
use super::verify;
use super::walk::{Found, Tables, WalkError, Walker, Way};
use crate::plan::Family;
use crate::route::Packet;

/// How often a packet's way is looked up when the rule set does not rest; the last one counts then.
const ATTEMPTS: usize = 4;
/// The way of a packet. An error says that the table is not one that this program has made, or could not be read.
pub type Outcome = Result<Way, WalkError<NetlinkError>>;

/// The tables of the network namespace in which this was opened.
pub struct Inspector {
    socket: Socket,
    routes: Routes,
    /// Those of the layout, per family.
    chains: [HashMap<Cow<'static, str>, Chain>; 2],
}

impl Inspector {
    /// # Errors
    /// When the kernel has no netfilter or routing netlink.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::open()?,
            routes: Routes::open()?,
            chains: Family::ALL
                .map(|family| chains(Owner::Agent, family).into_iter().map(|c| (c.name.clone(), c)).collect()),
        })
    }

    /// What the kernel's tables have that is not of the layout, or lack of it, e.g. `ip: the rules of chain outside`.
    /// `None`: they are what [`Self::ways`] takes them for.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn difference(&self) -> Result<Option<String>, NetlinkError> {
        for family in Family::ALL {
            if let Some(what) = verify::difference(&self.socket, family)? {
                return Ok(Some(format!("{}: {what}", super::element::family_name(family))));
            }
        }
        Ok(None)
    }

    /// What the kernel does with each of these packets, looked up as it is asked for. Whether a destination is
    /// [here](Packet::here) is asked of the kernel too.
    ///
    /// Takes some microseconds for each endpoint that a packet may go to.
    pub fn ways<'a>(
        &'a self,
        packets: impl IntoIterator<Item = &'a Packet> + 'a,
    ) -> impl Iterator<Item = Outcome> + 'a {
        let mut walker = Walker::new(self);
        let mut here: HashMap<IpAddr, bool> = HashMap::new();
        let mut generation = self.generation();
        packets.into_iter().map(move |packet| {
            let local = || self.routes.is_local(packet.destination).unwrap_or(false);
            let packet = Packet { here: *here.entry(packet.destination).or_insert_with(local), ..*packet };
            let mut way = walker.walk(&packet);
            for _ in 1..ATTEMPTS {
                let now = self.generation();
                if now.is_some() && now == generation {
                    break;
                }
                generation = now;
                walker.forget();
                way = walker.walk(&packet);
            }
            way
        })
    }

    fn generation(&self) -> Option<u32> {
        read::generation(&self.socket).ok()
    }
}

impl Tables for Inspector {
    type Error = NetlinkError;

    fn chain(&self, family: Family, name: &str) -> Option<Cow<'_, Chain>> {
        let known = self.chains[family as usize].get(name).map(Cow::Borrowed);
        let made = || verify::made(family, name.strip_prefix("draw-").unwrap_or(name));
        known.or_else(|| made().into_iter().find(|chain| chain.name == name).map(Cow::Owned))
    }

    fn look_up(&self, family: Family, set: Set, keys: &[Vec<u8>]) -> Result<Vec<Option<Found>>, NetlinkError> {
        read::get(&self.socket, family, set, keys, |entry| match entry.value {
            Value::None => Found::Member,
            Value::Data(bytes) => Found::Data(bytes.to_vec()),
            Value::Goto(chain) => Found::Chain(chain.to_owned()),
        })
    }
}
