//! The thread that holds addresses: it keeps the Lease and answers for the addresses, and does nothing else.
//!
//! A runtime and a connection of its own, as the agents' beat has: whatever the rest of the process is busy with, the Lease is
//! renewed, and no question waits behind a request that is being balanced. Both stand on one thread, so
//! that one that stands still does neither.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use model::balancing::lease::EdgeLease;
use proxy_agent::client::Client;
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use crate::announce::packet::Packet;
use crate::announce::socket::Link;
use crate::announce::{Announcer, Held};
use crate::lease::fence::Boot;
use crate::lease::{self, Lease, boot};

/// The pause when the interface is down or gone.
const DOWN: Duration = Duration::from_millis(200);

/// What the thread has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Each address that it is to hold, and whether it answers for it.
    pub addresses: BTreeMap<IpAddr, bool>,
    /// How many of them it answers for without a Lease.
    pub kept: usize,
    /// How often somebody else has claimed one of them.
    pub conflicts: u64,
    pub answered: u64,
    pub announced: u64,
}

/// The thread. Dropping this ends it, and with it every answer.
#[derive(Debug)]
pub struct Holder {
    held: watch::Sender<Arc<BTreeMap<IpAddr, Held>>>,
    lease: Arc<watch::Sender<Lease>>,
    facts: watch::Receiver<Facts>,
    leave: mpsc::Sender<()>,
    left: watch::Receiver<bool>,
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Holder {
    /// Begins to renew the Lease, and to answer on the interface, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there can be no thread, no runtime, or no packet sockets (`CAP_NET_RAW`).
    pub fn start(client: &Client, own: EdgeLease, interface: u32) -> io::Result<Self> {
        let (held, orders) = watch::channel(Arc::default());
        let lease = Arc::new(watch::Sender::new(Lease::default()));
        let (told, facts) = watch::channel(Facts::default());
        let (leave, leaving) = mpsc::channel(1);
        let (gone, left) = watch::channel(false);
        let (stop, mut stopped) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let link = {
            let _context = runtime.enter();
            Link::open(interface)?
        };
        let (client, keeping) = (client.apart(), Arc::clone(&lease));
        let responder = Responder { announcer: Announcer::new(link.mac()), link, facts: told, troubled: false };
        let shown = lease.subscribe();
        let thread = std::thread::Builder::new().name("holder".to_owned()).spawn(move || {
            let keeper = async {
                lease::keep(client, own, keeping, leaving).await;
                gone.send_replace(true);
                std::future::pending::<()>().await;
            };
            runtime.block_on(async {
                tokio::select! {
                    () = keeper => {}
                    () = responder.run(orders, shown) => {}
                    // Nothing is ever sent: the sender is gone.
                    _ = stopped.changed() => {}
                }
            });
        })?;
        Ok(Self { held, lease, facts, leave, left, stop: Some(stop), thread: Some(thread) })
    }

    /// These addresses are this edge's from now on.
    pub fn hold(&self, held: BTreeMap<IpAddr, Held>) {
        self.held.send_if_modified(|shown| {
            let changed = **shown != held;
            if changed {
                *shown = Arc::new(held);
            }
            changed
        });
    }

    pub fn lease(&self) -> watch::Receiver<Lease> {
        self.lease.subscribe()
    }

    pub fn facts(&self) -> watch::Receiver<Facts> {
        self.facts.clone()
    }

    /// Gives the Lease back, as far as the server can be reached; the addresses are answered for until somebody else does.
    pub async fn leave(&self) {
        if self.leave.try_send(()).is_ok() {
            let _ = self.left.clone().wait_for(|left| *left).await;
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the thread that holds the addresses had panicked");
        }
    }
}

struct Responder {
    link: Link,
    announcer: Announcer,
    facts: watch::Sender<Facts>,
    troubled: bool,
}

impl Responder {
    async fn run(
        mut self,
        mut orders: watch::Receiver<Arc<BTreeMap<IpAddr, Held>>>,
        mut lease: watch::Receiver<Lease>,
    ) {
        let random = RandomState::new();
        let mut count = 0_u64;
        let mut chance = move || {
            count = count.wrapping_add(1);
            random.hash_one(count)
        };
        let mut shown = Lease::default();
        loop {
            let now = boot();
            let due = self.announcer.step(now, shown.fence.standing(now), &mut chance);
            self.send(&due, false);
            self.tell();
            let wake = self.announcer.next_at().into_iter().chain(shown.fence.changes_at(now)).min();
            tokio::select! {
                biased;
                Ok(()) = lease.changed() => {
                    let next = lease.borrow_and_update().clone();
                    if next.known.as_ref().map(Arc::as_ptr) != shown.known.as_ref().map(Arc::as_ptr) {
                        self.announcer.learn(next.known.clone());
                    }
                    shown = next;
                }
                Ok(()) = orders.changed() => {
                    let held = Arc::clone(&orders.borrow_and_update());
                    self.announcer.set(&held);
                    self.link.listen_for(held.keys().copied());
                }
                () = until(wake) => {}
                () = self.listen(&shown, &mut chance) => {}
            }
        }
    }

    /// Answers questions until something is heard that changes more.
    async fn listen(&mut self, lease: &Lease, chance: &mut impl FnMut() -> u64) {
        loop {
            let heard = match self.link.hear().await {
                Ok(heard) => heard,
                Err(error) => {
                    self.trouble(&error);
                    tokio::time::sleep(DOWN).await;
                    continue;
                }
            };
            let (now, conflicts) = (boot(), self.announcer.conflicts());
            let packets = self.announcer.hear(now, lease.fence.standing(now), heard, &mut *chance);
            self.send(&packets, true);
            if self.announcer.conflicts() != conflicts {
                return;
            }
        }
    }

    fn send(&mut self, packets: &[Packet], answers: bool) {
        for packet in packets {
            match self.link.send(packet) {
                Ok(()) => {
                    self.facts.send_if_modified(|facts| {
                        *if answers { &mut facts.answered } else { &mut facts.announced } += 1;
                        false
                    });
                    if std::mem::take(&mut self.troubled) {
                        info!("the interface works again");
                    }
                }
                Err(error) => self.trouble(&error),
            }
        }
    }

    fn tell(&self) {
        self.facts.send_if_modified(|facts| {
            let same = facts.kept == self.announcer.kept()
                && facts.conflicts == self.announcer.conflicts()
                && facts.addresses.iter().map(|(address, answers)| (*address, *answers)).eq(self.announcer.addresses());
            if same {
                return false;
            }
            facts.kept = self.announcer.kept();
            facts.conflicts = self.announcer.conflicts();
            facts.addresses = self.announcer.addresses().collect();
            true
        });
    }

    fn trouble(&mut self, error: &io::Error) {
        if self.troubled {
            debug!(%error, "the interface still does not work");
        } else {
            warn!(%error, "the interface on which addresses are answered for does not work");
            self.troubled = true;
        }
    }
}

/// Returns at that time since boot; never without one.
async fn until(at: Option<Boot>) {
    match at {
        Some(at) => tokio::time::sleep(at.saturating_sub(boot())).await,
        None => std::future::pending().await,
    }
}
