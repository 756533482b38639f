//! The plan as virtual servers of IPVS, with the sets and few rules that they need.
//!
//! A frontend whose connections are balanced is a virtual server for each of its addresses ([`state::Server`]); the addresses
//! are the machine's own, on an interface of the dummy type ([`link`]), because IPVS takes what comes in for the machine alone. What
//! IPVS does not say is said by a constant number of [rules] over sets ([`sets::Set`]): what is refused or dropped, who may ask,
//! whose address is hidden. Services are elements of the sets. What neither says, frontends that lead elsewhere for clients
//! on this node, is a plan of its own ([`inside`]) for the chains of [`iptables`](crate::iptables).
//!
//! [`claims`] says what a Service wants, [`shadow`] goes from plan to plan and says what is different, [`leaving`] knows the virtual
//! servers and how a destination leaves without harm, [`programmer`] writes all of it in the right order. [`walk`] leads a packet
//! through it.
//!
//! What this does otherwise than the other dataplanes: connections are spread in turn, strictly, and not by chance; an address of a
//! Service is the machine's own, so it answers pings, and a port of an external address that no Service has is refused
//! in place of being left alone; a client that sticks to its endpoint does so for each address and port by itself, and
//! the time begins when its last connection ends.

use std::time::Instant;

use crate::Scheduler;
use crate::iptables;
use crate::plan::Plan;
use crate::program::{Dirty, Report};
use crate::xtables::{Tools, Variant};
use apply::Kernel;
use machine::{Machine, MachineError};
use programmer::Programmer;

mod apply;
pub mod claims;
mod drain;
mod error;
pub mod inside;
pub mod inspect;
pub mod leaving;
pub mod link;
pub mod machine;
pub mod message;
pub mod netlink;
pub mod programmer;
pub mod rules;
pub mod sets;
pub mod settings;
pub mod shadow;
pub mod state;
pub mod walk;

pub use drain::Drain;
pub use error::ProgramError;

/// How IPVS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// For Services that choose none (`portolan.dev/scheduler`). Where it is [`Scheduler::RoundRobin`] and the endpoints weigh
    /// differently, it is [`Scheduler::WeightedRoundRobin`].
    pub scheduler: Scheduler,
    /// Of the few rules.
    pub rules: iptables::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self { scheduler: Scheduler::RoundRobin, rules: iptables::Options::default() }
    }
}

/// The machine has no IPVS, or no iptables. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Rules(#[from] iptables::OpenError),
}

/// The node's virtual servers, and all that belongs to them.
pub struct Tables {
    programmer: Programmer<Kernel>,
}

impl Tables {
    /// Opens what is needed in the calling thread's network namespace, in which every call is to be made. The kernel loads
    /// its modules; nothing else is changed yet.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let kernel = Kernel::new(Machine::open()?, iptables::Tables::open(options.rules)?);
        Ok(Self { programmer: Programmer::new(kernel, options.scheduler) })
    }

    /// Which variant of iptables is used for the few rules and why, in a sentence.
    pub fn why(&self) -> &str {
        self.programmer.target.rules.why()
    }

    /// Makes the kernel do what `plan` says.
    ///
    /// The first call, and the first after an error, compares everything with what is there; the others write the difference to
    /// the call before, and look for it only where `dirty` says. No connection notices either. A Service that IPVS cannot
    /// do, or that the kernel refuses, keeps the others from nothing; the report names it.
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, ProgramError> {
        self.programmer.program(plan, dirty, Instant::now())
    }

    /// Undoes what others have done, looks which addresses the machine has, and lets go of endpoints whose connections have
    /// ended. `plan` is the one that was programmed last. To be called now and then, and every few seconds while
    /// [`Tables::is_waiting`].
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn repair(&mut self, plan: &Plan) -> Result<Report, ProgramError> {
        self.programmer.repair(plan, Instant::now())
    }

    /// Whether endpoints that are gone wait for the end of their connections.
    pub fn is_waiting(&self) -> bool {
        self.programmer.is_waiting()
    }

    /// Revisions count anew: the next plan may have any, because it comes from another database than the last one.
    pub fn begin_epoch(&mut self) {
        self.programmer.begin_epoch();
    }

    /// See [`iptables::Tables::take_over_localnet`].
    ///
    /// # Errors
    /// As [`Tables::program`].
    pub fn take_over_localnet(&mut self) -> Result<(), ProgramError> {
        Ok(self.programmer.target.rules.take_over_localnet()?)
    }

    /// Forgets what was written, so that the next plan is compared with what is there.
    pub fn forget(&mut self) {
        self.programmer.forget();
    }
}

/// Removes everything of ours from the calling thread's network namespace, whoever made it, and ends the connections that go
/// through it: rules of both variants, virtual servers, sets, the interface with its addresses; and puts the settings back.
/// Returns whether there was anything.
///
/// # Errors
/// When the kernel or a program refuses.
pub fn cleanup() -> Result<bool, ProgramError> {
    let rules = iptables::cleanup()?;
    let rest = remove_rest()?;
    Ok(rules || rest)
}

/// All but rules, which must be gone.
fn remove_rest() -> Result<bool, ProgramError> {
    let mut removed = machine::cleanup()?;
    let mut all: Vec<Tools> = Variant::ALL.map(|variant| Tools { variant, named: true }).into();
    all.push(Tools { variant: Variant::Legacy, named: false });
    for tools in all {
        removed |= match apply::restore_settings(&tools) {
            Err(error) if error.missing() => continue,
            outcome => outcome.map_err(iptables::ProgramError::from)?,
        };
    }
    Ok(removed)
}
