//! The plan as rules of iptables, in the variant that the host uses, by `iptables-restore`.
//!
//! [`layout`] says which way a packet takes; [`service`] what the chains of a Service are, and [`tree`] how one of many is found.
//! [`spelling`] goes from plan to plan and says which chains are different, [`crate::xtables`] writes them: a change
//! rewrites the chains that it is about and nothing else, one batch for each table and family. [`inspect`] tells what the
//! rules that a kernel has do with a packet.
//!
//! The first plan of a process is compared with what is there: chains that are as they should be stay, with what the kernel
//! remembers of clients; others are rewritten, and chains of ours that nobody wants go, all in that one batch. So there is no moment
//! without rules.
//!
//! What this cannot do as well as nftables: the tables are several, each taken whole, but one after the other. A legacy
//! table is read and written whole by `iptables-restore` for every change, whatever its size; and a list of `recent` keeps the
//! latest hundred clients of an endpoint, unless the module is told otherwise (`ip_list_tot`).
//!
//! Rejected: sets of the kernel (`ipset`) to find a Service. A set says that an address is some Service's, but not which, so
//! the chains would be the same, with one question more before them.

use std::collections::BTreeMap;

use model::Revision;

use crate::plan::Plan;
use crate::program::{Dirty, Report};
use crate::xtables::{RunError, Table, Tools, Variant, variant};
use programmer::Programmer;

pub mod inspect;
pub mod layout;
pub(crate) mod programmer;
pub mod service;
pub mod spelling;
#[cfg(test)]
mod tests;
pub mod tree;

pub use programmer::{cleanup, localnet_was_off, remove, remove_emptied};

/// How rules are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `None`: which one the host uses is found out.
    pub variant: Option<Variant>,
}

/// The rules of a table, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCount {
    /// That there are of ours.
    pub total: usize,
    /// That were written last.
    pub last: usize,
}

/// The node's chains.
pub struct Tables {
    programmer: Programmer,
    why: String,
}

/// The host has no iptables, or its kernel does not take any. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    NoIptables(#[from] variant::NoIptables),
    #[error("reading the rules of iptables")]
    Read(#[source] RunError),
}

/// A plan was not programmed. Tables that were not written yet have what they had.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The plan is older than the one in the kernel, which stays. The caller has nothing to do.
    #[error("the plan of revision {plan} is older than revision {programmed}, which is programmed")]
    Stale { plan: Revision, programmed: Revision },
    /// The process lacks the right. Trying again does not help.
    #[error(
        "not permitted to change iptables: run as root, or with CAP_NET_ADMIN and CAP_NET_RAW in this network namespace"
    )]
    NotPermitted(#[source] RunError),
    /// The programs are not there any more, or cannot be started.
    #[error("iptables cannot be run")]
    Missing(#[source] RunError),
    /// Anything else; trying again may help.
    #[error("changing iptables")]
    Refused(#[source] RunError),
}

impl From<RunError> for ProgramError {
    fn from(error: RunError) -> Self {
        match error {
            error if error.missing() => Self::Missing(error),
            error if error.not_permitted() => Self::NotPermitted(error),
            error => Self::Refused(error),
        }
    }
}

impl ProgramError {
    /// Whether trying again does not help.
    pub fn hopeless(&self) -> bool {
        matches!(self, Self::NotPermitted(_))
    }
}

impl Tables {
    /// Finds out which iptables to use. Everything happens in the network namespace of the calling thread, here and in every
    /// call. Changes nothing yet.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let choice = match options.variant {
            Some(variant) => {
                let tools = Tools { variant, named: true };
                variant::Choice { tools, why: format!("{variant}: as asked for") }
            }
            None => variant::choose(variant::look())?,
        };
        choice.tools.save_all(crate::plan::Family::V4).map_err(OpenError::Read)?;
        Ok(Self { programmer: Programmer::new(choice.tools), why: choice.why })
    }

    pub fn variant(&self) -> Variant {
        self.programmer.tools.variant
    }

    /// Which variant is used and why, in a sentence.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Makes the kernel do what `plan` says.
    ///
    /// The first call, and the first after an error, compares all chains with those that are there; the others write the
    /// difference to the call before, and look for it only where `dirty` says.
    ///
    /// A Service that rules cannot say, or that the kernel refuses, keeps the others from nothing; the report names it.
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, ProgramError> {
        self.programmer.program(plan, dirty)
    }

    /// Undoes what others have done to the chains since they were written. `plan` is the one that was programmed last. To be
    /// called now and then; where nobody writes rules, over nf_tables it costs nothing, and one reading of the
    /// tables over legacy iptables.
    ///
    /// # Errors
    /// As [`Tables::program`].
    pub fn repair(&mut self, plan: &Plan) -> Result<Report, ProgramError> {
        self.programmer.repair(plan)
    }

    /// Every plan from now on comes with rules that `beside` adds; see [`programmer::Beside`].
    pub(crate) fn set_beside(&mut self, beside: programmer::Beside) {
        self.programmer.set_beside(beside);
    }

    /// Its programs.
    pub(crate) fn tools(&self) -> &Tools {
        &self.programmer.tools
    }

    /// Revisions count anew: the next plan may have any, because it comes from another database than the last one.
    pub fn begin_epoch(&mut self) {
        self.programmer.begin_epoch();
    }

    /// Notes that `route_localnet` was off before another dataplane set it, which goes and leaves it as it is: whoever removes
    /// the chains puts it back. To be called after a plan was programmed.
    ///
    /// # Errors
    /// As [`Tables::program`].
    pub fn take_over_localnet(&mut self) -> Result<(), ProgramError> {
        Ok(self.programmer.take_over_localnet()?)
    }

    /// How many rules of ours each table has, of both families together, as far as they were written from here.
    pub fn count_rules(&self) -> BTreeMap<Table, RuleCount> {
        self.programmer.count_rules()
    }

    /// Forgets what was written, so that the next plan is compared with what is there.
    pub fn forget(&mut self) {
        self.programmer.forget();
    }
}
