//! The shell: what is learnt becomes what is done, in one loop.
//!
//! ```text
//!   watches ─▶ world ─┐                   ┌─▶ proxy   (requests, TLS, PROXY headers)
//!   verdicts ─────────┼─▶ task (pure) ────┼─▶ kernel  (connections, datagrams, who may ask)
//!   a minute's tick ──┘                   ├─▶ checker (what is asked of whom)
//!                                         ├─▶ holder  (which addresses are answered for)
//!                                         └─▶ status  (what the objects are to say)
//! ```
//!
//! The order is the point. An address that is another's is let go before anything else; one that is new is answered for
//! when the kernel knows where to send what comes to it. What the kernel refuses is tried again, ever less often, and
//! meanwhile no address is added.
//!
//! Whatever happens to the server, the kernel keeps what it has. When the Lease was taken from this edge, everything is listed
//! anew: the server may have been given another database.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use dataplane::Family;
use dataplane::nftables::ProgramError;
use jiff::Timestamp;
use model::balancing::lease::EdgeLease;
use model::balancing::relayed;
use model::types::{ListenerProtocol, SecretReference};
use proxy_agent::client::Client;
use proxy_agent::http::accept;
use proxy_agent::join;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::Active;
use crate::active::{Counted, Task, task};
use crate::announce::Held;
use crate::config::{Config, EdgeError};
use crate::health::Checker;
use crate::holder::Holder;
use crate::l4::{self, Input, L4, Relays};
use crate::l7::{self, Material, Problem, Proxy, Routes};
use crate::metrics::{Metrics, Site};
use crate::network;
use crate::secret::Secret;
use crate::status::{self, AllWanted};
use crate::watch::{Watches, all};
use crate::world::World;
use proxy_agent::chain;

/// News that is applied before anything is done about it, if so much is queued.
const BATCH: usize = 1024;
/// The waits after the first and after many refusals of the kernel.
const MIN_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(10);
/// How often certificates are looked at although nothing has changed: they end by themselves.
const TICK: Duration = Duration::from_secs(30);
/// How long an edge that ends waits until its instances are others'.
const LEAVING: Duration = Duration::from_secs(2);
/// Connections to the port of metrics and health at a time.
const DOORS: usize = 16;

/// Runs the edge node until `shutdown` is done. The kernel keeps its tables afterwards: what it forwards goes on while the process
/// is being replaced.
///
/// Sockets are opened in the network namespace of the calling thread.
///
/// # Errors
/// When it cannot begin: see [`EdgeError`].
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), EdgeError> {
    // First of all, whether there is any use in it.
    let kernel = L4::open()?;
    tokio::pin!(shutdown);
    let begun = join::begin::<EdgeError>(config.join.clone(), &config.kubeconfig, shutdown.as_mut()).await?;
    let Some((client, renewal)) = begun else { return Ok(()) };
    tokio::select! {
        ended = run_with(config, client, kernel, shutdown) => ended,
        () = renewal => Err(EdgeError::Ended),
    }
}

/// Removes from the kernel what an edge node left there. `false`: there was nothing.
///
/// # Errors
/// When the kernel refuses, e.g. for lack of privileges or because an edge node is running.
pub fn cleanup() -> Result<bool, EdgeError> {
    l4::cleanup().map_err(EdgeError::Cleanup)
}

async fn run_with(
    config: Config,
    client: Client,
    kernel: L4,
    shutdown: impl Future<Output = ()>,
) -> Result<(), EdgeError> {
    let towards_server = client.local_address().await;
    let place = network::find(&config.addresses, config.interface.as_deref(), towards_server)?;
    let address = config.metrics_addr;
    let door = TcpListener::bind(address).await.map_err(|source| EdgeError::Listen { address, source })?;
    warn_unless_forwarding(place.addresses.iter().any(|address| address.ip.is_ipv6()));
    warn_of_redirects(&place.interface);
    let own: Vec<IpAddr> = place.addresses.iter().map(|address| address.ip).collect();
    let proxy = Proxy::start(&l7::Options::new(own))?;
    let metrics = Arc::new(Metrics::default());
    metrics.register(|registry| proxy.register(registry));
    let lease = EdgeLease {
        edge: config.name.clone(),
        held: true,
        addresses: place.addresses.clone(),
        zone: config.zone.clone(),
        ..EdgeLease::default()
    };
    let hold = |source| EdgeError::Hold { interface: place.interface.clone(), source };
    let holder = Holder::start(&client, lease, place.index).map_err(hold)?;

    // Dropped on every way out, and its tasks with it.
    let mut tasks = JoinSet::new();
    let (statuses, wanted) = watch::channel(Arc::default());
    tasks.spawn(status::write(client.clone(), wanted));
    let site = Site { metrics: Arc::clone(&metrics), lease: holder.lease(), facts: holder.facts() };
    tasks.spawn(accept(door, Arc::new(Semaphore::new(DOORS)), move |method, path| site.answer(method, path)));
    info!(edge = config.name, server = client.server_url(), interface = place.interface, "the edge node runs");

    let mut shell = Shell {
        name: config.name,
        world: World::default(),
        checker: Checker::default(),
        kernel,
        proxy,
        relays: Relays::default(),
        holder,
        held: BTreeMap::new(),
        material: BTreeMap::new(),
        problems: Vec::new(),
        refused: BTreeMap::new(),
        statuses,
        metrics,
        refusal: None,
    };
    let watches = all(&client);
    tokio::select! {
        never = shell.serve(&client, watches, shutdown) => never,
        _ = tasks.join_next() => return Err(EdgeError::Ended),
    }?;
    info!("the edge node ends; the kernel keeps its tables");
    shell.proxy.stop(config.grace).await;
    Ok(())
}

/// What the loop works on.
struct Shell {
    name: String,
    world: World,
    checker: Checker,
    kernel: L4,
    proxy: Proxy,
    relays: Relays,
    holder: Holder,
    /// What is answered for: a part of what is held, while the kernel refuses.
    held: BTreeMap<IpAddr, Held>,
    /// Secrets as the proxy reads them, beside what they were read from.
    material: BTreeMap<SecretReference, (Arc<Secret>, Arc<Material>)>,
    problems: Vec<Problem>,
    /// Instances that the kernel does not take, and why.
    refused: BTreeMap<Arc<str>, String>,
    statuses: watch::Sender<Arc<AllWanted>>,
    metrics: Arc<Metrics>,
    /// Set while the kernel refuses everything.
    refusal: Option<Refusal>,
}

struct Refusal {
    cause: String,
    attempts: u32,
    again_at: Instant,
}

impl Shell {
    /// Runs until `shutdown` is done and the instances are others', or that has taken long enough.
    async fn serve(
        &mut self,
        client: &Client,
        mut watches: Watches,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), EdgeError> {
        tokio::pin!(shutdown);
        let mut verdicts = self.checker.verdicts();
        let mut lease = self.holder.lease();
        let (mut cuts, mut losses) = (0, 0);
        let mut batch = Vec::new();
        let changes = self.kernel.as_fd().try_clone_to_owned().and_then(watched);
        let changes = changes.inspect_err(|error| warn!(%error, "what others do to the tables is not heard")).ok();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let again_at = self.refusal.as_ref().map(|refusal| refusal.again_at);
            tokio::select! {
                count = watches.news.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return Err(EdgeError::Ended);
                    }
                    batch.drain(..).for_each(|news| self.world.apply(news));
                }
                Ok(()) = verdicts.changed() => {}
                Ok(()) = lease.changed() => {
                    let lease = lease.borrow_and_update();
                    if std::mem::replace(&mut cuts, lease.cuts) != lease.cuts {
                        client.cut();
                    }
                    if std::mem::replace(&mut losses, lease.losses) != lease.losses {
                        watches = all(client);
                    }
                    continue;
                }
                () = until(again_at) => {}
                _ = tick.tick() => {}
                true = readable(changes.as_ref()) => {
                    self.repair();
                    continue;
                }
                () = &mut shutdown => break,
            }
            self.turn()?;
        }
        self.leave(watches).await;
        Ok(())
    }

    /// Does what is to be done by now.
    fn turn(&mut self) -> Result<(), EdgeError> {
        if !self.world.complete() {
            return Ok(());
        }
        let task = task(&self.world, &self.name, &self.checker.verdicts().borrow());
        // What is another's by now is let go before anything else takes time.
        self.held.retain(|address, held| task.held.get(address) == Some(held));
        self.holder.hold(self.held.clone());
        self.checker.set(task.targets.clone());
        self.read_secrets();
        let material = self.material.iter().map(|(name, (_, material))| (name.clone(), Arc::clone(material))).collect();
        self.problems = self.proxy.set(&Routes::new(&task.active, &material), Timestamp::now());
        self.relays = relays(&self.proxy, &task.active);
        if self.refusal.as_ref().is_none_or(|refusal| refusal.again_at <= Instant::now()) {
            self.program(&task)?;
        }
        self.tell(&task);
        Ok(())
    }

    fn program(&mut self, task: &Task) -> Result<(), EdgeError> {
        let input = Input {
            name: &self.name,
            addresses: &task.addresses,
            active: &task.active,
            access_lists: &self.world.snapshot().access_lists,
            relays: &self.relays,
        };
        match self.kernel.program(&input) {
            Ok(report) => {
                if let Some(refusal) = self.refusal.take() {
                    info!(attempts = refusal.attempts, "the kernel takes plans again");
                }
                self.metrics.took(true);
                let refused = report.refused.into_iter().map(|refused| (refused.service.name.into(), refused.error));
                let refused: BTreeMap<Arc<str>, String> = refused.collect();
                for (instance, cause) in refused.iter().filter(|(name, cause)| self.refused.get(*name) != Some(cause)) {
                    error!(%instance, "the kernel refuses an instance, which is left out: {cause}");
                }
                self.refused = refused;
                self.held = task.held.clone();
                self.holder.hold(self.held.clone());
            }
            Err(error) if self.refusal.is_none() && self.held.is_empty() && hopeless(&error) => {
                return Err(EdgeError::Program(error));
            }
            Err(error) => {
                self.metrics.took(false);
                let cause = chain(&error);
                let attempts = self.refusal.as_ref().map_or(1, |refusal| refusal.attempts.saturating_add(1));
                if self.refusal.as_ref().is_none_or(|refusal| refusal.cause != cause) {
                    error!("the kernel refuses the plan, and keeps what it has: {cause}");
                }
                let wait = MIN_WAIT.saturating_mul(1 << attempts.min(16)).min(MAX_WAIT);
                self.refusal = Some(Refusal { cause, attempts, again_at: Instant::now() + wait });
            }
        }
        Ok(())
    }

    /// Undoes what somebody else did to what is programmed.
    fn repair(&mut self) {
        if let Err(error) = self.kernel.repair() {
            warn!(error = %chain(&error), "what others did to the tables cannot be undone; they are written anew");
            self.refusal = Some(Refusal { cause: String::new(), attempts: 1, again_at: Instant::now() });
        }
    }

    /// Secrets that have changed are read anew, as the proxy needs them.
    fn read_secrets(&mut self) {
        let secrets = self.world.secrets();
        self.material.retain(|name, _| secrets.contains_key(name));
        for (name, secret) in secrets {
            if self.material.get(name).is_some_and(|(from, _)| Arc::ptr_eq(from, secret)) {
                continue;
            }
            let part = |key: &str| secret.data.get(key).map(Vec::as_slice).unwrap_or_default();
            let material = Arc::new(Material::new(part("tls.crt"), part("tls.key"), part("ca.crt")));
            self.material.insert(name.clone(), (Arc::clone(secret), material));
        }
    }

    /// Says what has come of it.
    fn tell(&self, task: &Task) {
        let mut wanted = AllWanted::new();
        let (mut listeners, mut backends, mut healthy) = (0, 0, 0);
        for (name, instance) in &task.instances {
            listeners += instance.listeners.len();
            backends += instance.listeners.iter().map(|counted| counted.backends).sum::<usize>();
            healthy += instance.listeners.iter().map(|counted| counted.healthy).sum::<usize>();
            // While the kernel refuses everything, nothing of it is so.
            let Some(balancer) = self.world.snapshot().balancers.get(&**name).filter(|_| self.refusal.is_none()) else {
                continue;
            };
            let said = status::wanted(&self.name, instance, |counted| self.trouble(name, counted));
            if !said.is_said_by(balancer) {
                wanted.insert(name.to_string(), said);
            }
        }
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.instances.set(gauge(task.instances.len()));
        self.metrics.listeners.set(gauge(listeners));
        self.metrics.backends.set(gauge(backends));
        self.metrics.healthy.set(gauge(healthy));
        self.metrics.refused.set(gauge(self.refused.len()));
        self.statuses.send_if_modified(|shown| {
            let changed = **shown != wanted;
            if changed {
                *shown = Arc::new(wanted);
            }
            changed
        });
    }

    /// What keeps a listener from serving as it should.
    fn trouble(&self, instance: &str, counted: &Counted) -> Option<String> {
        if let Some(cause) = self.refused.get(instance) {
            return Some(format!("the kernel refuses the instance: {cause}"));
        }
        let own = |problem: &&Problem| {
            *problem.instance == *instance
                && problem.port == counted.listener.port
                && problem.protocol == counted.listener.protocol
        };
        self.problems.iter().find(own).map(|problem| problem.message.clone())
    }

    /// Gives the Lease back, and answers for each address until it is another's. The kernel goes on as it is: caches of neighbours
    /// lead here for a while.
    async fn leave(&mut self, mut watches: Watches) {
        let deadline = Instant::now() + LEAVING;
        self.holder.leave().await;
        let mut batch = Vec::new();
        while !self.held.is_empty() {
            tokio::select! {
                count = watches.news.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|news| self.world.apply(news));
                    let held: BTreeMap<&str, u64> =
                        self.world.held_by(&self.name).map(|(name, _, term)| (name, term)).collect();
                    self.held.retain(|_, mine| held.get(&*mine.instance) == Some(&mine.term));
                    self.holder.hold(self.held.clone());
                }
                () = tokio::time::sleep_until(deadline) => {
                    debug!(addresses = self.held.len(), "nobody has taken the addresses over");
                    return;
                }
            }
        }
    }
}

/// Whether trying again cannot help.
fn hopeless(error: &ProgramError) -> bool {
    matches!(error, ProgramError::NotPermitted(_) | ProgramError::Unsupported(_))
}

/// Where the proxy listens, for these.
fn relays(proxy: &Proxy, active: &[Active]) -> Relays {
    let of = |family: Family| Some((family, proxy.tcp(family == Family::V6)?));
    let datagrams =
        active.iter().filter(|active| active.listener.protocol == ListenerProtocol::Udp && relayed(&active.listener));
    let udp = datagrams.filter_map(|active| {
        let at = proxy.udp(active.address, active.listener.port)?;
        Some((SocketAddr::new(active.address, active.listener.port), at))
    });
    Relays { tcp: [Family::V4, Family::V6].into_iter().filter_map(of).collect(), udp: udp.collect() }
}

/// Backends stand on the network that clients come by: a kernel that is let would tell each client to go round this machine, and
/// what goes round it is translated by nobody.
fn warn_of_redirects(interface: &str) {
    for name in ["all", interface] {
        // A name with a dot in it has a slash there.
        let setting = format!("net.ipv4.conf.{}.send_redirects", name.replace('.', "/"));
        let file = format!("/proc/sys/net/ipv4/conf/{name}/send_redirects");
        if std::fs::read_to_string(file).is_ok_and(|text| text.trim() != "0") {
            warn!("this machine sends redirects, so that clients go round it; sysctl -w {setting}=0");
        }
    }
}

/// A machine that does not forward drops what the kernel has translated.
fn warn_unless_forwarding(v6: bool) {
    let off = |path: &str| std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "0");
    if off("/proc/sys/net/ipv4/ip_forward") {
        warn!(
            "this machine does not forward IPv4: no connection will reach a backend; sysctl -w net.ipv4.ip_forward=1"
        );
    }
    if v6 && off("/proc/sys/net/ipv6/conf/all/forwarding") {
        warn!("this machine does not forward IPv6; sysctl -w net.ipv6.conf.all.forwarding=1");
    }
}

fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and the same, until it is dropped, and nothing here exchanges it.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

/// Waits until others have changed the kernel's tables; never, where that cannot be heard.
async fn readable(descriptor: Option<&AsyncFd<OwnedFd>>) -> bool {
    let Some(descriptor) = descriptor else { return std::future::pending().await };
    match descriptor.readable().await {
        Ok(mut guard) => {
            // What is there is read by whoever repairs.
            guard.clear_ready();
            true
        }
        Err(_) => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
