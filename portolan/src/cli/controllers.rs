//! Which controllers run, said as to kube-controller-manager.

use std::fmt;
use std::str::FromStr;

use clap::Args;

/// Which controllers run beside the API.
#[derive(Clone, Debug, Args)]
pub struct ControllerArgs {
    /// Controllers to run: * for all, NAME for one, -NAME for all but one. There are node-lifecycle-controller (judges who
    /// is silent; ends tokens) and service-lb-controller (instances of load balancers, and who holds them).
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    controllers: Vec<Chosen>,
}

/// A controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    NodeLifecycle,
    ServiceLb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chosen {
    All,
    One(Controller),
    Not(Controller),
}

impl Controller {
    const ALL: [Self; 2] = [Self::NodeLifecycle, Self::ServiceLb];

    fn name(self) -> &'static str {
        match self {
            Self::NodeLifecycle => "node-lifecycle-controller",
            Self::ServiceLb => "service-lb-controller",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Chosen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::All);
        }
        let (name, not) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
        let found = Controller::ALL.into_iter().find(|controller| controller.name() == name);
        let found = found.ok_or_else(|| {
            let [first, second] = Controller::ALL;
            format!("there is no controller {name:?}; there are {first} and {second}")
        })?;
        Ok(if not { Self::Not(found) } else { Self::One(found) })
    }
}

impl ControllerArgs {
    /// Whether a controller runs: what names it goes before `*`.
    pub fn runs(&self, controller: Controller) -> bool {
        let says = |chosen: Chosen| self.controllers.contains(&chosen);
        says(Chosen::One(controller)) || says(Chosen::All) && !says(Chosen::Not(controller))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_before_the_star() {
        let runs = |list: &str| {
            let controllers = list.split(',').map(|text| text.parse().unwrap()).collect();
            let args = ControllerArgs { controllers };
            Controller::ALL.map(|controller| args.runs(controller))
        };
        assert_eq!(runs("*"), [true, true]);
        assert_eq!(runs("*,-service-lb-controller"), [true, false]);
        assert_eq!(runs("service-lb-controller"), [false, true]);
        assert_eq!(runs("-node-lifecycle-controller"), [false, false]);
        assert!("cloud-node-controller".parse::<Chosen>().unwrap_err().contains("service-lb-controller"));
    }
}
