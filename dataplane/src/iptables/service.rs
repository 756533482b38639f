//! The chains of one Service: its frontends, its pools and, where they need one, its endpoints.
//!
//! - `PORTOLAN-FE-…`, a frontend: who may ask, and what clients on this node and others get. Most frontends lead everybody to
//!   one place and have none: the tree leads there.
//! - `PORTOLAN-FA-…`: what comes behind a frontend's question who may ask.
//! - `PORTOLAN-SVC-…`, a pool: remembered clients first, then each endpoint with its part of what is left.
//! - `PORTOLAN-SEP-…`, an endpoint: whether its client is hidden, whether it is remembered, and the translation. It is also
//!   the name of the list in which the kernel keeps the endpoint's clients.

use std::net::{IpAddr, SocketAddr};

use model::Key;

use super::layout::{self, DROP_CHAIN, MASQUERADE, REJECT_CHAIN, STRANGERS, goto, rule};
use crate::plan::{
    Action, At, Endpoint, Family, Frontend, FrontendKind, Limits, Method, NodePlan, Pool, PoolKey, ServicePlan,
};
use crate::spread;
use crate::xtables::{Chain, Match, Rule, Target, name};

/// As many turns a pool of [`Method::Turns`] can have: each is a rule that every connection passes.
const MAX_TURNS: usize = 1024;

/// Why rules of iptables cannot say what the Service asks for; `None`: they can.
pub fn refusal(service: &ServicePlan) -> Option<String> {
    let cannot = |what: &str| Some(format!("rules of iptables cannot {what}: use the nftables dataplane"));
    if service.echo {
        return cannot("answer pings of an address");
    }
    if service.frontends.iter().any(|f| f.limits != Limits::default()) {
        return cannot("hold connections to limits");
    }
    if service.pools.iter().any(|pool| pool.method == Method::Hash) {
        return cannot("choose an endpoint by the client's address");
    }
    let turns = |pool: &Pool| pool.endpoints.iter().map(|e| usize::from(e.share)).sum::<usize>();
    if service.pools.iter().any(|pool| pool.method == Method::Turns && turns(pool) > MAX_TURNS) {
        return cannot("let so many endpoints take turns");
    }
    None
}

/// What leads to a frontend's chains, from the tree: rules to which the question for address and port is to be added. None:
/// nothing does, because this node answers there itself.
pub fn entry(node: &NodePlan, key: &Key, service: &ServicePlan, frontend: &Frontend) -> Vec<Rule> {
    if frontend.action == Action::Here {
        return Vec::new();
    }
    if has_chain(frontend) {
        return vec![rule([], Target::Goto(frontend_name("FE", key, frontend).into()))];
    }
    everybody(node, key, service, frontend)
}

/// Whether a frontend asks more than address and port.
fn has_chain(frontend: &Frontend) -> bool {
    let hides = matches!(frontend.action, Action::Balance { masquerade: true, .. });
    frontend.sources.is_some() || frontend.inside.is_some() || hides
}

/// Where clients from outside this node get, and all others who got as far.
fn everybody(node: &NodePlan, key: &Key, service: &ServicePlan, frontend: &Frontend) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Action::Balance { masquerade, .. } = frontend.action {
        if masquerade {
            rules.push(rule([], layout::set(MASQUERADE, MASQUERADE)));
        } else if frontend.kind == FrontendKind::ClusterIp && layout::has_strangers(node, frontend.at.family()) {
            rules.push(rule([], Target::Jump(STRANGERS.into())));
        }
    }
    rules.push(rule([], target(key, service, frontend.action)));
    rules
}

fn target(key: &Key, service: &ServicePlan, action: Action) -> Target {
    match action {
        Action::Balance { pool, .. } if service.pool(pool).is_some() => Target::Goto(pool_name(key, pool).into()),
        Action::Balance { .. } | Action::Reject => goto(REJECT_CHAIN),
        Action::Drop => goto(DROP_CHAIN),
        // Where only some clients are answered by this node, they are not led anywhere.
        Action::Here => Target::Accept,
    }
}

/// Every chain of a Service, with the family that it belongs to.
pub fn chains(node: &NodePlan, key: &Key, service: &ServicePlan) -> Vec<(Family, Chain)> {
    let mut chains = Vec::new();
    for frontend in service.frontends.iter().filter(|f| has_chain(f) && f.action != Action::Here) {
        add_frontend(node, key, service, frontend, &mut chains);
    }
    let hidden = |pool: PoolKey| {
        service.frontends.iter().any(|f| match f.action {
            Action::Balance { pool: to, masquerade } => {
                to == pool && (masquerade || layout::has_strangers(node, pool.family))
            }
            _ => false,
        })
    };
    let led_to = |pool: &&Pool| {
        let leads = |action| matches!(action, Action::Balance { pool: to, .. } if to == pool.key);
        service.frontends.iter().any(|f| leads(f.action) || f.inside.is_some_and(leads))
    };
    for pool in service.pools.iter().filter(led_to) {
        let mut rules = Vec::new();
        if let Some(seconds) = pool.affinity_seconds {
            for endpoint in &pool.endpoints {
                let name = endpoint_name(key, pool.key, endpoint);
                let known = Match::Remembered { list: name.clone().into(), seconds };
                rules.push(rule([known], Target::Goto(name.into())));
            }
        }
        for (endpoint, question) in spread_over(pool) {
            let Some(endpoint) = pool.endpoints.get(endpoint) else { continue };
            let mut matches = Vec::new();
            let target = if has_own_chain(pool, endpoint) {
                Target::Goto(endpoint_name(key, pool.key, endpoint).into())
            } else {
                matches.push(Match::Protocol(pool.key.protocol));
                Target::Dnat(endpoint.socket())
            };
            matches.extend(question);
            rules.push(rule(matches, target));
        }
        chains.push((pool.key.family, Chain::new(pool_name(key, pool.key), rules)));
        for endpoint in pool.endpoints.iter().filter(|e| has_own_chain(pool, e)) {
            let name = endpoint_name(key, pool.key, endpoint);
            let rules = endpoint_rules(pool, endpoint, &name, hidden(pool.key));
            chains.push((pool.key.family, Chain::new(name, rules)));
        }
    }
    chains
}

fn add_frontend(
    node: &NodePlan,
    key: &Key,
    service: &ServicePlan,
    frontend: &Frontend,
    chains: &mut Vec<(Family, Chain)>,
) {
    let family = frontend.at.family();
    // The frontend's own decision about clients on this node, or none about hiding them.
    let within = frontend.inside.unwrap_or(frontend.action);
    let mut rest = layout::inside(node, family, &target(key, service, within));
    rest.extend(everybody(node, key, service, frontend));
    let Some(sources) = &frontend.sources else {
        chains.push((family, Chain::new(frontend_name("FE", key, frontend), rest)));
        return;
    };
    let allowed = frontend_name("FA", key, frontend);
    let may = |range: &ipnet::IpNet| {
        rule([Match::Source { range: *range, not: false }], Target::Goto(allowed.clone().into()))
    };
    let mut rules: Vec<Rule> = sources.iter().map(may).collect();
    rules.push(rule([], goto(DROP_CHAIN)));
    chains.push((family, Chain::new(frontend_name("FE", key, frontend), rules)));
    chains.push((family, Chain::new(allowed, rest)));
}

fn has_own_chain(pool: &Pool, endpoint: &Endpoint) -> bool {
    endpoint.local || pool.affinity_seconds.is_some()
}

fn endpoint_rules(pool: &Pool, endpoint: &Endpoint, name: &str, may_be_hidden: bool) -> Vec<Rule> {
    let mut rules = Vec::new();
    if endpoint.local {
        if may_be_hidden {
            rules.push(rule([], layout::set(0, MASQUERADE)));
        }
        // A pod that reaches itself would answer itself.
        let itself = [Match::from(endpoint.address), Match::SourceLocal { not: true }];
        rules.push(rule(itself, layout::set(MASQUERADE, MASQUERADE)));
    }
    let mut matches = vec![Match::Protocol(pool.key.protocol)];
    if pool.affinity_seconds.is_some() {
        matches.push(Match::Remember { list: name.to_owned().into() });
    }
    rules.push(rule(matches, Target::Dnat(endpoint.socket())));
    rules
}

/// The endpoints' indices with the question that gives each its part of what those before it have left; the last has none.
fn spread_over(pool: &Pool) -> Vec<(usize, Option<Match>)> {
    let shares: Vec<u16> = pool.endpoints.iter().map(|e| e.share).collect();
    match pool.method {
        Method::Turns => {
            let turns = spread::turns(&shares);
            let left = |place: usize| u32::try_from(turns.len() - place).unwrap_or(u32::MAX);
            // Counted from the rule's first packet, which is the first endpoint's.
            let question =
                |place| (left(place) > 1).then(|| Match::Turn { every: left(place), packet: left(place) - 1 });
            turns.iter().enumerate().map(|(place, index)| (*index as usize, question(place))).collect()
        }
        Method::Chance | Method::Hash => {
            let mut left: u32 = shares.iter().map(|share| u32::from(*share)).sum();
            let mut parts = Vec::with_capacity(shares.len());
            for (index, share) in shares.iter().map(|share| u32::from(*share)).enumerate() {
                parts.push((index, (share < left).then_some(Match::Chance { of: left, share })));
                left -= share;
            }
            parts
        }
    }
}

fn pool_name(key: &Key, pool: PoolKey) -> String {
    let kind = [pool.family as u8, pool.protocol.number(), u8::from(pool.local)];
    hashed("SVC", key, &[&kind, &pool.port.to_be_bytes()])
}

fn endpoint_name(key: &Key, pool: PoolKey, endpoint: &Endpoint) -> String {
    let kind = [pool.protocol.number(), u8::from(pool.local)];
    hashed("SEP", key, &[&kind, &pool.port.to_be_bytes(), &socket(endpoint.socket())])
}

fn frontend_name(kind: &str, key: &Key, frontend: &Frontend) -> String {
    let at = match frontend.at {
        At::Address(address) => octets(address),
        At::NodePort(family) => vec![family as u8],
    };
    hashed(kind, key, &[&at, &[frontend.protocol.number()], &frontend.port.to_be_bytes()])
}

fn hashed(kind: &str, key: &Key, parts: &[&[u8]]) -> String {
    let owner = [key.namespace.as_bytes(), key.name.as_bytes()];
    name::hashed(kind, &[&owner, parts].concat())
}

fn socket(at: SocketAddr) -> Vec<u8> {
    let mut bytes = octets(at.ip());
    bytes.extend(at.port().to_be_bytes());
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
