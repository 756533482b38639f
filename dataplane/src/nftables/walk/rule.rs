//! One rule, executed in lanes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::nftables::expr::{Ct, Expr, Fib, Field, Meta, Reg, Reject, Remember, Verdict};
use crate::nftables::jenkins;
use crate::nftables::layout::Chain;
use crate::nftables::set::Set;
use crate::plan::{Family, MAX_ENDPOINTS};
use crate::route::Origin;

use super::registers::Registers;
use super::{Context, End, Found, Memory, Tables, Translation, WalkError, Walker};

/// One execution of a rule.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Lane {
    registers: Registers,
    priority: u32,
    memory: Memory,
}

/// Executions of a rule, each with its probability.
type Lanes = Vec<(Lane, f64)>;

/// Every way in which a rule can end, with its probability.
pub type Steps = BTreeMap<Step, f64>;

/// How an execution ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Break,
    End(End),
    Goto(String, u32),
    Jump(String, u32),
}

impl<T: Tables> Walker<'_, T> {
    /// Every way in which the rule can end.
    pub(super) fn run_rule(
        &self,
        context: &Context<'_>,
        chain: &Chain,
        exprs: &[Expr],
        priority: u32,
    ) -> Result<Steps, WalkError<T::Error>> {
        let mut lanes: Lanes = vec![(Lane { priority, ..Lane::default() }, 1.0)];
        let mut steps = Steps::new();
        for expr in exprs {
            let drawn = match expr {
                Expr::Random { modulus, to } => Some((*modulus, 0, *to)),
                Expr::Turn { modulus, offset, to } => Some((*modulus, *offset, *to)),
                _ => None,
            };
            if let Some((modulus, offset, to)) = drawn {
                lanes = draw(&lanes, modulus, offset, to)
                    .ok_or_else(|| WalkError::Astray(format!("a rule of chain {} draws too much", chain.name)))?;
                continue;
            }
            let mut found = self.look_up(context.family, expr, &lanes)?.into_iter();
            let looked_up = found.len() > 1;
            let mut next = Vec::with_capacity(lanes.len());
            for (mut lane, part) in lanes {
                match self.run_expr(context, expr, &mut lane, found.next().flatten())? {
                    None => next.push((lane, part)),
                    Some(Step::Break) if lane.priority != priority => {
                        // The next rule would read nonsense. The tables change between any two expressions.
                        let what = format!("a rule of chain {} breaks and has changed the packet", chain.name);
                        return Err(WalkError::Astray(what));
                    }
                    Some(step) => *steps.entry(step).or_insert(0.0) += part,
                }
            }
            lanes = if looked_up { merge(next) } else { next };
        }
        // A rule that comes to its end without a verdict goes on with the next one, as if it had broken.
        for (_, part) in lanes {
            *steps.entry(Step::Break).or_insert(0.0) += part;
        }
        Ok(steps)
    }

    /// What the expression looks up, for each lane.
    fn look_up(&self, family: Family, expr: &Expr, lanes: &Lanes) -> Result<Vec<Option<Found>>, WalkError<T::Error>> {
        let (Expr::In(name, key) | Expr::Lookup { map: name, key, .. } | Expr::LookupVerdict { map: name, key }) = expr
        else {
            return Ok(Vec::new());
        };
        let set = Set::all().find(|s| s.name() == *name);
        let set = set.ok_or_else(|| WalkError::Astray(format!("there is no set {name}")))?;
        let keys: Vec<_> = lanes.iter().map(|(l, _)| (family, set, l.registers.key(set, family, *key))).collect();
        let mut known = self.known.borrow_mut();
        let mut unknown: Vec<_> =
            keys.iter().filter(|k| !known.contains_key(k)).map(|(_, _, key)| key.clone()).collect();
        unknown.sort_unstable();
        unknown.dedup();
        if !unknown.is_empty() {
            let found = self.tables.look_up(family, set, &unknown).map_err(WalkError::Elements)?;
            known.extend(unknown.into_iter().map(|key| (family, set, key)).zip(found));
        }
        Ok(keys.iter().map(|key| known.get(key).cloned().flatten()).collect())
    }

    /// Executes one expression. `None`: the next one follows.
    fn run_expr(
        &self,
        context: &Context<'_>,
        expr: &Expr,
        lane: &mut Lane,
        found: Option<Found>,
    ) -> Result<Option<Step>, WalkError<T::Error>> {
        let packet = context.packet;
        let r = &mut lane.registers;
        match expr {
            Expr::Load(Field::Source, to) => r.store_address(*to, packet.client),
            Expr::Load(Field::Destination, to) => r.store_address(*to, context.destination.ip()),
            // The client's port is nobody's in particular.
            Expr::Load(Field::SourcePort, to) => r.store_port(*to, 0),
            Expr::Load(Field::DestinationPort, to) => r.store_port(*to, context.destination.port()),
            Expr::LoadMeta(Meta::Protocol, to) => r.store(*to, &[packet.protocol.number(), 0, 0, 0]),
            Expr::LoadMeta(Meta::Priority, to) => r.store(*to, &lane.priority.to_ne_bytes()),
            Expr::SetMeta(Meta::Priority, from) => {
                lane.priority = r.number(*from);
                return Ok(None);
            }
            Expr::LoadMeta(Meta::InputInterface | Meta::Mark, _)
            | Expr::SetMeta(..)
            | Expr::Load(Field::IcmpType | Field::SourceMac, _)
            | Expr::LoadCt(Ct::Mark | Ct::Direction, _)
            | Expr::SetCtMark(_)
            | Expr::Redirect => {
                return Err(WalkError::Astray(format!("`{expr}` on the way of a connection")));
            }
            Expr::LoadCt(Ct::Status, to) => r.store(*to, &(u32::from(context.translated) << 5).to_ne_bytes()),
            // NF_CT_STATE_BIT(IP_CT_NEW)
            Expr::LoadCt(Ct::State, to) => r.store(*to, &8u32.to_ne_bytes()),
            Expr::LoadCt(Ct::Destination, to) => r.store_address(*to, packet.destination),
            Expr::LoadCt(Ct::DestinationPort, to) => r.store_port(*to, packet.port),
            Expr::LoadFib(which, to) => {
                let local = match which {
                    Fib::Source => packet.origin == Origin::ThisNode,
                    Fib::Destination => packet.here,
                };
                r.store(*to, &(if local { 2u32 } else { 1 }).to_ne_bytes());
            }
            Expr::Equals(reg, value) => return Ok((r.number(*reg) != *value).then_some(Step::Break)),
            Expr::Differs(reg, value) => return Ok((r.number(*reg) == *value).then_some(Step::Break)),
            Expr::EqualsByte(reg, value) => return Ok((r.first_byte(*reg) != *value).then_some(Step::Break)),
            Expr::EqualsPort(reg, port) => return Ok((r.port(*reg) != *port).then_some(Step::Break)),
            Expr::And(reg, mask) => r.store(*reg, &(r.number(*reg) & mask).to_ne_bytes()),
            Expr::Set(to, value) => r.store(*to, &value.to_ne_bytes()),
            // The lanes have their numbers.
            Expr::Random { .. } | Expr::Turn { .. } => {}
            Expr::Hash { from, bytes, modulus, to } => {
                let hash = jenkins::bytes(&r.bytes(*from, *bytes as usize), *modulus);
                r.store(*to, &hash.to_ne_bytes());
            }
            // It says how long a connection is remembered, and nothing about its way.
            Expr::Object { .. } => return Ok(Some(Step::Break)),
            // One packet is not too many.
            Expr::In(set, _) if *set == Set::Limited.name() => return Ok(Some(Step::Break)),
            Expr::In(..) => return Ok(found.is_none().then_some(Step::Break)),
            Expr::Lookup { map, to, .. } => match found {
                Some(Found::Data(value)) => {
                    r.store(*to, &value);
                    lane.memory.found |= *map == Set::Affinity.name();
                }
                _ => return Ok(Some(Step::Break)),
            },
            Expr::LookupVerdict { .. } => match found {
                Some(Found::Chain(chain)) => return Ok(Some(Step::Goto(chain, lane.priority))),
                _ => return Ok(Some(Step::Break)),
            },
            Expr::Remember { how: Remember::Update, timeout_seconds, .. } => {
                if !self.tables.remembers() {
                    return Ok(Some(Step::Break));
                }
                lane.memory.seconds = Some(*timeout_seconds);
            }
            Expr::Remember { how: Remember::Delete, .. } => {}
            Expr::Dnat { address, port } => {
                if lane.priority != 0 {
                    return Err(WalkError::Astray("a packet leaves with a word in its priority".to_owned()));
                }
                let endpoint = SocketAddr::new(r.address(*address, context.family), r.port(*port));
                return Ok(Some(Step::End(End::Dnat(Translation { endpoint, memory: lane.memory }))));
            }
            Expr::Untrack => return Ok(Some(Step::End(End::Untrack))),
            Expr::Masquerade(_) => return Ok(Some(Step::End(End::Masquerade))),
            Expr::Reject(Reject::TcpReset | Reject::PortUnreachable) => return Ok(Some(Step::End(End::Reject))),
            Expr::Verdict(Verdict::Drop) => return Ok(Some(Step::End(End::Drop))),
            Expr::Verdict(Verdict::Return) => return Ok(Some(Step::End(End::Pass(lane.priority)))),
            Expr::Verdict(Verdict::Goto(chain)) => return Ok(Some(Step::Goto(chain.to_string(), lane.priority))),
            Expr::Verdict(Verdict::Jump(chain)) => return Ok(Some(Step::Jump(chain.to_string(), lane.priority))),
        }
        Ok(None)
    }
}

/// Each lane once with every number below `modulus`, and `offset` more; none if that would be too many.
fn draw(lanes: &Lanes, modulus: u32, offset: u32, to: Reg) -> Option<Lanes> {
    let total = lanes.len().checked_mul(modulus as usize).filter(|total| *total <= MAX_ENDPOINTS)?;
    let mut drawn = Vec::with_capacity(total);
    for (lane, part) in lanes {
        for number in 0..modulus {
            let mut lane = lane.clone();
            lane.registers.store(to, &number.wrapping_add(offset).to_ne_bytes());
            drawn.push((lane, part / f64::from(modulus)));
        }
    }
    Some(drawn)
}

/// Lanes that are alike become one.
fn merge(lanes: Lanes) -> Lanes {
    let mut merged = BTreeMap::new();
    for (lane, part) in lanes {
        *merged.entry(lane).or_insert(0.0) += part;
    }
    merged.into_iter().collect()
}
