//! What was measured: a number, what it is a number of, and what it is to be held against.
//!
//! A rate on this machine says little about another machine. So a figure names another of the same run that it stands
//! beside, a peer's or the machine's own limit, and their ratio is what two runs are compared by.

use serde::{Deserialize, Serialize};

/// One number of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// `case/what`, in lower case with dashes: `creates/portolan-64-clients`. Unique in a run, and the same in every run.
    pub name: String,
    /// What a reader needs to know to understand the number, in one line.
    pub about: String,
    pub value: f64,
    pub unit: Unit,
    pub better: Better,
    /// The name of a figure in the same unit that this one is a ratio to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
    /// What it is to reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<Aim>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    #[serde(rename = "/s")]
    PerSecond,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "µs")]
    Microseconds,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "MiB")]
    Mebibytes,
    #[serde(rename = "KiB")]
    Kibibytes,
    #[serde(rename = "GB/s")]
    GigabytesPerSecond,
    /// Of one core.
    #[serde(rename = "%")]
    Percent,
    /// How many, as of errors.
    #[serde(rename = "")]
    Count,
}

impl Unit {
    pub const fn sign(self) -> &'static str {
        match self {
            Unit::PerSecond => "/s",
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "µs",
            Unit::Seconds => "s",
            Unit::Mebibytes => "MiB",
            Unit::Kibibytes => "KiB",
            Unit::GigabytesPerSecond => "GB/s",
            Unit::Percent => "%",
            Unit::Count => "",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Better {
    Higher,
    Lower,
}

/// What a figure is to reach: a limit of its value, or of its ratio to what it stands beside.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Aim {
    Value(f64),
    Ratio(f64),
}

impl Figure {
    /// A figure of which more is better: a rate.
    pub fn rate(name: &str, value: f64, unit: Unit, about: &str) -> Self {
        Self::new(name, value, unit, Better::Higher, about)
    }

    /// A figure of which less is better: a time, memory, errors.
    pub fn cost(name: &str, value: f64, unit: Unit, about: &str) -> Self {
        Self::new(name, value, unit, Better::Lower, about)
    }

    fn new(name: &str, value: f64, unit: Unit, better: Better, about: &str) -> Self {
        Self { name: name.into(), about: about.into(), value, unit, better, beside: None, aim: None }
    }

    pub fn beside(mut self, other: &str) -> Self {
        self.beside = Some(other.into());
        self
    }

    pub fn aim(mut self, aim: Aim) -> Self {
        self.aim = Some(aim);
        self
    }
}

impl Better {
    /// Whether `value` is as good as `limit`, or better.
    pub fn reaches(self, value: f64, limit: f64) -> bool {
        match self {
            Better::Higher => value >= limit,
            Better::Lower => value <= limit,
        }
    }
}

/// The figures of one case, or of a whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures(pub Vec<Figure>);

impl Figures {
    pub fn add(&mut self, figure: Figure) {
        self.0.push(figure);
    }

    pub fn get(&self, name: &str) -> Option<&Figure> {
        self.0.iter().find(|f| f.name == name)
    }

    /// A figure by that which it stands beside; `None` without one, or when that was not measured in this run.
    pub fn ratio(&self, figure: &Figure) -> Option<f64> {
        let other = self.get(figure.beside.as_deref()?)?;
        (other.value != 0.0).then(|| figure.value / other.value)
    }

    /// Whether a figure reaches its aim; `None` without one, or when its ratio is not known.
    pub fn reached(&self, figure: &Figure) -> Option<bool> {
        match figure.aim? {
            Aim::Value(limit) => Some(figure.better.reaches(figure.value, limit)),
            Aim::Ratio(limit) => self.ratio(figure).map(|ratio| figure.better.reaches(ratio, limit)),
        }
    }
}

#[cfg(test)]
mod tests;
