//! Every refusal of a new Service and of a status, with path and wording.

use expect_test::expect;
use serde_json::{Value, json};

use super::*;

/// One line for each error of each spec; the cluster is dual-stack.
fn refusals(cases: &[Value]) -> String {
    let mut text = String::new();
    for case in cases {
        let mut service = service(case.clone());
        match prepare_create(&mut service, &dual()) {
            Ok(_) => text += &format!("accepted: {case}\n"),
            Err(errors) => text += &lines(&errors),
        }
    }
    text
}

fn with_ports(ports: Value) -> Value {
    json!({"ports": ports})
}

fn with(fields: Value) -> Value {
    let mut spec = json!({"ports": [{"port": 80}]});
    for (key, value) in fields.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

#[test]
fn ports() {
    let cases = [
        json!({}),
        with_ports(json!([{"port": 0}])),
        with_ports(json!([{"port": 99999, "targetPort": 80}])),
        with_ports(json!([{"port": 80}, {"name": "b", "port": 81}])),
        with_ports(json!([{"name": "Web", "port": 80}])),
        with_ports(json!([{"name": "a", "port": 80}, {"name": "a", "port": 81}])),
        with_ports(json!([{"port": 80, "protocol": "HTTP"}])),
        with_ports(json!([{"port": 80, "targetPort": 65536}])),
        with_ports(json!([{"port": 80, "targetPort": "a-name-that-is-long"}])),
        with_ports(json!([{"port": 80, "targetPort": "-8--0_"}])),
        with_ports(json!([{"port": 80, "appProtocol": "a/b/c"}])),
        with_ports(json!([{"port": 80, "nodePort": 30080}])),
        with_ports(json!([{"name": "a", "port": 80}, {"name": "b", "port": 80}])),
        json!({"type": "NodePort", "ports": [
            {"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30080},
        ]}),
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 70000}]}),
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": -1}]}),
    ];
    expect![[r#"
        spec.ports: Required value
        spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
        spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
        spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive
        spec.ports[0].name: Required value
        spec.ports[0].name: Invalid value: "Web": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        spec.ports[1].name: Duplicate value: "a"
        spec.ports[0].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"
        spec.ports[0].targetPort: Invalid value: 65536: must be between 1 and 65535, inclusive
        spec.ports[0].targetPort: Invalid value: "a-name-that-is-long": must be no more than 15 characters
        spec.ports[0].targetPort: Invalid value: "-8--0_": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
        spec.ports[0].targetPort: Invalid value: "-8--0_": must contain at least one letter (a-z)
        spec.ports[0].targetPort: Invalid value: "-8--0_": must not contain consecutive hyphens
        spec.ports[0].targetPort: Invalid value: "-8--0_": must not begin or end with a hyphen
        spec.ports[0].appProtocol: Invalid value: "a/b/c": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
        spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
        spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}
        spec.ports[1].nodePort: Duplicate value: 30080
        spec.ports[0].nodePort: Invalid value: 70000: must be between 1 and 65535, inclusive
        spec.ports[0].nodePort: Invalid value: -1: must be between 1 and 65535, inclusive
    "#]]
    .assert_eq(&refusals(&cases));
}

#[test]
fn types() {
    let cases = [
        with(json!({"type": "Headless"})),
        with(json!({"type": "NodePort", "clusterIP": "None"})),
        with(json!({"type": "LoadBalancer", "clusterIP": "None"})),
        with(json!({"type": "ExternalName"})),
        with(json!({"type": "ExternalName", "externalName": "-bad-"})),
        json!({"type": "ExternalName", "externalName": "db.example.com."}),
        with(json!({
            "type": "ExternalName", "externalName": "db.example.com", "clusterIP": "10.96.0.1",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        })),
        with(json!({"selector": {"a b": "c", "d": "e f"}})),
        with(json!({"loadBalancerClass": "example.com/lb"})),
        with(json!({"type": "LoadBalancer", "loadBalancerClass": "a/b/c"})),
        with(json!({"allocateLoadBalancerNodePorts": true})),
        with(json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]})),
        with(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0", "10.0.0.0/33"]})),
    ];
    expect![[r#"
        spec.type: Unsupported value: "Headless": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"
        spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services
        spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for LoadBalancer services
        spec.externalName: Required value
        spec.externalName: Invalid value: "-bad-": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        accepted: {"externalName":"db.example.com.","type":"ExternalName"}
        spec.clusterIPs: Forbidden: may not be set for ExternalName services
        spec.ipFamilies: Forbidden: may not be set for ExternalName services
        spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services
        spec.selector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.selector: Invalid value: "e f": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'
        spec.loadBalancerClass: Invalid value: "a/b/c": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
        spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'
        spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'
        spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
        spec.LoadBalancerSourceRanges[1]: Invalid value: "10.0.0.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
    "#]]
    .assert_eq(&refusals(&cases));
}

#[test]
fn addresses_and_families() {
    let cases = [
        with(json!({"clusterIP": "10.96.0"})),
        with(json!({"clusterIPs": ["10.96.0.5"]})),
        with(json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.6"]})),
        with(json!({"clusterIP": "None", "clusterIPs": ["None", "10.96.0.6"]})),
        with(json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "10.96.0.6"]})),
        with(json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::6", "10.96.0.7"]})),
        with(json!({"clusterIP": "10.96.0.5", "ipFamilies": ["IPv6"]})),
        with(json!({"clusterIP": "fd00::5", "ipFamilies": ["IPv4"]})),
        with(json!({"ipFamilies": ["IPv5"]})),
        with(json!({"ipFamilies": ["IPv4", "IPv4"]})),
        with(json!({"ipFamilyPolicy": "DualStack"})),
        with(json!({
            "ipFamilyPolicy": "SingleStack", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::5"],
        })),
        with(json!({"externalIPs": ["256.0.0.1", "0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.5"]})),
        with(json!({"externalIPs": ["::", "::1", "fe80::1", "ff02::1", "ff01::1"]})),
    ];
    expect![[r#"
        spec.clusterIPs[0]: Invalid value: "10.96.0": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.clusterIPs: Invalid value: ["10.96.0.5"]: must be empty when `clusterIP` is not specified
        spec.clusterIPs: Invalid value: ["10.96.0.6"]: first value must match `clusterIP`
        spec.clusterIPs: Invalid value: ["None","10.96.0.6"]: 'None' must be the first and only value
        spec.clusterIPs: Invalid value: ["10.96.0.5","10.96.0.6"]: may specify no more than one IP for each IP family
        spec.clusterIPs: Invalid value: ["10.96.0.5","fd00::6","10.96.0.7"]: may only hold up to 2 values
        spec.clusterIPs: Invalid value: ["10.96.0.5","fd00::6","10.96.0.7"]: may specify no more than one IP for each IP family
        spec.clusterIPs[0]: Invalid value: "10.96.0.5": expected an IPv6 value as indicated by `ipFamilies[0]`
        spec.clusterIPs[0]: Invalid value: "fd00::5": expected an IPv4 value as indicated by `ipFamilies[0]`
        spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"
        spec.ipFamilies[1]: Duplicate value: "IPv4"
        spec.ipFamilyPolicy: Unsupported value: "DualStack": supported values: "PreferDualStack", "RequireDualStack", "SingleStack"
        spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified
        spec.externalIPs[0]: Invalid value: "256.0.0.1": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.externalIPs[1]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)
        spec.externalIPs[2]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
        spec.externalIPs[3]: Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)
        spec.externalIPs[4]: Invalid value: "224.0.0.5": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)
        spec.externalIPs[0]: Invalid value: "::": may not be unspecified (::)
        spec.externalIPs[1]: Invalid value: "::1": may not be in the loopback range (127.0.0.0/8, ::1/128)
        spec.externalIPs[2]: Invalid value: "fe80::1": may not be in the link-local range (169.254.0.0/16, fe80::/10)
        spec.externalIPs[3]: Invalid value: "ff02::1": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)
    "#]]
    .assert_eq(&refusals(&cases));
}

#[test]
fn traffic() {
    let local = |fields: Value| {
        let mut spec = with(fields);
        spec["type"] = "LoadBalancer".into();
        spec["externalTrafficPolicy"] = "Local".into();
        spec
    };
    let cases = [
        with(json!({"sessionAffinity": "Cookie"})),
        with(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}})),
        with(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}})),
        with(json!({"externalTrafficPolicy": "Cluster"})),
        with(json!({"type": "NodePort", "externalTrafficPolicy": "Global"})),
        with(json!({"internalTrafficPolicy": "Global"})),
        with(json!({"trafficDistribution": "PreferFar"})),
        with(json!({"type": "NodePort", "healthCheckNodePort": 30001})),
        local(json!({"healthCheckNodePort": 70000})),
        local(json!({"healthCheckNodePort": 30001, "ports": [{"port": 80, "nodePort": 30001}]})),
    ];
    expect![[r#"
        spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"
        spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400
        spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400
        spec.externalTrafficPolicy: Invalid value: "Cluster": may only be set for externally-accessible services
        spec.externalTrafficPolicy: Unsupported value: "Global": supported values: "Cluster", "Local"
        spec.internalTrafficPolicy: Unsupported value: "Global": supported values: "Cluster", "Local"
        spec.trafficDistribution: Unsupported value: "PreferFar": supported values: "PreferClose", "PreferSameNode", "PreferSameZone"
        spec.healthCheckNodePort: Invalid value: 30001: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'
        spec.healthCheckNodePort: Invalid value: 70000: must be between 1 and 65535, inclusive
        spec.healthCheckNodePort: Invalid value: 30001: provided port is already allocated
    "#]]
    .assert_eq(&refusals(&cases));
}

#[test]
fn annotations() {
    let check = |type_: &str, annotations: Value| {
        let mut service = service(with(json!({"type": type_})));
        service.metadata.annotations = serde_json::from_value(annotations).unwrap();
        prepare_create(&mut service, &dual()).map_or_else(|errors| lines(&errors), |w| lines(&w))
    };
    let ranges = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let mut text = check("ClusterIP", json!({ranges: "10.0.0.0/8"}));
    text += &check("LoadBalancer", json!({ranges: "10.0.0.0/8, 10.0.0/8"}));
    text += &check("LoadBalancer", json!({ranges: " "}));
    let (mode, hints) = ("service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints");
    text += &check("ClusterIP", json!({mode: "Auto", hints: "Disabled"}));
    expect![[r#"
        metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Forbidden: may only be used when `type` is 'LoadBalancer'
        metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value: "10.0.0/8": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
        metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: "Auto": must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified
    "#]]
    .assert_eq(&text);
}

/// Rules that no request can break, because defaulting comes first; they hold for whatever is validated without it.
#[test]
fn what_defaulting_prevents_is_refused_all_the_same() {
    let wrong = |fields: Value| {
        let mut service = created(with(json!({"type": "LoadBalancer"})));
        let mut spec = serde_json::to_value(&service.spec).unwrap();
        for (key, value) in fields.as_object().unwrap() {
            spec[key] = value.clone();
        }
        service.spec = serde_json::from_value(spec).unwrap();
        let mut errors = Vec::new();
        validate::service(&service, &mut errors);
        lines(&errors)
    };
    let mut text = wrong(json!({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}));
    text += &wrong(json!({"sessionAffinity": "ClientIP"}));
    text += &wrong(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {}}));
    text += &wrong(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}}));
    let old = created(with(json!({})));
    let mut unset = old.clone();
    unset.spec.cluster_ips.clear();
    unset.spec.ip_families.clear();
    let mut errors = Vec::new();
    validate::change(&old, &unset, true, &mut errors);
    text += &lines(&errors);
    expect![[r#"
        spec.sessionAffinityConfig: Forbidden: must not be set when session affinity is None
        spec.sessionAffinityConfig: Required value: when session affinity type is ClientIP
        spec.sessionAffinityConfig.clientIP: Required value: when session affinity type is ClientIP
        spec.sessionAffinityConfig.clientIP.timeoutSeconds: Required value: when session affinity type is ClientIP
        spec.clusterIPs[0]: Invalid value: []: primary clusterIP can not be unset
        spec.ipFamilies[0]: Invalid value: []: primary ipFamily can not be unset
    "#]]
    .assert_eq(&text);
}

#[test]
fn several_wrong_fields_are_named_at_once() {
    let case = json!({
        "type": "NodePort", "clusterIP": "10.96.0", "sessionAffinity": "Cookie", "ports": [{"port": 0}],
    });
    expect![[r#"
        spec.clusterIPs[0]: Invalid value: "10.96.0": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
        spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
        spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"
    "#]]
    .assert_eq(&refusals(&[case]));
}

#[test]
fn a_single_stack_cluster_has_no_second_family() {
    let check = |fields: Value| {
        let mut service = service(with(fields));
        lines(&prepare_create(&mut service, &single()).unwrap_err())
    };
    let mut text = check(json!({"ipFamilyPolicy": "RequireDualStack"}));
    text += &check(json!({"ipFamilies": ["IPv6"]}));
    text += &check(json!({"clusterIP": "fd00::5"}));
    expect![[r#"
        spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
        spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster
        spec.clusterIPs[0]: Invalid value: ["fd00::5"]: IPv6 is not configured on this cluster
    "#]]
    .assert_eq(&text);
}

#[test]
fn statuses() {
    let check = |type_: &str, ingress: Value| {
        let old = created(with(json!({"type": type_})));
        let mut new = old.clone();
        new.status.load_balancer.ingress = serde_json::from_value(ingress).unwrap();
        lines(&validate_status_update(&old, &new))
    };
    let mut text = check("ClusterIP", json!([{"ip": "192.0.2.1", "ipMode": "VIP"}]));
    text += &check("LoadBalancer", json!([{"ip": "192.0.2.1"}, {"hostname": "lb.example.com", "ipMode": "VIP"}]));
    text += &check("LoadBalancer", json!([{"ip": "192.0.2", "ipMode": "Direct"}, {"hostname": "192.0.2.1"}]));
    text += &check("LoadBalancer", json!([{"hostname": "under_score"}]));
    expect![[r#"
        status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'
        status.loadBalancer.ingress[0].ipMode: Required value: must be specified when `ip` is set
        status.loadBalancer.ingress[1].ipMode: Forbidden: may not be specified when `ip` is not set
        status.loadBalancer.ingress[0].ip: Invalid value: "192.0.2": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        status.loadBalancer.ingress[0].ipMode: Unsupported value: "Direct": supported values: "Proxy", "VIP"
        status.loadBalancer.ingress[1].hostname: Invalid value: "192.0.2.1": must be a DNS name, not an IP address
        status.loadBalancer.ingress[0].hostname: Invalid value: "under_score": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
    "#]]
    .assert_eq(&text);
    let mut defaulted = service(json!({"type": "LoadBalancer"}));
    defaulted.status.load_balancer.ingress =
        serde_json::from_value(json!([{"ip": "192.0.2.1"}, {"hostname": "a.example.com"}])).unwrap();
    default_status(&mut defaulted);
    let modes = defaulted.status.load_balancer.ingress.iter().map(|i| i.ip_mode.as_deref()).collect::<Vec<_>>();
    assert_eq!(modes, [Some("VIP"), None]);
}
