//! Who has an instance's addresses: this edge answers for them on the network, and no kernel does.
//!
//! The addresses are on no interface. Were they, a kernel would go on answering for them when its edge has died, or was
//! replaced while it stood still; here answers come from this process, each after a look at the clock, so a killed one
//! answers nothing and one that was stopped nothing late. Packets to the addresses need no owner either: they are
//! translated before routing asks where they belong.
//!
//! [`Announcer`] decides, without sockets and clock: each address has a [`machine`], what is heard is read by [`packet`].
//! `socket` sends and receives.

pub mod machine;
pub mod packet;
pub mod socket;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::lease::fence::{Boot, Standing};
use machine::{Machine, Send};
use packet::{Heard, Mac, Packet};

/// By what right an address is held: an instance's, since the controller has given it to this edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub instance: Arc<str>,
    /// Each new owner of the instance has the next number.
    pub term: u64,
}

/// Who the server says has the instances, read after the Lease was taken: by name, the term and whether it is this edge's.
pub type Known = BTreeMap<String, (u64, bool)>;

/// The addresses of one edge.
#[derive(Debug)]
pub struct Announcer {
    mac: Mac,
    addresses: BTreeMap<IpAddr, Entry>,
    /// `None`: not read since then.
    known: Option<Arc<Known>>,
    conflicts: u64,
}

#[derive(Debug)]
struct Entry {
    held: Held,
    /// Whether it was there when [`Announcer::known`] was read.
    old: bool,
    machine: Machine,
}

/// Whether the server would agree.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    Yes,
    /// Nobody has asked since there may have been another owner.
    Unknown,
    No,
}

impl Announcer {
    /// For an edge whose interface has this address.
    pub fn new(mac: Mac) -> Self {
        Self { mac, addresses: BTreeMap::new(), known: None, conflicts: 0 }
    }

    /// These are the addresses from now on.
    pub fn set(&mut self, held: &BTreeMap<IpAddr, Held>) {
        self.addresses.retain(|address, entry| held.get(address) == Some(&entry.held));
        for (address, held) in held {
            self.addresses.entry(*address).or_insert_with(|| Entry {
                held: held.clone(),
                old: false,
                machine: Machine::default(),
            });
        }
    }

    /// What the server says was read anew, or is to be: then nothing that was held before counts.
    pub fn learn(&mut self, known: Option<Arc<Known>>) {
        for entry in self.addresses.values_mut() {
            entry.old = true;
        }
        self.known = known;
    }

    /// What is to be sent at `now`.
    pub fn step(&mut self, now: Boot, standing: Standing, mut chance: impl FnMut() -> u64) -> Vec<Packet> {
        let (known, mac) = (self.known.as_deref(), self.mac);
        let due = self.addresses.iter_mut().filter_map(|(address, entry)| {
            let send = entry.step(now, standing, known, chance())?;
            Some(packet_for(mac, *address, send))
        });
        due.collect()
    }

    /// Somebody was heard. What is given is to be sent at once.
    pub fn hear(
        &mut self,
        now: Boot,
        standing: Standing,
        heard: Heard,
        mut chance: impl FnMut() -> u64,
    ) -> Vec<Packet> {
        let (known, mac) = (self.known.as_deref(), self.mac);
        let mut packets = Vec::new();
        if let Some(claim) = heard.claim.filter(|claim| claim.by != mac)
            && let Some(entry) = self.addresses.get_mut(&claim.address)
        {
            self.conflicts += 1;
            entry.machine.contested(now, standing, false, chance());
        }
        if let Some(question) = heard.question.filter(|question| question.from != mac)
            && let Some(entry) = self.addresses.get_mut(&question.address)
        {
            if question.asker.is_none() {
                self.conflicts += 1;
                entry.machine.contested(now, standing, true, chance());
            }
            // The Lease may have ended this very moment.
            let send = entry.step(now, standing, known, chance());
            packets.extend(send.map(|send| packet_for(mac, question.address, send)));
            if entry.machine.answers() {
                packets.push(packet::answer(mac, &question));
            }
        }
        packets
    }

    /// When [`Announcer::step`] has something to do if the standing stays as it is.
    pub fn next_at(&self) -> Option<Boot> {
        self.addresses.values().filter_map(|entry| entry.machine.next_at()).min()
    }

    /// All addresses, and whether this edge answers for them now.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, bool)> {
        self.addresses.iter().map(|(address, entry)| (*address, entry.machine.answers()))
    }

    /// For how many addresses this edge answers without a Lease.
    pub fn kept(&self) -> usize {
        self.addresses.values().filter(|entry| entry.machine.keeps()).count()
    }

    /// How often somebody else has claimed one of the addresses, or probed for it.
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }
}

impl Entry {
    fn step(&mut self, now: Boot, standing: Standing, known: Option<&Known>, chance: u64) -> Option<Send> {
        let standing = match (standing, self.right(known)) {
            (_, Right::No) | (Standing::Leased | Standing::Leaving, Right::Unknown) => Standing::Lapsed,
            (standing, _) => standing,
        };
        self.machine.step(now, standing, chance)
    }

    fn right(&self, known: Option<&Known>) -> Right {
        let Some(known) = known else { return Right::Unknown };
        match known.get(&*self.held.instance) {
            // Terms only grow: a later one is news that came after the reading.
            Some((term, mine)) if self.held.term > *term || (self.held.term == *term && *mine) => Right::Yes,
            Some(_) => Right::No,
            // Of an instance that was made since, or of one that was deleted before.
            None if self.old => Right::No,
            None => Right::Yes,
        }
    }
}

fn packet_for(mac: Mac, address: IpAddr, send: Send) -> Packet {
    match send {
        Send::Announcement => packet::announcement(mac, address),
        Send::Probe => packet::probe(mac, address),
    }
}
