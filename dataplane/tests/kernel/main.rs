//! The tables in a real kernel, with real connections, in network namespaces of their own.
//!
//! Nothing outside them is touched. The tests need the right to make namespaces: as an ordinary user each test
//! runs itself again in a user namespace (`unshare --map-root-user`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod balancer;
mod cluster;
mod conntrack;
mod edge;
mod emulated;
mod flow_table;
mod flows;
mod here;
mod inspect;
mod ipset;
mod iptables;
mod ipvs;
mod ipvs_connections;
mod ipvs_netlink;
mod lab;
mod machine;
mod plans;
mod property;
mod read;
mod repair;
mod sctp;
mod shape;
mod spellings;
mod traffic;
