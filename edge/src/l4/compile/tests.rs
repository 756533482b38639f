use model::types::{AccessListEntry, ListenerProtocol};

use super::*;

fn backend(address: &str, weight: u16) -> Backend {
    Backend { address: address.parse().unwrap(), weight, node: "node-1".into(), health_check_node_port: None }
}

fn active(address: &str, listener: Listener, backends: &[(&str, u16)]) -> Active {
    Active {
        instance: "lb-1".into(),
        address: address.parse().unwrap(),
        listener: Arc::new(listener),
        backends: backends.iter().map(|(address, weight)| backend(address, *weight)).collect(),
    }
}

fn listener(port: u16, scheduler: Scheduler) -> Listener {
    Listener { port, scheduler, ..Listener::default() }
}

/// The plan of the one instance.
fn plan(active: &[Active], lists: &[(&str, &[&str])], relays: &Relays) -> ServicePlan {
    let list = |(name, entries): &(&str, &[&str])| {
        let mut list = AccessList::default();
        list.spec.entries =
            entries.iter().map(|e| AccessListEntry { cidr: (*e).into(), ..Default::default() }).collect();
        ((*name).to_owned(), Arc::new(list))
    };
    let access_lists = lists.iter().map(list).collect();
    let addresses = BTreeMap::new();
    let input = Input { name: "edge-1", addresses: &addresses, active, access_lists: &access_lists, relays };
    let plan = compile(&input);
    (*plan.services[&key("lb-1")]).clone()
}

fn shares_of(plan: &ServicePlan) -> Vec<u16> {
    plan.pools[0].endpoints.iter().map(|e| e.share).collect()
}

const BACKENDS: &[(&str, u16)] = &[("10.0.0.1:80", 100), ("10.0.0.2:80", 50), ("10.0.0.3:80", 0), ("[fd00::1]:80", 9)];

#[test]
fn schedulers_and_weights() {
    let of = |scheduler| plan(&[active("192.0.2.1", listener(80, scheduler), BACKENDS)], &[], &Relays::default());
    let rr = of(Scheduler::Rr);
    assert_eq!((rr.pools[0].method, shares_of(&rr)), (Method::Turns, vec![1, 1]));
    for scheduler in [Scheduler::Wrr, Scheduler::Wlc] {
        let wrr = of(scheduler);
        assert_eq!((wrr.pools[0].method, shares_of(&wrr)), (Method::Turns, vec![2, 1]));
    }
    let hash = of(Scheduler::Sch);
    assert_eq!((hash.pools[0].method, shares_of(&hash)), (Method::Hash, vec![2, 1]));
    assert!(rr.echo && rr.addresses == [IpAddr::from([192, 0, 2, 1])]);
}

#[test]
fn addresses_timeouts_and_nobody() {
    let kept = Listener { keep_client_address: true, established_seconds: 10, ..listener(80, Scheduler::Rr) };
    let nobody = active("192.0.2.1", listener(81, Scheduler::Rr), &[("10.0.0.9:1", 0)]);
    let udp = Listener { protocol: ListenerProtocol::Udp, persistence_seconds: 30, ..listener(80, Scheduler::Rr) };
    let all = [active("192.0.2.1", kept, BACKENDS), nobody, active("192.0.2.1", udp, BACKENDS)];
    let plan = plan(&all, &[], &Relays::default());
    let find = |port, protocol| plan.frontends.iter().find(|f| (f.port, f.protocol) == (port, protocol)).unwrap();
    assert!(matches!(find(80, Protocol::Tcp).action, Action::Balance { masquerade: false, .. }));
    assert_eq!(find(80, Protocol::Tcp).limits.established_seconds, Some(10));
    assert_eq!(find(81, Protocol::Tcp).action, Action::Reject);
    assert!(matches!(find(80, Protocol::Udp).action, Action::Balance { masquerade: true, .. }));
    assert_eq!(find(80, Protocol::Udp).limits.established_seconds, None);
    let sticky: Vec<_> = plan.pools.iter().map(|p| (p.key.protocol, p.affinity_seconds)).collect();
    assert_eq!(sticky, [(Protocol::Tcp, None), (Protocol::Udp, Some(30))]);
}

#[test]
fn a_range_of_ports_is_one_pool() {
    let range = Listener { end_port: Some(1003), ..listener(1000, Scheduler::Rr) };
    let plan = plan(&[active("192.0.2.1", range, BACKENDS)], &[], &Relays::default());
    assert_eq!(plan.frontends.iter().map(|f| f.port).collect::<Vec<_>>(), [1000, 1001, 1002, 1003]);
    assert_eq!(plan.pools.len(), 1);
}

#[test]
fn what_the_proxy_serves_leads_to_it() {
    let relays = Relays {
        tcp: [(Family::V4, "172.31.255.201:9000".parse().unwrap())].into(),
        udp: [("192.0.2.1:53".parse().unwrap(), "172.31.255.201:9053".parse().unwrap())].into(),
    };
    let with = |protocol, port, proxy_protocol| Listener { protocol, proxy_protocol, ..listener(port, Scheduler::Rr) };
    use ListenerProtocol::{Http, Https, Tcp, TcpSsl, Udp};
    for (protocol, port, proxy_protocol, to) in [
        (Http, 80, false, Some("172.31.255.201:9000")),
        (Https, 443, false, Some("172.31.255.201:9000")),
        (TcpSsl, 443, false, Some("172.31.255.201:9000")),
        (Tcp, 80, true, Some("172.31.255.201:9000")),
        (Udp, 53, true, Some("172.31.255.201:9053")),
        // Not there yet.
        (Udp, 54, true, None),
    ] {
        // It knows what to say when there are no backends.
        let plan = plan(&[active("192.0.2.1", with(protocol, port, proxy_protocol), &[])], &[], &relays);
        let found = plan.pools.first().map(|p| p.endpoints[0].socket().to_string());
        assert_eq!(found.as_deref(), to);
        let action = plan.frontends[0].action;
        match to {
            Some(_) => {
                assert!(matches!(action, Action::Balance { masquerade: false, .. }) && plan.pools[0].endpoints[0].local)
            }
            None => assert_eq!(action, Action::Reject),
        }
    }
}

#[test]
fn access() {
    let text = |access: Option<(AccessType, &[&str])>, ranges: Option<&[&str]>, address: &str| {
        let lists: &[(&str, &[&str])] = &[("office", &["10.0.0.0/8", "192.0.2.7", "fd00::/8"]), ("empty", &[])];
        let access = access
            .map(|(type_, lists)| AccessControl { type_, lists: lists.iter().map(|l| (*l).to_owned()).collect() });
        let source_ranges = ranges.unwrap_or_default().iter().map(|r| r.parse().unwrap()).collect();
        let listener = Listener { access, source_ranges, ..listener(80, Scheduler::Rr) };
        let plan = plan(&[active(address, listener, BACKENDS)], lists, &Relays::default());
        let sources = plan.frontends[0].sources.clone();
        sources.map(|s| s.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    use AccessType::{Black, White};
    let v4 = "192.0.2.1";
    assert_eq!(text(None, None, v4), None);
    assert_eq!(text(Some((White, &["office"])), None, v4).unwrap(), "10.0.0.0/8 192.0.2.7/32");
    assert_eq!(text(Some((White, &["office"])), None, "2001:db8::1").unwrap(), "fd00::/8");
    assert_eq!(text(Some((White, &["empty"])), None, v4).unwrap(), "", "an empty white list admits nobody");
    assert_eq!(text(Some((White, &["who"])), None, v4).unwrap(), "");
    assert_eq!(text(Some((Black, &["empty"])), None, v4), None);
    let black = text(Some((Black, &["office"])), None, v4).unwrap();
    assert!(black.contains("128.0.0.0/2") && !black.contains("10.0.0.0/8"), "{black}");
    assert_eq!(text(None, Some(&["10.1.0.0/16", "fd00::/8"]), v4).unwrap(), "10.1.0.0/16");
    assert_eq!(text(None, Some(&["fd00::/8"]), v4).unwrap(), "", "ranges of the other family let nobody in");
    let both = text(Some((White, &["office"])), Some(&["10.1.0.0/16", "192.0.0.0/8"]), v4).unwrap();
    assert_eq!(both, "10.1.0.0/16 192.0.2.7/32");
    assert_eq!(text(Some((Black, &["office"])), Some(&["10.1.0.0/16"]), v4).unwrap(), "");
}
