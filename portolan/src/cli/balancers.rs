//! Flags about load balancers: how many, how large, and for whom.

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
    /// Nodes or Pods that one load balancer may have as backends.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_backends_per_load_balancer: u32,
    /// Leave Services that name no loadBalancerClass to another load balancer.
    #[arg(long)]
    pub require_load_balancer_class: bool,
}

impl BalancerArgs {
    /// As the store takes it.
    pub fn limits(&self) -> store::BalancerLimits {
        store::BalancerLimits {
            instances: self.max_load_balancers as usize,
            listeners: self.max_listeners_per_load_balancer as usize,
        }
    }

    /// As the controller takes it.
    pub fn options(&self) -> controller::balancers::Options {
        controller::balancers::Options {
            backends_most: self.max_backends_per_load_balancer as usize,
            needs_class: self.require_load_balancer_class,
        }
    }
}
