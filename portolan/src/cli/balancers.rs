//! Flags about how much there may be of load balancers.

use clap::Args;

/// Quotas of load balancers; the defaults are the cloud's.
#[derive(Clone, Debug, Args)]
pub struct BalancerArgs {
    /// Load balancers that there may be.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub max_load_balancers: u32,
    /// Listeners that one load balancer may have.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub max_listeners_per_load_balancer: u32,
}

impl BalancerArgs {
    /// As the store takes it.
    pub fn limits(&self) -> store::BalancerLimits {
        store::BalancerLimits {
            instances: self.max_load_balancers as usize,
            listeners: self.max_listeners_per_load_balancer as usize,
        }
    }
}
