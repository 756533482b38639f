//! The dataplanes as tests use them, so that one test is run on each: a spelling of a plan is a way to program a kernel
//! with it, in the network namespace of the calling thread.

use std::error::Error;

use dataplane::{Dirty, Plan, Report, iptables, ipvs, nftables};

/// A way to program a kernel.
pub trait Spelling: Send + Sized + 'static {
    type Error: Error + 'static;

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, Self::Error>;

    /// As [`Self::program`]; an error ends the test, with all of its causes.
    fn must(&mut self, plan: &Plan, dirty: &Dirty) -> Report {
        match self.program(plan, dirty) {
            Ok(report) => report,
            Err(error) => {
                let mut text = error.to_string();
                let mut cause = error.source();
                while let Some(error) = cause {
                    text = format!("{text}: {error}");
                    cause = error.source();
                }
                panic!("{text}")
            }
        }
    }
}

impl Spelling for nftables::Table {
    type Error = nftables::ProgramError;

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, Self::Error> {
        Self::program(self, plan, dirty)
    }
}

impl Spelling for iptables::Tables {
    type Error = iptables::ProgramError;

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, Self::Error> {
        Self::program(self, plan, dirty)
    }
}

impl Spelling for ipvs::Tables {
    type Error = ipvs::ProgramError;

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, Self::Error> {
        Self::program(self, plan, dirty)
    }
}
