//! `portolan server`: opens sockets, keys and store, and serves until it is told to stop.
//!
//! Order matters: sockets first (a port in use is the commonest mistake and changes nothing), then keys, then the
//! database; `admin.kubeconfig` last, so that whoever sees it can connect.

mod advertise;
mod clients;
mod issuer;
pub mod kubeconfig;
mod listen;
mod nodes;
mod pki;

use std::fs::DirBuilder;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tracing::info;

use crate::cli::ServerArgs;
use crate::{Failure, files, memory};

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6443);

/// Runs the server until SIGTERM or SIGINT.
pub fn run(args: ServerArgs) -> Result<(), Failure> {
    check_ranges(&args.service_cidr)?;
    let pod_ranges = pod_ranges(&args)?;
    let limits = args.limits.limits(files::allow(args.limits.max_connections));
    let listeners = listen::open(&args)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&args.data_dir)
        .map_err(|e| Failure::new(format!("cannot make the data directory {}", args.data_dir.display()), &e))?;
    let advertised = advertise::addresses(&args.advertise_address, &listeners.secure)?;
    let names = certificate_names(&args, &listeners.secure, &advertised.addresses);
    let pki = pki::load_or_create(&args.data_dir, &names).map_err(|e| Failure::new("setting up keys", &e))?;

    let audit = args.audit.config().map(|config| {
        let doing = format!("cannot open the audit log {} (--audit-log-path)", config.path.display());
        api::Audit::open(config).map_err(|e| Failure::new(doing, &e))
    });
    let audit = audit.transpose()?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new("starting the async runtime", &e))?;
    let bounds = Bounds { limits, audit: audit.clone() };
    let served = runtime.block_on(serve(args, bounds, listeners, pki, advertised, pod_ranges));
    // Last, so that it has everything.
    if let Some(audit) = audit {
        audit.close();
    }
    served
}

/// A database of so many bytes is read into huge pages.
const LARGE_BYTES: u64 = 8 << 20;

/// So many objects are worth huge pages: with fewer, most of such a page would be empty.
const LARGE_OBJECTS: usize = 4096;

/// Lets the heap have huge pages when there is enough to fill them.
async fn grow(store: store::Store) {
    let mut revisions = store.revisions();
    let mut next = 0;
    loop {
        // There is an object for each revision at most.
        let Ok(revision) = revisions.wait_for(|revision| *revision >= next).await.map(|revision| *revision) else {
            return;
        };
        let objects: usize = model::Resource::ALL.into_iter().map(|resource| store.size(resource, None)).sum();
        let Some(lacking) = LARGE_OBJECTS.checked_sub(objects).filter(|lacking| *lacking > 0) else { break };
        next = revision + lacking as u64;
    }
    memory::restore_pages();
}

/// What requests are held to, and recorded in.
struct Bounds {
    limits: api::Limits,
    audit: Option<api::Audit>,
}

async fn serve(
    args: ServerArgs,
    bounds: Bounds,
    listeners: listen::Listeners,
    pki: pki::Pki,
    advertised: store::Api,
    pod_ranges: Vec<store::PodRange>,
) -> Result<(), Failure> {
    let path = args.data_dir.join("portolan.db");
    // What cannot be told is opened in a moment, or refused there.
    if std::fs::metadata(&path).is_ok_and(|file| file.len() >= LARGE_BYTES) {
        memory::restore_pages();
    }
    let store = store::Store::open(store::Config {
        path,
        service_cidrs: args.service_cidr.clone(),
        node_ports: args.node_port_range.clone(),
        history: store::History {
            max_events: args.history_events as usize,
            max_age: Duration::from_secs(u64::from(args.history_seconds)),
            ..store::History::default()
        },
        api: Some(advertised),
        pod_ranges,
        standing: access::defaults::objects(),
        balancers: args.balancers.limits(),
    })
    .await
    .map_err(|e| Failure::new("opening the store", &e))?;

    let handle = store.clone();
    tokio::spawn(grow(store.clone()));
    let issuer: Arc<dyn api::Issuer> =
        Arc::new(issuer::NodeIssuer::new(pki.authority, pki.ca_pem.clone(), args.cluster_signing_duration));
    let (beats, controller) =
        nodes::start(store.clone(), args.nodes.times(), args.balancers.options(), &args.controllers);
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    let config = api::Config {
        issuer: Some(issuer),
        signer: Some(pki.signer),
        clients: Some(pki.clients),
        heartbeats: Some(beats),
        limits: bounds.limits,
        audit: bounds.audit,
        ..api::Config::new(store, &*pki.token, version)
    };
    let router = api::router(&config);

    let url = format!("https://{}", reachable(listeners.secure[0].1));
    let kubeconfig = kubeconfig::admin(&url, &pki.ca_pem, &pki.token);
    let kubeconfig = serde_saphyr::to_string(&kubeconfig).map_err(|e| Failure::new("writing admin.kubeconfig", &e))?;
    pki::write_private(&args.data_dir.join("admin.kubeconfig"), kubeconfig.as_bytes())
        .map_err(|e| Failure::new("writing admin.kubeconfig", &e))?;

    let mut sockets = Vec::new();
    for (socket, address) in listeners.secure {
        info!("listening on https://{address}");
        sockets.push(api::Listener { socket, tls: Some(pki.tls.clone()) });
    }
    if let Some((socket, address)) = listeners.insecure {
        info!("listening on http://{address}");
        sockets.push(api::Listener { socket, tls: None });
    }
    info!("kubectl --kubeconfig {} get services", args.data_dir.join("admin.kubeconfig").display());
    let stop = crate::agent::stop_signal().map_err(|e| Failure::new("listening for signals", &e))?;
    let served = tokio::select! {
        served = api::serve(router, &config.limits, sockets, stop) => served,
        // Without it dead nodes would be sent to for ever. Whoever started this server starts it anew.
        ended = controller => Err(std::io::Error::other(ended.err().map_or_else(String::new, |e| e.to_string()))),
    };
    // Moves the write-ahead log into the database; what was acknowledged is durable without it.
    handle.close().await;
    served.map_err(|e| Failure::new("serving", &e))
}

/// Where a client on this machine reaches a listener: the unspecified address stands for loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()) } else { address }
}

/// At most one range per family, each with room for an address.
fn check_ranges(cidrs: &[IpNet]) -> Result<(), Failure> {
    let v4 = cidrs.iter().filter(|c| matches!(c, IpNet::V4(_))).count();
    if cidrs.is_empty() || v4 > 1 || cidrs.len() - v4 > 1 {
        return Err(Failure::text(
            "--service-cidr takes one range, or one per family, as 10.96.0.0/16,fd00:10:96::/112",
        ));
    }
    for cidr in cidrs {
        let (shortest, longest) = if matches!(cidr, IpNet::V4(_)) { (8, 30) } else { (64, 126) };
        if !(shortest..=longest).contains(&cidr.prefix_len()) || cidr.trunc() != *cidr {
            return Err(Failure::text(format!(
                "--service-cidr {cidr}: the prefix must be /{shortest} to /{longest} and no host bit may be set"
            )));
        }
    }
    Ok(())
}

/// At most one range per family for pods, apart from those for Services, each with room for a Node.
fn pod_ranges(args: &ServerArgs) -> Result<Vec<store::PodRange>, Failure> {
    let cidrs = &args.cluster_cidr;
    let v4 = cidrs.iter().filter(|c| matches!(c, IpNet::V4(_))).count();
    if v4 > 1 || cidrs.len() - v4 > 1 {
        return Err(Failure::text(
            "--cluster-cidr takes one range, or one per family, as 10.244.0.0/16,fd00:10:244::/48",
        ));
    }
    let range = |cidr: &IpNet| {
        let overlaps = |other: &&IpNet| other.contains(cidr) || cidr.contains(*other);
        if let Some(service) = args.service_cidr.iter().find(overlaps) {
            return Err(Failure::text(format!("--cluster-cidr {cidr} overlaps with --service-cidr {service}")));
        }
        let (mask, flag) = match cidr {
            IpNet::V4(_) => (args.node_cidr_mask_size_ipv4, "--node-cidr-mask-size-ipv4"),
            IpNet::V6(_) => (args.node_cidr_mask_size_ipv6, "--node-cidr-mask-size-ipv6"),
        };
        store::PodRange::new(*cidr, mask).map_err(|e| Failure::text(format!("--cluster-cidr, {flag}: {e}")))
    };
    cidrs.iter().map(range).collect()
}

/// The names a client may reach the server by: loopback, the listeners, the Service of the API and where it
/// leads, and what was asked for. The Service's names are those under `cluster.local`; for another zone there is `--tls-san`.
fn certificate_names(
    args: &ServerArgs,
    listeners: &[(std::net::TcpListener, SocketAddr)],
    advertised: &[IpAddr],
) -> Vec<String> {
    let mut names: Vec<String> = [
        "localhost",
        "127.0.0.1",
        "::1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .map(str::to_owned)
    .to_vec();
    names.extend(args.service_cidr.iter().filter_map(|cidr| cidr.hosts().next()).map(|ip| ip.to_string()));
    names.extend(listeners.iter().map(|(_, a)| a.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()));
    names.extend(advertised.iter().map(IpAddr::to_string));
    names.extend(args.tls_san.iter().cloned());
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn ranges_for_pods_are_divided_among_nodes() {
        let ranges = |arguments: &[&str]| {
            let line = ["portolan", "server"].iter().chain(arguments);
            match crate::cli::Cli::parse_from(line).command {
                crate::cli::Command::Server(args) => pod_ranges(&args).map(|ranges| ranges.len()),
                _ => panic!("another command"),
            }
        };
        assert_eq!(ranges(&[]).unwrap(), 0);
        assert_eq!(ranges(&["--cluster-cidr=10.244.0.0/16,fd00:10:244::/48"]).unwrap(), 2);
        assert_eq!(ranges(&["--cluster-cidr=10.244.0.0/16", "--node-cidr-mask-size-ipv4=26"]).unwrap(), 1);
        for (arguments, hint) in [
            (&["--cluster-cidr=10.244.0.0/16,10.245.0.0/16"][..], "one per family"),
            (&["--cluster-cidr=10.0.0.0/8"], "--service-cidr 10.96.0.0/16"),
            (&["--cluster-cidr=10.244.0.0/25"], "--node-cidr-mask-size-ipv4"),
            (&["--cluster-cidr=fd00:20::/32"], "--node-cidr-mask-size-ipv6"),
        ] {
            let error = ranges(arguments).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn ranges_that_cannot_work_are_refused() {
        let nets = |text: &str| text.split(',').map(|c| c.parse().unwrap()).collect::<Vec<IpNet>>();
        for good in ["10.96.0.0/16", "10.96.0.0/16,fd00:10:96::/112", "fd00:10:96::/112,10.96.0.0/12"] {
            assert!(check_ranges(&nets(good)).is_ok(), "{good}");
        }
        for bad in ["10.96.0.0/16,10.97.0.0/16", "10.96.0.1/16", "10.96.0.0/32", "fd00::/48", "0.0.0.0/0"] {
            assert!(check_ranges(&nets(bad)).is_err(), "{bad}");
        }
    }
}
