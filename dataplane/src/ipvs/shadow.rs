//! From plan to plan: which virtual servers and elements of sets are different.
//!
//! A shadow remembers what every Service wants, so that a change of one costs what that one wants, however many there
//! are. A place that several claim has what the first of them wants; an element that several want is there until the
//! last has gone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::Key;

use super::claims::{self, Claim, Ground, Order, Wish};
use super::sets::{Element, Entry, Set};
use super::state::{Place, Server};
use crate::Scheduler;
use crate::plan::{Plan, ServicePlan};
use crate::program::{Dirty, Refused};

/// What was wanted last.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    ground: Option<Ground>,
    node: BTreeSet<Element>,
    services: BTreeMap<Key, Known>,
    places: BTreeMap<Place, BTreeMap<Order, Claim>>,
    /// How many want it.
    elements: BTreeMap<Element, u32>,
}

#[derive(Clone, Debug)]
struct Known {
    plan: Arc<ServicePlan>,
    wish: Wish,
    refusal: Option<&'static str>,
}

/// What is different from before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The virtual server that each of these places is to have, if any.
    pub servers: BTreeMap<Place, Option<Server>>,
    pub added: BTreeSet<Element>,
    pub removed: BTreeSet<Element>,
    /// Services that claim a place whose claims have changed: it may be theirs now, or not any more.
    pub claimants: BTreeSet<Key>,
    /// Every Service was looked at.
    pub everything: bool,
}

/// What was there of all that is touched.
#[derive(Default)]
struct Before {
    servers: BTreeMap<Place, Option<Server>>,
    elements: BTreeMap<Element, bool>,
    claimants: BTreeSet<Key>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.added.is_empty() && self.removed.is_empty()
    }
}

impl Shadow {
    /// Goes over to `plan` on a machine with these addresses of its own; of Services only those are looked at that
    /// `dirty` names, unless something changed that concerns all.
    pub fn update(&mut self, plan: &Plan, machine: &BTreeSet<IpAddr>, default: Scheduler, dirty: &Dirty) -> Changes {
        let ground = Ground::new(&plan.node, machine, default);
        let anew = self.ground.as_ref() != Some(&ground);
        let mut before = Before::default();
        let keys: Cow<'_, BTreeSet<Key>> = match dirty {
            Dirty::Services(keys) if !anew => Cow::Borrowed(keys),
            _ => Cow::Owned(self.services.keys().chain(plan.services.keys()).cloned().collect()),
        };
        for key in keys.iter() {
            let service = plan.services.get(key);
            let known = self.services.get(key);
            if !anew && known.map(|k| &k.plan) == service {
                continue;
            }
            if let Some(known) = self.services.remove(key) {
                self.take_back(key, known.wish, &mut before);
            }
            if let Some(service) = service {
                let refusal = claims::refusal(service);
                let wish = if refusal.is_none() { claims::wish(&ground, service) } else { Wish::default() };
                self.put(key, &wish, &mut before);
                self.services.insert(key.clone(), Known { plan: Arc::clone(service), wish, refusal });
            }
        }
        let node = claims::of_node(&plan.node);
        for element in self.node.difference(&node).copied().collect::<Vec<_>>() {
            self.uncount(element, &mut before);
        }
        for element in node.difference(&self.node).copied().collect::<Vec<_>>() {
            self.count(element, &mut before);
        }
        self.node = node;
        self.ground = Some(ground);
        Changes { everything: anew, ..self.changes(before) }
    }

    /// The virtual server at the place.
    pub fn server(&self, place: &Place) -> Option<&Server> {
        self.claim(place)?.server.as_ref()
    }

    /// Every virtual server.
    pub fn servers(&self) -> impl Iterator<Item = (Place, &Server)> {
        let server =
            |claims: &BTreeMap<Order, Claim>| claims.first_key_value().map(|(_, claim)| claim.server.is_some());
        let places = self.places.iter().filter(move |(_, claims)| server(claims) == Some(true));
        places.filter_map(|(place, _)| Some((*place, self.server(place)?)))
    }

    pub fn contains(&self, element: &Element) -> bool {
        self.elements.contains_key(element)
    }

    /// Everything that is in a set.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.elements.keys()
    }

    /// The addresses that are to be the machine's own.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.elements.keys().filter(|e| e.set == Set::Addresses).filter_map(|element| match element.entry {
            Entry::Address(address) => Some(address),
            _ => None,
        })
    }

    /// Services that are left out, and why; sorted.
    pub fn refused(&self) -> Vec<Refused> {
        let refused = |(key, known): (&Key, &Known)| {
            known.refusal.map(|text| Refused { service: key.clone(), error: text.to_owned() })
        };
        self.services.iter().filter_map(refused).collect()
    }

    /// Whose the place is.
    pub fn owner(&self, place: &Place) -> Option<&Order> {
        self.places.get(place)?.keys().next()
    }

    fn claim(&self, place: &Place) -> Option<&Claim> {
        self.places.get(place)?.values().next()
    }

    fn put(&mut self, key: &Key, wish: &Wish, before: &mut Before) {
        for element in &wish.elements {
            self.count(*element, before);
        }
        for ((place, node_port), claim) in &wish.claims {
            let order = Order { node_port: *node_port, service: key.clone() };
            self.change(place, before, |claims| {
                claims.insert(order, claim.clone());
            });
        }
    }

    fn take_back(&mut self, key: &Key, wish: Wish, before: &mut Before) {
        for element in wish.elements {
            self.uncount(element, before);
        }
        for (place, node_port) in wish.claims.into_keys() {
            let order = Order { node_port, service: key.clone() };
            self.change(&place, before, |claims| {
                claims.remove(&order);
            });
        }
    }

    /// Changes who claims a place, and with it what its elements are.
    fn change(&mut self, place: &Place, before: &mut Before, change: impl FnOnce(&mut BTreeMap<Order, Claim>)) {
        before.servers.entry(*place).or_insert_with(|| self.server(place).cloned());
        let elements = |shadow: &Self| shadow.claim(place).map(|claim| claim.elements.clone()).unwrap_or_default();
        let was = elements(self);
        let claims = self.places.entry(*place).or_default();
        before.claimants.extend(claims.keys().map(|order| order.service.clone()));
        change(claims);
        if claims.is_empty() {
            self.places.remove(place);
        }
        let is = elements(self);
        if was != is {
            is.into_iter().for_each(|element| self.count(element, before));
            was.into_iter().for_each(|element| self.uncount(element, before));
        }
    }

    fn count(&mut self, element: Element, before: &mut Before) {
        let count = self.elements.entry(element).or_insert(0);
        before.elements.entry(element).or_insert(*count > 0);
        *count += 1;
    }

    fn uncount(&mut self, element: Element, before: &mut Before) {
        let Some(count) = self.elements.get_mut(&element) else { return };
        before.elements.entry(element).or_insert(true);
        *count -= 1;
        if *count == 0 {
            self.elements.remove(&element);
        }
    }

    fn changes(&self, before: Before) -> Changes {
        let mut changes = Changes { claimants: before.claimants, ..Changes::default() };
        for (place, was) in before.servers {
            let is = self.server(&place);
            if was.as_ref() != is {
                changes.servers.insert(place, is.cloned());
            }
        }
        for (element, was) in before.elements {
            match (was, self.contains(&element)) {
                (false, true) => changes.added.insert(element),
                (true, false) => changes.removed.insert(element),
                _ => false,
            };
        }
        changes
    }
}

#[cfg(test)]
mod tests;
