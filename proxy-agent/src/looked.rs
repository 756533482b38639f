//! Dataplanes of which the kernel does not say when somebody else has changed them: iptables and IPVS.
//!
//! They are looked at now and then instead. A look reads what is there, which takes longer the more there is; so the rest
//! between two looks grows with what a look takes, and a processor is never kept busy by looking. Only where endpoints wait for
//! the end of their connections is it short.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dataplane::conntrack::Cleaner;
use dataplane::detour::Detours;
use dataplane::iptables::RuleCount;
use dataplane::{Dirty, Packet, Plan, Report, iptables, ipvs};
use serde_json::Value;

use crate::chain;
use crate::mode::Mode;
use crate::program::{Program, open_cleaner, open_detours};
use crate::questions::Answer;
use crate::routes::{Desk, Inspect, ROUTE, Routed};

/// The shortest rest between two looks.
const REST: Duration = Duration::from_secs(10);
/// The rest while endpoints wait.
const SHORT: Duration = Duration::from_secs(2);
/// The rest, in durations of the look before it.
const SHARE: u32 = 100;

/// What both have in common.
pub trait Tables: Send {
    type Error: std::error::Error + Send + Sync + 'static;
    const MODE: Mode;

    /// See [`Program::program`].
    ///
    /// # Errors
    /// See [`Program::program`].
    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, Self::Error>;

    /// Compares what is there with what was written, and mends it.
    ///
    /// # Errors
    /// See [`Program::program`].
    fn repair(&mut self, plan: &Plan) -> Result<Report, Self::Error>;

    fn begin_epoch(&mut self);

    fn hopeless(error: &Self::Error) -> bool;

    /// Whether endpoints wait for the end of their connections.
    fn is_waiting(&self) -> bool {
        false
    }

    /// By table.
    fn count_rules(&self) -> BTreeMap<&'static str, RuleCount> {
        BTreeMap::new()
    }

    /// What reads back what the kernel has.
    fn inspector() -> impl Inspect + 'static;
}

/// Tables that are looked at now and then.
pub struct Looked<T> {
    tables: T,
    /// `None`: nothing is programmed yet.
    look_at: Option<Instant>,
    /// What the last look asks for.
    least: Duration,
    desk: Desk,
}

impl<T: Tables> Looked<T> {
    pub fn new(tables: T) -> Self {
        Self { desk: Desk::new(T::inspector()), tables, look_at: None, least: Duration::ZERO }
    }

    fn shortest(&self) -> Duration {
        if self.tables.is_waiting() { SHORT } else { REST }
    }

    pub fn tables(&self) -> &T {
        &self.tables
    }

    pub fn tables_mut(&mut self) -> &mut T {
        &mut self.tables
    }
}

impl<T: Tables> Program for Looked<T> {
    type Error = T::Error;

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, T::Error> {
        let report = self.tables.program(plan, dirty)?;
        let (now, shortest) = (Instant::now(), self.shortest());
        self.look_at = Some(self.look_at.map_or(now + REST, |look_at| look_at.min(now + shortest.max(self.least))));
        Ok(report)
    }

    async fn disturbed(&mut self) {
        match self.look_at {
            Some(time) => tokio::time::sleep_until(time.into()).await,
            None => std::future::pending().await,
        }
    }

    fn repair(&mut self, plan: &Plan) -> Result<Report, T::Error> {
        let begun = Instant::now();
        let outcome = self.tables.repair(plan);
        let now = Instant::now();
        self.least = (now - begun).saturating_mul(SHARE);
        self.look_at = Some(now + self.shortest().max(self.least));
        outcome
    }

    fn begin_epoch(&mut self) {
        self.tables.begin_epoch();
    }

    fn mode(&self) -> Mode {
        T::MODE
    }

    fn conntrack(&self) -> Option<Cleaner> {
        open_cleaner()
    }

    fn detours(&self) -> Option<Detours> {
        open_detours()
    }

    fn answer(&mut self, plan: &Plan, kind: &str, question: &Value) -> Option<Answer> {
        (kind == ROUTE).then(|| self.desk.answer(plan, question))
    }

    fn count_rules(&self) -> BTreeMap<&'static str, RuleCount> {
        self.tables.count_rules()
    }

    fn hopeless(error: &T::Error) -> bool {
        T::hopeless(error)
    }
}

impl Tables for iptables::Tables {
    type Error = iptables::ProgramError;
    const MODE: Mode = Mode::Iptables;

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, Self::Error> {
        self.program(plan, dirty)
    }

    fn repair(&mut self, plan: &Plan) -> Result<Report, Self::Error> {
        self.repair(plan)
    }

    fn begin_epoch(&mut self) {
        self.begin_epoch();
    }

    fn hopeless(error: &Self::Error) -> bool {
        error.hopeless()
    }

    fn count_rules(&self) -> BTreeMap<&'static str, RuleCount> {
        self.count_rules().into_iter().map(|(table, count)| (table.name(), count)).collect()
    }

    fn inspector() -> impl Inspect + 'static {
        Rules::default()
    }
}

/// The rules of iptables, read anew for each question.
#[derive(Default)]
struct Rules(Option<iptables::inspect::Inspector>);

impl Inspect for Rules {
    fn difference(&mut self, plan: &Plan) -> Option<String> {
        match iptables::inspect::Inspector::open() {
            Ok(inspector) => self.0.insert(inspector).difference(plan),
            Err(error) => {
                self.0 = None;
                Some(chain(&error))
            }
        }
    }

    fn ways<'a>(&'a mut self, packets: &'a [Packet]) -> Box<dyn Iterator<Item = Routed> + 'a> {
        match &self.0 {
            Some(inspector) => Box::new(inspector.ways(packets).map(Routed::from)),
            None => Box::new(packets.iter().map(|_| Routed::unknown("the rules cannot be read"))),
        }
    }
}

impl Tables for ipvs::Tables {
    type Error = ipvs::ProgramError;
    const MODE: Mode = Mode::Ipvs;

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, Self::Error> {
        self.program(plan, dirty)
    }

    fn repair(&mut self, plan: &Plan) -> Result<Report, Self::Error> {
        self.repair(plan)
    }

    fn begin_epoch(&mut self) {
        self.begin_epoch();
    }

    fn hopeless(error: &Self::Error) -> bool {
        error.hopeless()
    }

    fn is_waiting(&self) -> bool {
        self.is_waiting()
    }

    fn inspector() -> impl Inspect + 'static {
        Servers
    }
}

/// IPVS, read anew for each question.
struct Servers;

impl Inspect for Servers {
    /// What differs shows in the ways: they are read from servers, sets and rules alike.
    fn difference(&mut self, _plan: &Plan) -> Option<String> {
        None
    }

    fn ways<'a>(&'a mut self, packets: &'a [Packet]) -> Box<dyn Iterator<Item = Routed> + 'a> {
        match ipvs::inspect::Inspector::open() {
            Ok(inspector) => Box::new(inspector.ways(packets).map(Routed::from).collect::<Vec<_>>().into_iter()),
            Err(error) => {
                let why = chain(&error);
                Box::new(packets.iter().map(move |_| Routed::unknown(&why)))
            }
        }
    }
}
