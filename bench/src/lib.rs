//! Load for a server that somebody names, hollow nodes for it, and the words in which benchmarks say what they measured.
//!
//! `portolan bench load` and `portolan bench hollow` are [`load`] and [`hollow`]: they run against a server that was named, on
//! whatever machine it is, and are bounded in time and number. What they print is for people; what they measured is there as
//! JSON, too.
//!
//! The suite (`make bench`, `benches/suite`) starts servers, nodes and peers by itself, on this machine's loopback and in
//! namespaces of its own, and puts them side by side. Each of its cases ends in [`figures::Figure`]s. [`report`] makes one
//! page of those of a run and says how their ratios differ from the committed ones.

pub mod figures;
pub mod histogram;
pub mod hollow;
pub mod load;
pub mod record;
pub mod report;
pub mod stop;
