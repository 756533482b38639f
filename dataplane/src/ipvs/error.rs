//! Why a plan was not programmed.

use model::Revision;
use nix::libc;

use super::machine::MachineError;
use super::netlink::IpvsError;
use crate::iptables;
use crate::nftables::netlink::NetlinkError;
use crate::xtables::RunError;

/// A plan was not programmed, or not all of it; what is there forwards as far as it is right, and the next attempt
/// looks at what there is.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The plan is older than the one in the kernel, which stays. The caller has nothing to do.
    #[error("the plan of revision {plan} is older than revision {programmed}, which is programmed")]
    Stale { plan: Revision, programmed: Revision },
    /// The process lacks the right. Trying again does not help.
    #[error("not permitted to change IPVS: run as root, or with CAP_NET_ADMIN in this network namespace")]
    NotPermitted(#[source] NetlinkError),
    /// Trying again helps where the kernel was short of something, and not where it has no IPVS.
    #[error(transparent)]
    Machine(MachineError),
    /// A setting of the network could not be made.
    #[error("setting {setting}")]
    Setting {
        setting: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("writing the rules beside IPVS")]
    Rules(#[source] iptables::ProgramError),
    /// Anything else; trying again may help.
    #[error("changing IPVS")]
    Kernel(#[source] NetlinkError),
}

impl ProgramError {
    /// Whether trying again cannot help.
    pub fn hopeless(&self) -> bool {
        match self {
            Self::NotPermitted(_) | Self::Machine(MachineError::Ipvs(IpvsError::Missing)) => true,
            Self::Rules(error) => error.hopeless(),
            Self::Stale { .. } | Self::Setting { .. } | Self::Machine(_) | Self::Kernel(_) => false,
        }
    }
}

impl From<NetlinkError> for ProgramError {
    fn from(error: NetlinkError) -> Self {
        match error.refusal() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted(error),
            _ => Self::Kernel(error),
        }
    }
}

impl From<MachineError> for ProgramError {
    fn from(error: MachineError) -> Self {
        match error {
            MachineError::Ipvs(IpvsError::Ask(error)) => error.into(),
            error => Self::Machine(error),
        }
    }
}

impl From<iptables::ProgramError> for ProgramError {
    fn from(error: iptables::ProgramError) -> Self {
        Self::Rules(error)
    }
}

impl From<RunError> for ProgramError {
    fn from(error: RunError) -> Self {
        Self::Rules(error.into())
    }
}

/// Whether a refusal is about the one virtual server that was to be changed, so that the others could do without it:
/// not one for want of rights or memory.
pub(super) fn may_lie_in_a_server(error: &NetlinkError) -> bool {
    error.refusal().is_some_and(|number| {
        !matches!(
            number,
            libc::EPERM | libc::EACCES | libc::ENOMEM | libc::ENOBUFS | libc::EINTR | libc::EAGAIN | libc::ERESTART
        )
    })
}
