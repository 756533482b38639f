//! What every query passes, by whichever way it came: how often its client asks, what can be said at once, and whether
//! other servers may be asked.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::Access;
use crate::limit::{Limiter, Rates};
use crate::log::Log;
use crate::message::Transport;
use crate::metrics::{Block, Metrics, Writer};
use crate::names::{Names, SharedNames};
use crate::respond::{Asker, Facts, Outcome, Pending, Spin, respond, turn_away};

/// Questions that wait for other servers at a time, over all clients. More are SERVFAIL.
pub(crate) const IN_FLIGHT_MAX: usize = 1024;

pub(crate) struct Door {
    pub(crate) names: SharedNames,
    pub(crate) log: Option<Log>,
    pub(crate) metrics: Metrics,
    access: Access,
    all: Limiter,
    others: Limiter,
    room: Arc<Semaphore>,
    ahead: UnboundedSender<Ahead>,
    begun: Instant,
}

/// One socket, as one thread sees it.
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) block: Arc<Block>,
}

/// What becomes of a query.
pub(crate) enum Step {
    Silence,
    Said(Facts),
    /// Other servers are asked, within the bound that the permit stands for.
    Ask(Box<Pending>, OwnedSemaphorePermit),
}

/// A query by UDP that waits for other servers, and everything that its answer needs.
pub(crate) struct Ahead {
    pub(crate) pending: Box<Pending>,
    pub(crate) room: OwnedSemaphorePermit,
    pub(crate) socket: Arc<UdpSocket>,
    /// Of the socket.
    pub(crate) address: SocketAddr,
    pub(crate) client: SocketAddr,
    pub(crate) query: Box<[u8]>,
    pub(crate) began: Now,
}

/// When a query came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    instant: Instant,
    /// Since the server's start.
    nanos: u64,
}

impl Now {
    pub(crate) fn elapsed(self) -> Duration {
        self.instant.elapsed()
    }
}

impl Door {
    pub(crate) fn new(
        names: SharedNames,
        access: Access,
        rates: Rates,
        log: Option<Log>,
        metrics: Metrics,
        ahead: UnboundedSender<Ahead>,
    ) -> Self {
        Self {
            names,
            log,
            metrics,
            access,
            all: Limiter::new(rates.all),
            others: Limiter::new(rates.others),
            room: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            ahead,
            begun: Instant::now(),
        }
    }

    pub(crate) fn way(&self, address: SocketAddr, transport: Transport, writer: Writer) -> Way {
        Way { address, transport, block: self.metrics.block(address, transport, writer) }
    }

    pub(crate) fn now(&self) -> Now {
        let instant = Instant::now();
        Now { instant, nanos: instant.duration_since(self.begun).as_nanos() as u64 }
    }

    /// Answers into `out` if that can be done at once.
    #[expect(clippy::too_many_arguments, reason = "the hot path: each of them lives elsewhere and for another time")]
    pub(crate) fn first(
        &self,
        names: &Names,
        way: &Way,
        client: IpAddr,
        bytes: &[u8],
        now: Now,
        spin: &mut Spin,
        out: &mut Vec<u8>,
    ) -> Step {
        if !self.all.admit(client, now.nanos) {
            return self.turn_away(way.transport, bytes, spin, out);
        }
        let asker = Asker { transport: way.transport, client, access: &self.access };
        let pending = match respond(names, asker, bytes, spin, out) {
            Outcome::Silence => return Step::Silence,
            Outcome::Said(facts) => return Step::Said(facts),
            Outcome::Ask(pending) => pending,
        };
        if !self.others.admit(client, now.nanos) {
            return self.turn_away(way.transport, bytes, spin, out);
        }
        match self.room.clone().try_acquire_owned() {
            Ok(room) => Step::Ask(pending, room),
            Err(_) => {
                self.metrics.overflown.inc();
                Step::Said(pending.refuse(ResponseCode::ServFail, way.transport, out))
            }
        }
    }

    /// Has a query by UDP answered later, by the thread that asks other servers.
    pub(crate) fn ask_others(&self, ahead: Ahead) {
        // Bounded by the permits. Nobody listens at the end of the server.
        let _ = self.ahead.send(ahead);
    }

    /// What becomes of a query that is one too many: by UDP every other one is dropped, so that a flood in somebody's name
    /// is halved, and the others are told to come by TCP, where nobody's name can be forged (as in response rate limiting
    /// of BIND and NSD with a slip of 2).
    fn turn_away(&self, transport: Transport, bytes: &[u8], spin: &mut Spin, out: &mut Vec<u8>) -> Step {
        self.metrics.turned_away.inc();
        if transport == Transport::Udp && spin.coin() {
            return Step::Silence;
        }
        turn_away(bytes, transport, out).map_or(Step::Silence, Step::Said)
    }
}

/// A number that nobody can guess, for [`Spin`].
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one(())
}
