//! What passes between the steward and the keepers: orders one way, how far a Pod is the other.

use std::sync::Arc;

use super::mirror::{Aim, Seen};
use super::socket::Peer;
use crate::client::Client;
use crate::events::Recorder;
use crate::probes::Prober;
use crate::state::OwnNode;

/// What all keepers use.
#[derive(Debug)]
pub struct Shared {
    pub client: Client,
    pub node: String,
    pub prober: Prober,
    pub events: Recorder,
}

/// What the server was heard to have.
#[derive(Clone, Debug)]
pub enum Heard {
    Nothing,
    /// By a watch.
    Is(Arc<Seen>),
    /// The Pod of this uid is no more.
    Gone(String),
}

/// What a keeper is to bring about. The newest order counts.
#[derive(Clone, Debug)]
pub struct Order {
    pub aim: Aim,
    /// As whom the workload's probes run commands.
    pub peer: Option<Peer>,
    pub heard: Heard,
    /// Counts lists: what one says holds, whatever was known before.
    pub list: u64,
    pub own: OwnNode,
}

impl Order {
    /// Whether it tells a keeper nothing beyond another one.
    pub fn same(&self, other: &Self) -> bool {
        let aims = match (&self.aim, &other.aim) {
            (Aim::Run(one), Aim::Run(other)) => Arc::ptr_eq(one, other),
            (one, other) => one == other,
        };
        let heard = match (&self.heard, &other.heard) {
            (Heard::Is(one), Heard::Is(other)) => Arc::ptr_eq(one, other),
            (Heard::Gone(one), Heard::Gone(other)) => one == other,
            (Heard::Nothing, Heard::Nothing) => true,
            _ => false,
        };
        aims && heard && self.peer == other.peer && self.list == other.list && self.own == other.own
    }
}

/// How far a Pod is that goes in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    Present,
    /// Nobody is sent there any more; or why somebody may be.
    Left(Option<String>),
}
