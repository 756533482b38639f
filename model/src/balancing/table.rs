//! Every annotation: what it may say, what holds without it, for which listeners, and what it does.
//!
//! `docs/load-balancer.md` shows these rows, and a test compares the two; settings are read through them alone
//! ([`annotations`](super::annotations)), so none is read that is not told of. Sources: the cloud's documentation of the
//! annotations of its classic (CLB) and its network load balancer (NLB), and what its controller does with them.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Behind one of [`PREFIXES`](super::PREFIXES).
    pub suffix: &'static str,
    pub values: &'static str,
    pub default: &'static str,
    /// The listeners that it counts for, or what else.
    pub scope: &'static str,
    /// What it does, or why it does nothing here.
    pub effect: &'static str,
    /// Otherwise it is accepted, and an Event tells that it has no effect.
    pub works: bool,
}

/// The row of a suffix.
pub fn row(suffix: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.suffix == suffix)
}

const fn works(
    suffix: &'static str,
    values: &'static str,
    default: &'static str,
    scope: &'static str,
    effect: &'static str,
) -> Row {
    Row { suffix, values, default, scope, effect, works: true }
}

const fn ignored(suffix: &'static str, effect: &'static str) -> Row {
    Row { suffix, values: "any", default: "", scope: "", effect, works: false }
}

const INSTANCE: &str = "instance";
const ALL: &str = "all";
const L4: &str = "TCP, UDP";
const L7: &str = "HTTP, HTTPS";
const TLS: &str = "HTTPS, TCPSSL";
const HTTPS: &str = "HTTPS";
const CHECKS: &str = "checks";
const HTTP_CHECKS: &str = "HTTP checks";
const BACKENDS: &str = "backends";
const BILLING: &str = "billing of the cloud";

/// In the order of the documentation.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    works("id", "name of a LoadBalancer", "an instance of its own", INSTANCE, "Use an instance that somebody made by hand. It is never deleted with the Service"),
    works("force-override-listeners", "`true`, `false`", "`false`", INSTANCE, "With `id`: make, change and remove the instance's listeners for the Service's ports. Those that serve another Service are never touched. Without it listeners are left alone"),
    works("name", "text, at most 80 characters", "`a` and the UID without dashes, cut to 32 characters", INSTANCE, "`spec.displayName` of the instance"),
    works("address-type", "`internet`, `intranet`", "`internet`", INSTANCE, "Which pools the address comes from. It cannot be changed"),
    works("ip", "address, or one of each family with a comma between", "`spec.loadBalancerIP`, else any", INSTANCE, "Ask for this address. It cannot be changed"),
    works("ip-version", "`ipv4`, `ipv6`, `DualStack`", "the Service's first family; both with `ipFamilyPolicy: RequireDualStack`", INSTANCE, "The families of the addresses. It cannot be changed"),
    works("ipv6-address-type", "`internet`, `intranet`", "`address-type`", INSTANCE, "Must be the same as `address-type`: an instance faces one side"),
    works("vswitch-id", "name of an AddressPool", "any that fits", INSTANCE, "Take addresses from this pool. It cannot be changed"),
    works("master-zoneid", "name of an edge node", "any", INSTANCE, "The edge node that holds the instance as long as it lives"),
    works("hostname", "DNS name", "", INSTANCE, "`status.loadBalancer.ingress` has this name in place of the address"),
    works("additional-resource-tags", "`k1=v1,k2=v2`", "", INSTANCE, "Labels of the LoadBalancer object"),
    works("preserve-lb-on-delete", "anything, also `false`", "", INSTANCE, "When the Service goes the instance stays, with its address and listeners, as one that was made by hand. Event `PreservedOnDelete`"),

    works("protocol-port", "`https:443,http:80`; `tcp`, `udp`, `http`, `https`, `tcpssl`", "the port's protocol", ALL, "What the listener of a port speaks. Entries of ports that the Service does not have are passed over"),
    works("listener-port-range", "`1000-2000:80`", "", L4, "The listener of a port takes a range of ports. Only with `backend-type: eni`; its health check is always on"),
    works("scheduler", "`rr`, `wrr`, `wlc`, `sch`", "`rr`; `sch` for HTTP and HTTPS with `sessionAffinity: ClientIP`", ALL, "In turn; in turn by weight; fewest connections or requests by weight; by the client's address"),
    works("persistence-timeout", "0–3600 s", "0: off; with `sessionAffinity: ClientIP` its timeout", L4, "A client stays with its backend so long after its last connection"),
    works("established-timeout", "10–900 s", "900", "TCP, TCPSSL", "A connection without traffic is forgotten after so long"),
    works("idle-timeout", "1–60 s; class `alibabacloud.com/nlb`: 1–900 s", "15", L7, "A client's connection without a request is closed after so long. With class `alibabacloud.com/nlb` also for TCP and TCPSSL, as `established-timeout`"),
    works("request-timeout", "1–180 s", "60", L7, "A backend has so long to begin its answer; then 504"),
    works("connection-drain", "`on`, `off`", "`off`; HTTP, HTTPS: on", ALL, "What is under way with a backend that has gone or failed may end"),
    works("connection-drain-timeout", "10–900 s", "300; HTTP, HTTPS: `request-timeout`", ALL, "For so long"),
    works("proxy-protocol", "`on`, `off`", "`off`", L4, "PROXY protocol v2 towards the backends"),
    works("preserve-client-ip", "`on`, `off`", "`on` with policy Local and with `backend-type: eni`, else `off`", L4, "Backends see the client's own address"),
    works("cps", "0–1000000", "0: no limit", ALL, "New connections per second that are let in"),
    works("acl-status", "`on`, `off`", "`off`", ALL, "Whether the access lists count"),
    works("acl-id", "names of AccessLists with commas between", "", ALL, "The lists"),
    works("acl-type", "`white`, `black`", "", ALL, "Only who stands in one, or all but those. **White lists without an entry admit nobody**, unlike the cloud's"),

    works("cert-id", "Secret: `NAME` or `NAMESPACE/NAME`", "needed", TLS, "The certificate, of type `kubernetes.io/tls`. NLB takes several with commas between"),
    works("domain-extensions", "`domain:Secret,…`", "", HTTPS, "Certificates for clients that ask for these names"),
    works("additional-cert-ids", "Secrets with commas between", "", TLS, "Further certificates, chosen by the names in them"),
    works("tls-cipher-policy", "`tls_cipher_policy_1_0`, `_1_1`, `_1_2`, `_1_2_strict`, `_1_2_strict_with_1_3`", "`tls_cipher_policy_1_2`", TLS, "Versions and ciphers. TLS before 1.2 is not spoken, whatever the policy"),
    works("http2-enabled", "`on`, `off`", "`on`", HTTPS, "HTTP/2"),
    works("cacert", "`on`, `off`", "`off`", TLS, "Clients must show a certificate"),
    works("cacert-id", "Secret with `ca.crt`", "needed with `cacert: on`", TLS, "Of an authority in here"),
    works("alpn", "`on`, `off`", "`off`", "TCPSSL", "Whether ALPN is answered"),
    works("alpn-policy", "`HTTP1Only`, `HTTP2Only`, `HTTP2Preferred`, `HTTP2Optional`", "`HTTP2Optional`", "TCPSSL", "How"),

    works("forward-port", "`80:443,88:6443`", "", "HTTP", "Every request is redirected to https at the other port"),
    works("sticky-session", "`on`, `off`", "`off`", L7, "A client stays with its backend by a cookie"),
    works("sticky-session-type", "`insert`, `server`", "needed with `sticky-session: on`", L7, "The load balancer makes the cookie, or writes into the application's"),
    works("cookie-timeout", "1–86400 s", "as long as the browser runs", L7, "`insert`: how long the cookie lasts"),
    works("cookie", "name, 1–200 characters", "needed with `server`; `insert`: `SERVERID`", L7, "The cookie"),
    works("xforwardedfor-proto", "`on`, `off`", "`off`", L7, "`X-Forwarded-Proto`. `X-Forwarded-For` is always set"),
    works("xforwardedfor-slbport", "`on`, `off`", "`off`", L7, "`X-Forwarded-Port`: the listener's"),
    works("xforwardedfor-clientsrcport", "`on`, `off`", "`off`", L7, "`X-Forwarded-Client-srcport`"),

    works("health-check-flag", "`on`, `off`", "`off`; class `alibabacloud.com/nlb`: `on`", "HTTP, HTTPS; NLB: all", "Whether backends are checked"),
    works("health-check-switch", "`on`, `off`", "`on`", L4, "Whether backends are checked"),
    works("health-check-type", "`tcp`, `http`", "`tcp`", "TCP, TCPSSL", "How. HTTP and HTTPS listeners are checked by HTTP, UDP by a datagram"),
    works("health-check-uri", "path", "`/`", HTTP_CHECKS, "What is asked for"),
    works("health-check-method", "`head`, `get`", "`head`", HTTP_CHECKS, ""),
    works("health-check-domain", "`$_ip` or a domain, at most 80 characters", "`$_ip`: the backend's address", HTTP_CHECKS, "The Host"),
    works("health-check-httpcode", "of `http_2xx,http_3xx,http_4xx,http_5xx`", "`http_2xx`", HTTP_CHECKS, "The codes of a healthy backend"),
    works("health-check-connect-port", "1–65535, or -520", "-520: the backend's own", CHECKS, "The port that is asked"),
    works("health-check-interval", "1–50 s", "2", CHECKS, "From one check to the next"),
    works("health-check-connect-timeout", "1–300 s", "5", "checks of TCP, UDP, TCPSSL", "The time for an answer"),
    works("health-check-timeout", "1–300 s", "5", "checks of HTTP, HTTPS", "The same; the interval where that is longer"),
    works("healthy-threshold", "2–10", "3", CHECKS, "So many successes in a row put a backend in"),
    works("unhealthy-threshold", "2–10", "3", CHECKS, "So many failures in a row take it out"),

    works("backend-type", "`eni`, `ecs`", "`ecs`; `eni` if `allocateLoadBalancerNodePorts: false` leaves a port without one", BACKENDS, "Pods at their own addresses, or nodes at the node port. Also as `service.beta.kubernetes.io/backend-type`"),
    works("backend-label", "`k1=v1,k2=v2`", "", BACKENDS, "Only nodes with all of these labels"),
    works("remove-unscheduled-backend", "`on`, `off`", "`off`", BACKENDS, "Without nodes that are cordoned"),
    works("backend-ip-version", "`ipv4`, `ipv6`", "that of the address", BACKENDS, "The other family than the address's only for HTTP, HTTPS, TCPSSL and PROXY protocol, and where the Service has no endpoints of the address's own"),
    works("default-weight", "0–100", "100", BACKENDS, "Of each backend. Nodes of policy Local weigh as many as they have Pods"),
    works("vgroup-port", "`GROUP:80,…`", "", BACKENDS, "With `id`: the port's backends join the listener whose `group` is this, beside those of other Services"),
    works("weight", "0–100", "none", BACKENDS, "With `vgroup-port`: of all backends of this Service together"),
    works("ignore-weight-update", "`on`, `off`", "`off`", BACKENDS, "Weights that somebody wrote into the LoadBalancer by hand stay"),

    ignored("external-ip-type", "addresses are on the edge nodes themselves"),
    ignored("delete-protection", "an instance that is deleted by hand is made anew with the address that it had"),
    ignored("modification-protection", "what is changed by hand is put right at once"),
    ignored("resource-group-id", "the cloud's grouping"),
    ignored("spec", BILLING),
    ignored("instance-charge-type", BILLING),
    ignored("charge-type", BILLING),
    ignored("bandwidth", "bandwidth is not limited"),
    ignored("bandwidth-package-id", BILLING),
    ignored("network-type", "there is one network"),
    ignored("slb-network-type", "there is one network"),
    ignored("slave-zoneid", "any other edge node takes over"),
    ignored("type", "use `spec.loadBalancerClass`"),
    ignored("tunnel-type", "the cloud's tunnels"),
    ignored("zone-maps", "use `vswitch-id` and `master-zoneid`"),
    ignored("security-group-ids", "use `loadBalancerSourceRanges` or `acl-id`"),
    ignored("cross-zone-enabled", "edge nodes send to all zones"),
    ignored("server-group-type", "nodes are always known by their addresses"),
    ignored("ppv2-pvl-ep-id-enabled", "the cloud's private links"),
    ignored("ppv2-pvl-eps-id-enabled", "the cloud's private links"),
    ignored("ppv2-pvl-vpc-id-enabled", "the cloud's private links"),
];

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const BEGIN: &str = "<!-- annotations: model/src/balancing/table.rs -->\n";
    const END: &str = "<!-- end of annotations -->";

    fn shown() -> String {
        let mut text = "\n| `…-` | values | default | for | effect |\n|---|---|---|---|---|\n".to_owned();
        let cell = |text: &str| text.replace('|', "\\|");
        for row in ROWS.iter().filter(|row| row.works) {
            let Row { suffix, values, default, scope, effect, .. } = row;
            let cells = [values, default, scope, effect].map(|text| cell(text));
            writeln!(text, "| `{suffix}` | {} |", cells.join(" | ").trim_end()).unwrap();
        }
        text += "\nThese are accepted and have no effect; an Event `FeatureNotSupported` lists those of a Service:\n\n";
        text += "| `…-` | why |\n|---|---|\n";
        for row in ROWS.iter().filter(|row| !row.works) {
            writeln!(text, "| `{}` | {} |", row.suffix, cell(row.effect)).unwrap();
        }
        text + "\n"
    }

    #[test]
    fn the_documentation_shows_these_rows() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/load-balancer.md");
        let document = std::fs::read_to_string(path).unwrap();
        let (before, rest) = document.split_once(BEGIN).unwrap();
        let (now, after) = rest.split_once(END).unwrap();
        if now != shown() && std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, [before, BEGIN, &shown(), END, after].concat()).unwrap();
        } else {
            assert!(now == shown(), "docs/load-balancer.md is not what the table says; run with UPDATE_EXPECT=1");
        }
    }

    #[test]
    fn no_row_is_there_twice() {
        let mut suffixes: Vec<&str> = ROWS.iter().map(|row| row.suffix).collect();
        suffixes.sort_unstable();
        assert!(suffixes.windows(2).all(|two| two[0] != two[1]));
    }
}
