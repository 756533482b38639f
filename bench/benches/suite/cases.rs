//! The cases, in the order in which they run.

mod access;
mod agent;
mod apply;
mod creates;
mod dataplanes;
mod dns;
mod fanout;
mod greedy;
mod idle;
mod kernel;
mod l4;
mod l7;
mod light;
mod limits;
mod lists;
mod names;
mod nodes;
mod probes;
mod programming;
mod scaling;
mod start;
mod watchers;

use std::time::Duration;

use crate::case::{Case, Outcome, Size};

pub const ALL: &[Case] = &[
    case(
        "limits",
        "what the machine can do at all: fdatasync, connections over loopback, copies of memory",
        limits::run,
    ),
    case("light", "the first whole: writes beside the disk, a Pod's status to the kernel, memory", light::run),
    case("creates", "durable writes beside etcd and PostgreSQL, with 64 and 1,000 clients", creates::run),
    case("fanout", "one change seen by 1,000 watchers, beside etcd's", fanout::run),
    case("kernel", "a Pod's status to a node's kernel, 10,000 Services × 10 endpoints, 100 changes/s", kernel::run),
    case("nodes", "thousands of nodes that watch a large state while it changes", nodes::run).within(30),
    case("scaling", "the cost of one change over the number of nodes and over the size of the state", scaling::run)
        .within(30),
    case("start", "a server's start with a big cluster on disk", start::run),
    case("idle", "a cluster of three nodes in which nothing happens", idle::run),
    case("lists", "long lists as JSON, as a Table, with gzip", lists::run),
    case("watchers", "1,000 watchers of one resource: lag, processor time, memory", watchers::run),
    case("apply", "kubectl apply of 1,000 manifests", apply::run),
    case("greedy", "one greedy client beside nodes and others", greedy::run),
    case("access", "what a permission costs beside 10,000 bindings", access::run),
    case("agent", "an agent beside very many endpoints: start, memory, events to the kernel", agent::run),
    case(
        "programming",
        "nftables beside a rule set of kube-proxy's shape: full loads, changes, connections",
        programming::run,
    )
    .within(40),
    case("dataplanes", "nftables and both variants of iptables: full loads, changes, connections", dataplanes::run),
    case("dns", "the DNS server beside NSD and CoreDNS", dns::run),
    case("names", "a Pod's write to the DNS of three nodes", names::run),
    case("probes", "what 2,000 probes a second cost", probes::run),
    case("l4", "connections through an edge node's kernel, beside HAProxy", l4::run),
    case("l7", "HTTP requests through an edge node's proxy, beside nginx and HAProxy", l7::run),
];

/// A case of every size. One that does not end in twenty minutes hangs.
const fn case(name: &'static str, about: &'static str, run: fn(&mut Outcome)) -> Case {
    Case { name, about, from: Size::Usual, limit: Duration::from_secs(20 * 60), run }
}

impl Case {
    /// The same with another limit, in minutes.
    const fn within(self, minutes: u64) -> Case {
        Case { limit: Duration::from_secs(60 * minutes), ..self }
    }
}

/// What a case has other processes of this program for: the case's name, and its own words.
pub fn part(words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match &words[..] {
        ["names"] => names::look(),
        ["dns", services] => dns::serve(services),
        ["l7", words @ ..] => l7::play(words),
        _ => panic!("no case has a part {words:?}"),
    }
}
