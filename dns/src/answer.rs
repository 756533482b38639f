//! From a question to its answer. Pure.
//!
//! What a name is ([`question`]) and what is recorded there ([`records`], [`reverse`]) are two steps, so that every type asked
//! for gets the same word on whether the name exists: NXDOMAIN when there is nothing, and NODATA (no error, no answer) when
//! there is something of another type or something below. CoreDNS' `kubernetes` plugin decides where the specification is
//! silent, with one exception: a name that has only names below it (`_tcp.web.default.svc…`, `dns.…`) exists, as RFC 8020
//! wants it, where CoreDNS denies it.

mod question;
mod records;
mod reverse;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::names::{Names, Zone};
use question::Place;

/// CNAMEs that are followed inside of the zone. Who chains more has made a loop, or a mistake.
const MAX_CHAIN: usize = 8;

/// What a question deserves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name is no name of the cluster's; other servers know.
    Elsewhere,
    Known(Reply),
}

/// What is said by the one who knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: ResponseCode,
    /// Never shuffled; that is for whoever sends it.
    pub answers: Vec<Record>,
    /// The zone's SOA where there is no answer.
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
    /// `answers` end with a CNAME to this name outside of the zone: its records of the kind asked for belong behind them.
    pub follow: Option<Name>,
}

/// What is recorded under a name.
enum Found {
    /// Nothing, and nothing below it.
    Nothing,
    /// Records of the type asked for; if there are none, others or names below.
    Records(Records),
    /// Another name stands for this one.
    Alias(Name),
}

#[derive(Default)]
struct Records {
    data: Vec<RData>,
    /// The addresses of names in `data`.
    additionals: Vec<Record>,
    /// Where it is not the zone's.
    ttl: Option<u32>,
}

impl Reply {
    fn of(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), authorities: Vec::new(), additionals: Vec::new(), follow: None }
    }

    /// Nothing can be said: everything is asked again, of this server or of another.
    pub fn failure() -> Self {
        Self::of(ResponseCode::ServFail)
    }
}

/// Answers a question of class IN. Names in the answer that were asked for keep the case in which they were.
///
/// Until the names were loaded once, everything that may turn out to be the cluster's is SERVFAIL: NXDOMAIN would be a lie,
/// and would be remembered.
pub fn answer(names: &Names, name: &Name, kind: RecordType) -> Answer {
    if names.zone().domain.zone_of(name) {
        return Answer::Known(if names.synced() { within(names, name, kind) } else { Reply::failure() });
    }
    reverse::answer(names, name, kind)
}

/// Answers for a name of the zone.
fn within(names: &Names, name: &Name, kind: RecordType) -> Reply {
    let zone = names.zone();
    let mut reply = Reply::of(ResponseCode::NoError);
    let mut owner = name.clone();
    loop {
        match find(names, &owner, kind) {
            Found::Nothing => {
                reply.code = ResponseCode::NXDomain;
                break;
            }
            Found::Records(records) => {
                let ttl = records.ttl.unwrap_or(zone.ttl);
                reply.answers.extend(records.data.into_iter().map(|data| Record::from_rdata(owner.clone(), ttl, data)));
                reply.additionals = records.additionals;
                break;
            }
            Found::Alias(target) => {
                let cname = RData::CNAME(hickory_proto::rr::rdata::CNAME(target.clone()));
                reply.answers.push(Record::from_rdata(owner, zone.ttl, cname));
                if kind == RecordType::CNAME {
                    break;
                }
                if !zone.domain.zone_of(&target) {
                    reply.follow = Some(target);
                    return reply;
                }
                // A chain that does not end is a failure of resolution (RFC 9520, section 2.4), and nothing of it is told.
                if reply.answers.len() >= MAX_CHAIN || reply.answers.iter().any(|record| record.name == target) {
                    return Reply::failure();
                }
                owner = target;
            }
        }
    }
    // A chain that ends in nothing is a negative answer, too (RFC 2308, section 2).
    if reply.answers.last().is_none_or(|record| kind != RecordType::CNAME && record.record_type() == RecordType::CNAME)
    {
        reply.authorities.push(soa(zone, zone.domain.clone(), names.serial()));
    }
    reply
}

fn find(names: &Names, name: &Name, kind: RecordType) -> Found {
    let zone = names.zone();
    let lower = name.to_lowercase();
    match Place::of(&lower, zone) {
        Place::Apex => apex(names, kind),
        Place::Version => Found::Records(match kind {
            RecordType::TXT => records::version(),
            _ => Records::default(),
        }),
        Place::Above => Found::Records(Records::default()),
        Place::NameServer => Found::Records(records::name_server(names, kind)),
        Place::Namespace(namespace) if names.namespace(&namespace) => Found::Records(Records::default()),
        Place::Service { namespace, service, part } => records::service(names, &namespace, &service, &part, kind),
        Place::Pod { namespace, label } => records::pod(names, &namespace, &label, kind),
        Place::Namespace(_) | Place::Nothing => Found::Nothing,
    }
}

fn apex(names: &Names, kind: RecordType) -> Found {
    let zone = names.zone();
    let mut records = Records::default();
    match kind {
        RecordType::SOA => records.data.push(soa(zone, zone.domain.clone(), names.serial()).data),
        RecordType::NS => {
            if let Some(server) = zone.name(&["ns", "dns"]) {
                records.additionals = records::addresses_of(names, &server);
                records.data.push(RData::NS(hickory_proto::rr::rdata::NS(server)));
            }
        }
        _ => {}
    }
    Found::Records(records)
}

/// The SOA of `owner`: the cluster's zone, or a part of the tree of addresses.
fn soa(zone: &Zone, owner: Name, serial: u32) -> Record {
    let named = |labels: &[&str]| zone.name(labels).unwrap_or_else(Name::root);
    let (refresh, retry, expire) = (7200, 1800, 86400);
    let data = SOA::new(named(&["ns", "dns"]), named(&["hostmaster"]), serial, refresh, retry, expire, zone.ttl);
    Record::from_rdata(owner, zone.ttl, RData::SOA(data))
}
