//! Which iptables a host uses: the legacy one, or the one that writes nf_tables. They do not see each other's rules, and a
//! packet passes both; rules of one Service in both would be a mess.
//!
//! The host's own choice is what its `iptables` says of itself. It is overruled by rules: where others (a container runtime,
//! a firewall) write into the other variant, that is the one which is used, whatever a link in `/etc/alternatives` says.

use std::fmt;

use super::restore::{RunError, Tools, run};
use crate::plan::Family;

/// A variant of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    Legacy,
    Nft,
}

/// What was seen of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What plain `iptables` is. `None`: there is none that runs.
    pub plain: Option<Variant>,
    /// Of each variant that has programs of its own name: how many rules of others it has.
    pub legacy: Option<usize>,
    pub nft: Option<usize>,
}

/// There is no iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no iptables on this machine: install the package iptables, which has iptables-restore and iptables-save"
)]
pub struct NoIptables;

/// What to use, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub tools: Tools,
    /// A sentence for the log.
    pub why: String,
}

impl Variant {
    pub const ALL: [Self; 2] = [Self::Legacy, Self::Nft];

    /// As in the names of its programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Nft => "nft",
        }
    }

    /// From what `iptables --version` says: `iptables v1.8.9 (nf_tables)`. Before 1.8 there was only one.
    pub fn of_version(text: &str) -> Option<Self> {
        match text {
            _ if text.contains("(nf_tables)") => Some(Self::Nft),
            _ if text.contains("(legacy)") => Some(Self::Legacy),
            _ if text.starts_with("iptables v1.") => Some(Self::Legacy),
            _ => None,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "legacy iptables",
            Self::Nft => "iptables over nf_tables",
        })
    }
}

/// Decides which variant to use.
///
/// # Errors
/// When there is none.
pub fn choose(seen: Seen) -> Result<Choice, NoIptables> {
    let rules = |variant| match variant {
        Variant::Legacy => seen.legacy,
        Variant::Nft => seen.nft,
    };
    let choice = |variant, why: String| {
        let tools = Tools { variant, named: rules(variant).is_some() };
        Ok(Choice { tools, why: format!("{variant}: {why}") })
    };
    let sum = |count: usize| if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") };
    match (seen.legacy, seen.nft) {
        (Some(legacy), Some(nft)) if legacy != nft => {
            let (variant, more, fewer) =
                if legacy > nft { (Variant::Legacy, legacy, nft) } else { (Variant::Nft, nft, legacy) };
            let other = if variant == Variant::Legacy { Variant::Nft } else { Variant::Legacy };
            choice(variant, format!("others have {} there, and {} in {other}", sum(more), sum(fewer)))
        }
        _ => match (seen.plain, seen.nft, seen.legacy) {
            (Some(plain), ..) => choice(plain, "it is what this host's iptables is".to_owned()),
            (None, Some(_), _) => choice(Variant::Nft, "plain iptables is not there, and iptables-nft is".to_owned()),
            (None, None, Some(_)) => {
                choice(Variant::Legacy, "plain iptables is not there, and iptables-legacy is".to_owned())
            }
            (None, None, None) => Err(NoIptables),
        },
    }
}

/// Looks at the host, in the calling thread's network namespace. Changes nothing.
pub fn look() -> Seen {
    let mut seen = Seen { plain: plain(), ..Seen::default() };
    seen.nft = count(Variant::Nft);
    seen.legacy = count(Variant::Legacy);
    seen
}

fn plain() -> Option<Variant> {
    Variant::of_version(&run("iptables", &["--version"], &[]).ok()?)
}

/// How many rules of others a variant has; `None` where its programs are not there.
fn count(variant: Variant) -> Option<usize> {
    let tools = Tools { variant, named: true };
    let mut count = 0;
    for family in Family::ALL {
        match tools.save_all(family) {
            Ok(text) => count += super::read::saved(&text).values().map(|found| found.others).sum::<usize>(),
            Err(RunError::Start { .. }) if family == Family::V4 => return None,
            // What cannot be read has no rules that count.
            Err(_) => {}
        }
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(plain: Option<Variant>, legacy: Option<usize>, nft: Option<usize>) -> Option<(Variant, bool)> {
        let choice = choose(Seen { plain, legacy, nft }).ok()?;
        assert!(choice.why.starts_with(&choice.tools.variant.to_string()), "{}", choice.why);
        Some((choice.tools.variant, choice.tools.named))
    }

    #[test]
    fn rules_count_more_than_links() {
        use Variant::{Legacy, Nft};
        assert_eq!(chosen(Some(Nft), Some(0), Some(0)), Some((Nft, true)));
        assert_eq!(chosen(Some(Legacy), Some(3), Some(3)), Some((Legacy, true)));
        assert_eq!(chosen(Some(Nft), Some(5), Some(0)), Some((Legacy, true)), "where the others are");
        assert_eq!(chosen(Some(Legacy), Some(5), Some(6)), Some((Nft, true)));
        assert_eq!(chosen(Some(Legacy), None, None), Some((Legacy, false)), "an iptables before 1.8");
        assert_eq!(chosen(Some(Nft), None, Some(2)), Some((Nft, true)));
        assert_eq!(chosen(None, Some(0), None), Some((Legacy, true)));
        assert_eq!(chosen(None, None, None), None);
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(Variant::of_version("iptables v1.8.9 (nf_tables)\n"), Some(Variant::Nft));
        assert_eq!(Variant::of_version("iptables v1.8.9 (legacy)"), Some(Variant::Legacy));
        assert_eq!(Variant::of_version("iptables v1.6.1"), Some(Variant::Legacy));
        assert_eq!(Variant::of_version("busybox"), None);
    }
}
