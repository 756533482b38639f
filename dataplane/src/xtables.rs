//! Rules of iptables as data, and everything that the dataplanes that write them share.
//!
//! [`rule`] says what a rule can be. It is [text](text) only on its way to `iptables-restore`, and is [read](read) back from
//! what `iptables-save` prints, exactly as `iptables-save` prints it: so what a kernel has can be compared with what was
//! written, line by line. [`shadow`] knows the chains as they were last written and says what is to be written; [`restore`]
//! runs the programs, of the [`variant`] that the host uses; [`walk`] leads a packet through rules; [`settings`] are what rules
//! alone cannot say.
//!
//! Rejected: speaking to the kernel directly. The blobs of legacy iptables are no stable interface, and what the nft variant
//! writes is to be readable by the host's own `iptables`, of whatever version.

pub mod name;
pub mod read;
pub mod restore;
pub mod rule;
pub mod settings;
pub mod shadow;
#[cfg(test)]
mod tests;
pub mod text;
pub mod variant;
pub mod walk;

pub use read::Ruleset;
pub use restore::{Restored, RunError, Tools};
pub use rule::{Chain, Direction, Hook, Mark, Match, Rule, States, Table, Target};
pub use shadow::{Changes, Content, Shadow};
pub use variant::Variant;

/// With which the name of every chain begins that is Portolan's.
pub const PREFIX: &str = "PORTOLAN-";
