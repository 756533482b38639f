//! This machine's dataplane: one of three, and the end of the others.
//!
//! [`Kernel::open`] takes the one that is wanted, or the best that there is ([`crate::mode`]); the core loop does not know which.
//! Once it is programmed, what another one has left goes ([`crate::leftovers`]).

use std::collections::BTreeMap;
use std::time::Instant;

use dataplane::conntrack::Cleaner;
use dataplane::detour::Detours;
use dataplane::iptables::RuleCount;
use dataplane::ipvs::link::{self, Links};
use dataplane::nftables::{self, Owner, Ownership};
use dataplane::{Dirty, Plan, Report, iptables, ipvs};
use model::service::scheduler::Scheduler;
use serde_json::Value;
use tracing::info;

use crate::leftovers::{Leftovers, Removal};
use crate::looked::Looked;
use crate::mode::{self, Dataplane, Mode, NoDataplane};
use crate::program::{Nftables, Program, open_cleaner, open_detours};
use crate::questions::Answer;

/// What a dataplane is told when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub dataplane: Dataplane,
    /// How IPVS chooses where a Service does not say it; `None`: in turn.
    pub scheduler: Option<Scheduler>,
    /// How firmly tables of nftables are held against others.
    pub ownership: Ownership,
}

/// A dataplane cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("nftables cannot be used")]
    Nftables(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("iptables cannot be used")]
    Iptables(#[from] iptables::OpenError),
    #[error("IPVS cannot be used")]
    Ipvs(#[from] ipvs::OpenError),
    #[error(transparent)]
    None(#[from] NoDataplane),
}

/// A dataplane did not take a plan.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error(transparent)]
    Nftables(#[from] nftables::ProgramError),
    #[error(transparent)]
    Iptables(#[from] iptables::ProgramError),
    #[error(transparent)]
    Ipvs(#[from] ipvs::ProgramError),
    #[error("looking for what IPVS left")]
    Look(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a dataplane left cannot be removed.
#[derive(Debug, thiserror::Error)]
#[error("removing what {mode} left")]
pub struct CleanupError {
    mode: Mode,
    #[source]
    source: KernelError,
}

/// The dataplane of this network namespace.
pub struct Kernel {
    carrier: Carrier,
    leftovers: Leftovers,
    /// While IPVS, which was there before, goes.
    drain: Option<ipvs::Drain>,
}

enum Carrier {
    Nftables(Box<Nftables>),
    Iptables(Box<Looked<iptables::Tables>>),
    Ipvs(Box<Looked<ipvs::Tables>>),
}

/// The same of each, whose errors become [`KernelError`]s.
macro_rules! each {
    ($carrier:expr, $it:ident => $what:expr) => {
        match $carrier {
            Carrier::Nftables($it) => $what,
            Carrier::Iptables($it) => $what,
            Carrier::Ipvs($it) => $what,
        }
    };
}

impl Kernel {
    /// The dataplane that is wanted. To be called inside of a Tokio runtime with I/O, in the network namespace that it is for.
    /// Changes nothing yet.
    ///
    /// # Errors
    /// When it cannot be used here; with [`Dataplane::Auto`], when none can.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let (carrier, choice) = mode::choose(options.dataplane, |mode| Carrier::open(mode, options))?;
        info!(dataplane = %choice.mode, "the dataplane is {}: {}", choice.mode, choice.why);
        match &carrier {
            Carrier::Nftables(_) => {}
            Carrier::Iptables(iptables) => info!("{}", iptables.tables().why()),
            Carrier::Ipvs(ipvs) => info!("beside it {}", ipvs.tables().why()),
        }
        Ok(Self { carrier, leftovers: Leftovers::of_others_than(choice.mode), drain: None })
    }

    /// Removes what others left, if it is time.
    fn tidy(&mut self, plan: &Plan) {
        let Self { carrier, leftovers, drain } = self;
        leftovers.look(Instant::now(), |mode| carrier.succeed(mode, plan, drain));
    }
}

impl Carrier {
    fn open(mode: Mode, options: Options) -> Result<Self, OpenError> {
        Ok(match mode {
            Mode::Nftables => Self::Nftables(Box::new(Nftables::open(options.ownership).map_err(OpenError::Nftables)?)),
            Mode::Iptables => {
                Self::Iptables(Box::new(Looked::new(iptables::Tables::open(iptables::Options::default())?)))
            }
            Mode::Ipvs => {
                let scheduler = options.scheduler.unwrap_or(Scheduler::RoundRobin);
                let options = ipvs::Options { scheduler, ..ipvs::Options::default() };
                Self::Ipvs(Box::new(Looked::new(ipvs::Tables::open(options)?)))
            }
        })
    }
}

impl Carrier {
    /// Takes another dataplane away, in whose place this one has programmed `plan`. What belongs to the node whatever carries its
    /// Services stays.
    fn succeed(&mut self, mode: Mode, plan: &Plan, drain: &mut Option<ipvs::Drain>) -> Result<Removal, CleanupError> {
        let outcome = match mode {
            Mode::Nftables => self
                .take_over_localnet(mode, plan)
                .and_then(|taken_over| Ok(removal(nftables::remove_tables(Owner::Agent, !taken_over)?))),
            Mode::Iptables => self.succeed_rules(plan).map(removal),
            Mode::Ipvs => self.succeed_ipvs(plan, drain),
        };
        outcome.map_err(|source| CleanupError { mode, source })
    }

    /// IPVS has rules of the same chains: who writes either has made them its own with its first plan.
    fn succeed_rules(&mut self, plan: &Plan) -> Result<bool, KernelError> {
        match self {
            Self::Nftables(_) => {
                let taken_over = self.take_over_localnet(Mode::Iptables, plan)?;
                Ok(iptables::remove(!taken_over)?)
            }
            Self::Iptables(_) | Self::Ipvs(_) => Ok(false),
        }
    }

    /// Rules are about first packets, which are not IPVS's any more, so they go at once; connections stay with it to their end.
    fn succeed_ipvs(&mut self, plan: &Plan, drain: &mut Option<ipvs::Drain>) -> Result<Removal, KernelError> {
        match drain {
            Some(draining) => {
                if !draining.tend(Instant::now())? {
                    return Ok(Removal::Draining);
                }
                *drain = None;
            }
            None => {
                if !has_ipvs()? {
                    return Ok(Removal::Nothing);
                }
                self.succeed_rules(plan)?;
                *drain = ipvs::Drain::begin()?;
                if drain.is_some() {
                    return Ok(Removal::Draining);
                }
            }
        }
        iptables::remove_emptied();
        Ok(Removal::Removed)
    }

    /// Answers for `route_localnet` from now on, if the other did and it is wanted still.
    fn take_over_localnet(&mut self, from: Mode, plan: &Plan) -> Result<bool, KernelError> {
        let was_off = match from {
            Mode::Nftables => nftables::localnet_was_off()?,
            Mode::Iptables | Mode::Ipvs => iptables::localnet_was_off()?,
        };
        if !was_off || !plan.node.localhost_node_ports {
            return Ok(false);
        }
        match self {
            Self::Nftables(nftables) => nftables.take_over_localnet()?,
            Self::Iptables(iptables) => iptables.tables_mut().take_over_localnet()?,
            Self::Ipvs(ipvs) => ipvs.tables_mut().take_over_localnet()?,
        }
        Ok(true)
    }
}

impl Program for Kernel {
    type Error = KernelError;

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, KernelError> {
        let report = each!(&mut self.carrier, it => it.program(plan, dirty)?);
        self.leftovers.begin(Instant::now());
        self.tidy(plan);
        Ok(report)
    }

    async fn disturbed(&mut self) {
        let due = self.leftovers.due();
        let tidying = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tidying => {}
            () = async { each!(&mut self.carrier, it => it.disturbed().await) } => {}
        }
    }

    fn begin_epoch(&mut self) {
        each!(&mut self.carrier, it => it.begin_epoch());
    }

    fn repair(&mut self, plan: &Plan) -> Result<Report, KernelError> {
        self.tidy(plan);
        Ok(each!(&mut self.carrier, it => it.repair(plan)?))
    }

    fn hopeless(error: &KernelError) -> bool {
        match error {
            KernelError::Nftables(error) => Nftables::hopeless(error),
            KernelError::Iptables(error) => error.hopeless(),
            KernelError::Ipvs(error) => error.hopeless(),
            KernelError::Look(_) => false,
        }
    }

    fn mode(&self) -> Mode {
        each!(&self.carrier, it => it.mode())
    }

    fn conntrack(&self) -> Option<Cleaner> {
        open_cleaner()
    }

    fn detours(&self) -> Option<Detours> {
        open_detours()
    }

    fn count_rules(&self) -> BTreeMap<&'static str, RuleCount> {
        each!(&self.carrier, it => it.count_rules())
    }

    fn answer(&mut self, plan: &Plan, kind: &str, question: &Value) -> Option<Answer> {
        each!(&mut self.carrier, it => it.answer(plan, kind, question))
    }
}

fn removal(removed: bool) -> Removal {
    if removed { Removal::Removed } else { Removal::Nothing }
}

/// Whether there is the interface of IPVS's addresses, which comes first of all that it has and goes last. Its modules are not
/// loaded for the sake of looking.
fn has_ipvs() -> Result<bool, KernelError> {
    let links = Links::open().map_err(|error| KernelError::Look(error.into()))?;
    let link = links.find(link::NAME).map_err(|error| KernelError::Look(error.into()))?;
    Ok(link.is_some())
}

/// Removes from the kernel what an agent of whatever dataplane left there, and says of which there was anything. The others
/// are removed though one cannot be.
///
/// # Errors
/// When the kernel refuses, e.g. for lack of privileges or because an agent is running.
pub fn cleanup() -> Result<Vec<Mode>, CleanupError> {
    let mut removed = Vec::new();
    let mut failed = None;
    let mut note = |mode: Mode, outcome: Result<bool, KernelError>| match outcome {
        Ok(true) => removed.push(mode),
        Ok(false) => {}
        Err(source) => drop(failed.get_or_insert(CleanupError { mode, source })),
    };
    note(Mode::Nftables, nftables::cleanup().map_err(KernelError::from));
    // Where it was IPVS, the rules are IPVS's.
    let ipvs = has_ipvs().unwrap_or(true);
    let rules = iptables::cleanup().map_err(KernelError::from);
    note(if ipvs { Mode::Ipvs } else { Mode::Iptables }, rules);
    note(Mode::Ipvs, ipvs::cleanup().map_err(KernelError::from));
    iptables::remove_emptied();
    removed.dedup();
    failed.map_or(Ok(removed), Err)
}
