//! Which part of the kernel carries the Services: what was asked for, and what follows from what the machine has.
//!
//! The decision is pure: whether a dataplane can be had comes in as a function, which is asked in the order of preference
//! and only as far as necessary. nftables comes first: it costs least for each change, owns its tables and needs no other
//! program. IPVS before iptables: it finds a Service in one step however many there are, and takes exact turns.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What carries the Services of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    Nftables,
    Ipvs,
    Iptables,
}

/// What an agent is told about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Dataplane {
    /// The first of [`Mode::ALL`] that this machine has.
    #[default]
    Auto,
    Just(Mode),
}

/// The name is not that of a dataplane.
#[derive(Debug, thiserror::Error)]
#[error("there is no dataplane {0:?}; choose auto, nftables, ipvs or iptables")]
pub struct UnknownDataplane(String);

/// A dataplane, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub mode: Mode,
    /// In a sentence.
    pub why: String,
}

/// None of them can be had.
#[derive(Debug, thiserror::Error)]
#[error("this machine has none of the dataplanes: {0}")]
pub struct NoDataplane(String);

impl Mode {
    /// In the order in which they are preferred.
    pub const ALL: [Self; 3] = [Self::Nftables, Self::Ipvs, Self::Iptables];

    /// As on the command line, and as kube-proxy calls its own (`/proxyMode`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Ipvs => "ipvs",
            Self::Iptables => "iptables",
        }
    }
}

impl Dataplane {
    /// Every name that can be given.
    pub const NAMES: [&'static str; 4] = ["auto", "nftables", "ipvs", "iptables"];
}

/// Decides by what `open` can have, which says why when it cannot. What is asked for by name is opened whatever others there
/// are, and its own error is then the answer.
///
/// # Errors
/// When what was asked for cannot be had; `E` comes from `open`, or is made of all its errors.
pub fn choose<K, E>(dataplane: Dataplane, mut open: impl FnMut(Mode) -> Result<K, E>) -> Result<(K, Choice), E>
where
    E: std::error::Error + From<NoDataplane>,
{
    if let Dataplane::Just(mode) = dataplane {
        return Ok((open(mode)?, Choice { mode, why: format!("--dataplane {mode} says so") }));
    }
    let mut lacking = String::new();
    for mode in Mode::ALL {
        match open(mode) {
            Ok(kernel) => {
                let why = if lacking.is_empty() {
                    format!("{mode} can be used here, and is preferred")
                } else {
                    format!("{mode} can be used here; what is preferred cannot: {lacking}")
                };
                return Ok((kernel, Choice { mode, why }));
            }
            Err(error) => {
                if !lacking.is_empty() {
                    lacking.push_str("; ");
                }
                lacking.push_str(&format!("{mode} ({})", crate::chain(&error)));
            }
        }
    }
    Err(NoDataplane(lacking).into())
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Dataplane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Just(mode) => mode.fmt(f),
        }
    }
}

impl FromStr for Dataplane {
    type Err = UnknownDataplane;

    fn from_str(name: &str) -> Result<Self, UnknownDataplane> {
        let just = Mode::ALL.into_iter().find(|mode| mode.name() == name).map(Self::Just);
        just.or((name == "auto").then_some(Self::Auto)).ok_or_else(|| UnknownDataplane(name.to_owned()))
    }
}

impl TryFrom<String> for Dataplane {
    type Error = UnknownDataplane;

    fn try_from(name: String) -> Result<Self, UnknownDataplane> {
        name.parse()
    }
}

impl From<Dataplane> for String {
    fn from(dataplane: Dataplane) -> Self {
        dataplane.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Lack {
        #[error("the kernel has no {0}")]
        Of(Mode),
        #[error(transparent)]
        All(#[from] NoDataplane),
    }

    fn chosen(dataplane: Dataplane, there: &[Mode]) -> (Result<(Mode, String), String>, Vec<Mode>) {
        let mut asked = Vec::new();
        let outcome = choose(dataplane, |mode| {
            asked.push(mode);
            if there.contains(&mode) { Ok(mode) } else { Err(Lack::Of(mode)) }
        });
        let outcome = outcome.map(|(opened, choice)| {
            assert_eq!(opened, choice.mode);
            (choice.mode, choice.why)
        });
        (outcome.map_err(|error| error.to_string()), asked)
    }

    #[test]
    fn the_first_that_the_machine_has() {
        use Mode::{Iptables, Ipvs, Nftables};
        let (outcome, asked) = chosen(Dataplane::Auto, &Mode::ALL);
        assert_eq!(outcome, Ok((Nftables, "nftables can be used here, and is preferred".to_owned())));
        assert_eq!(asked, [Nftables], "nothing is looked for that is not needed");

        let (outcome, _) = chosen(Dataplane::Auto, &[Ipvs, Iptables]);
        let why = "ipvs can be used here; what is preferred cannot: nftables (the kernel has no nftables)";
        assert_eq!(outcome, Ok((Ipvs, why.to_owned())));

        let (outcome, asked) = chosen(Dataplane::Auto, &[Iptables]);
        assert_eq!((outcome.unwrap().0, asked), (Iptables, Mode::ALL.to_vec()));

        let (outcome, _) = chosen(Dataplane::Auto, &[]);
        let all = "this machine has none of the dataplanes: nftables (the kernel has no nftables); ipvs (the kernel has \
                   no ipvs); iptables (the kernel has no iptables)";
        assert_eq!(outcome, Err(all.to_owned()));
    }

    #[test]
    fn what_is_asked_for_by_name_and_nothing_else() {
        for mode in Mode::ALL {
            let (outcome, asked) = chosen(Dataplane::Just(mode), &Mode::ALL);
            assert_eq!((outcome, asked), (Ok((mode, format!("--dataplane {mode} says so"))), vec![mode]));
            let others: Vec<Mode> = Mode::ALL.into_iter().filter(|other| *other != mode).collect();
            let (outcome, asked) = chosen(Dataplane::Just(mode), &others);
            assert_eq!((outcome, asked), (Err(format!("the kernel has no {mode}")), vec![mode]));
        }
    }

    #[test]
    fn names() {
        for name in Dataplane::NAMES {
            let dataplane: Dataplane = name.parse().unwrap();
            assert_eq!(dataplane.to_string(), name);
            let text = serde_json::to_string(&dataplane).unwrap();
            assert_eq!(serde_json::from_str::<Dataplane>(&text).unwrap(), dataplane);
        }
        let error = "ebpf".parse::<Dataplane>().unwrap_err().to_string();
        assert_eq!(error, r#"there is no dataplane "ebpf"; choose auto, nftables, ipvs or iptables"#);
    }
}
