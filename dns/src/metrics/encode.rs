//! The blocks added up, as Prometheus reads them.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::block::{BYTES, Block, CODES, Histogram, MICROS, ORIGINS, OfOrigin, TYPES};
use super::{Blocks, Inner};
use crate::respond::Origin;

const MICROS_OF_A_SECOND: f64 = 1e6;
const NANOS_OF_A_SECOND: f64 = 1e9;

/// The blocks of one socket, by the labels that CoreDNS gives them.
struct Socket {
    server: String,
    proto: &'static str,
    family: &'static str,
    blocks: Vec<Arc<Block>>,
}

impl Collector for Blocks {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let (zone, sockets) = self.0.lock().unwrap_or_else(PoisonError::into_inner).sockets();
        let all = All { zone: &zone, sockets: &sockets };
        all.requests(&mut encoder)?;
        all.dnssec_ok(&mut encoder)?;
        all.responses(&mut encoder)?;
        let (seconds, scale) = ("Histogram of the time (in seconds) each request took", NANOS_OF_A_SECOND);
        let micros = MICROS.map(|micros| micros as f64 / MICROS_OF_A_SECOND);
        all.histogram(
            &mut encoder,
            ("coredns_dns_request_duration_seconds", seconds),
            (&micros, scale),
            false,
            |of| &of.nanos,
        )?;
        let bytes = BYTES.map(|bytes| bytes as f64);
        let asked = ("coredns_dns_request_size_bytes", "Size of the query in bytes");
        all.histogram(&mut encoder, asked, (&bytes, 1.0), true, |of| &of.query_bytes)?;
        let said = ("coredns_dns_response_size_bytes", "Size of the returned response in bytes");
        all.histogram(&mut encoder, said, (&bytes, 1.0), true, |of| &of.answer_bytes)
    }
}

impl Inner {
    fn sockets(&self) -> (String, Vec<Socket>) {
        let mut blocks: BTreeMap<(SocketAddr, bool), Vec<Arc<Block>>> = BTreeMap::new();
        for ((address, tcp, _), block) in &self.blocks {
            blocks.entry((*address, *tcp)).or_default().push(block.clone());
        }
        let sockets = blocks.into_iter().map(|((address, tcp), blocks)| Socket {
            server: format!("dns://{address}"),
            proto: if tcp { "tcp" } else { "udp" },
            family: if address.is_ipv4() { "1" } else { "2" },
            blocks,
        });
        (self.zone.clone(), sockets.collect())
    }
}

struct All<'a> {
    zone: &'a str,
    sockets: &'a [Socket],
}

impl<'a> All<'a> {
    /// Every socket with every origin: its zone and the sums of what is asked for.
    fn each(
        &self,
        mut line: impl FnMut(&'a Socket, Origin, &'a str, &dyn Fn(&dyn Fn(&OfOrigin) -> u64) -> u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for socket in self.sockets {
            for (index, origin) in ORIGINS.into_iter().enumerate() {
                let zone = match origin {
                    Origin::Zone => self.zone,
                    Origin::Elsewhere => ".",
                    Origin::Refused => "dropped",
                };
                let sum = |what: &dyn Fn(&OfOrigin) -> u64| {
                    socket.blocks.iter().filter_map(|block| block.of.get(index)).map(what).sum()
                };
                line(socket, origin, zone, &sum)?;
            }
        }
        Ok(())
    }

    fn requests(&self, encoder: &mut DescriptorEncoder) -> Result<(), Error> {
        let help = "Counter of DNS requests made per zone, protocol and family";
        let mut family = encoder.encode_descriptor("coredns_dns_requests", help, None, MetricType::Counter)?;
        self.each(|socket, _, zone, sum| {
            for index in 0..=TYPES.len() {
                let count = sum(&|of| of.types.get(index).map_or(0, |count| count.get()));
                if count == 0 {
                    continue;
                }
                let kind = TYPES.get(index).map_or("other".to_owned(), ToString::to_string);
                let labels = [
                    ("server", socket.server.as_str()),
                    ("zone", zone),
                    ("view", ""),
                    ("proto", socket.proto),
                    ("family", socket.family),
                    ("type", &kind),
                ];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
            Ok(())
        })
    }

    fn dnssec_ok(&self, encoder: &mut DescriptorEncoder) -> Result<(), Error> {
        let help = "Counter of DNS requests with DO bit set per zone";
        let mut family = encoder.encode_descriptor("coredns_dns_do_requests", help, None, MetricType::Counter)?;
        let mut counts: BTreeMap<(&str, String), u64> = BTreeMap::new();
        self.each(|socket, _, zone, sum| {
            *counts.entry((&socket.server, zone.to_owned())).or_default() += sum(&|of| of.dnssec_ok.get());
            Ok(())
        })?;
        for ((server, zone), count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let labels = [("server", server), ("zone", &zone), ("view", "")];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn responses(&self, encoder: &mut DescriptorEncoder) -> Result<(), Error> {
        let help = "Counter of response status codes";
        let mut family = encoder.encode_descriptor("coredns_dns_responses", help, None, MetricType::Counter)?;
        let mut counts: BTreeMap<(&str, String, &str, &str), u64> = BTreeMap::new();
        self.each(|socket, origin, zone, sum| {
            let plugin = match origin {
                Origin::Zone => "kubernetes",
                Origin::Elsewhere => "forward",
                Origin::Refused => "",
            };
            for index in 0..=CODES.len() {
                let code = CODES.get(index).map_or("other", |(_, spelled)| spelled);
                *counts.entry((&socket.server, zone.to_owned(), code, plugin)).or_default() +=
                    sum(&|of| of.codes.get(index).map_or(0, |count| count.get()));
            }
            Ok(())
        })?;
        for ((server, zone, rcode, plugin), count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let labels = [("server", server), ("zone", &zone), ("view", ""), ("rcode", rcode), ("plugin", plugin)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    /// `scale`: how many of what is summed up make one of what is shown. As in CoreDNS, times are not told apart by protocol.
    fn histogram<const N: usize>(
        &self,
        encoder: &mut DescriptorEncoder,
        (name, help): (&str, &str),
        (bounds, scale): (&[f64], f64),
        by_proto: bool,
        what: impl Fn(&OfOrigin) -> &Histogram<N>,
    ) -> Result<(), Error> {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let mut sums: BTreeMap<_, ([u64; N], u64)> = BTreeMap::new();
        self.each(|socket, _, zone, sum| {
            let proto = by_proto.then_some(socket.proto);
            let (buckets, total) = sums.entry((socket.server.as_str(), zone, proto)).or_insert(([0; N], 0));
            for (index, bucket) in buckets.iter_mut().enumerate() {
                *bucket += sum(&|of| what(of).buckets.get(index).map_or(0, |count| count.get()));
            }
            *total += sum(&|of| what(of).sum.get());
            Ok(())
        })?;
        for ((server, zone, proto), (buckets, total)) in sums {
            let count = buckets.iter().sum();
            if count == 0 {
                continue;
            }
            let bounds = bounds.iter().copied().chain([f64::MAX]);
            let buckets: Vec<_> = bounds.zip(buckets).collect();
            let mut labels = vec![("server", server), ("zone", zone), ("view", "")];
            labels.extend(proto.map(|proto| ("proto", proto)));
            let labels = labels.as_slice();
            let mut line = family.encode_family(&labels)?;
            line.encode_histogram::<NoLabelSet>(total as f64 / scale, count, &buckets, None)?;
        }
        Ok(())
    }
}
