//! Each resource's table, printed as kubectl prints it: columns of priority 1 in brackets.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2024-05-01T12:00:00Z".parse().unwrap()
}

fn object(resource: Resource, mut value: Value) -> Arc<Object> {
    let metadata = value["metadata"].as_object_mut().unwrap();
    metadata.entry("creationTimestamp").or_insert("2024-05-01T11:55:00Z".into());
    metadata.entry("resourceVersion").or_insert("7".into());
    Arc::new(Object::decode(resource, Bytes::from(value.to_string())).unwrap())
}

fn check(resource: Resource, values: impl IntoIterator<Item = Value>, expected: Expect) {
    let header: Vec<String> = columns::of(resource)
        .iter()
        .map(|c| if c.priority == 0 { c.name.to_owned() } else { format!("[{}]", c.name) })
        .collect();
    let mut lines = vec![header.join(" | ")];
    for value in values {
        let row = cells::of(&object(resource, value), now());
        assert_eq!(row.len(), header.len());
        let texts: Vec<String> =
            row.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect();
        lines.push(texts.join(" | "));
    }
    expected.assert_eq(&lines.join("\n"));
}

fn service(spec: Value, status: Value) -> Value {
    json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web"}, "spec": spec, "status": status})
}

#[test]
fn services() {
    let port = |extra: Value| {
        let mut port = json!({"port": 80, "protocol": "TCP"});
        port.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        port
    };
    check(
        Resource::Services,
        [
            service(
                json!({"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"],
                       "ports": [port(json!({})), {"port": 53, "protocol": "UDP"}], "selector": {"b": "2", "a": "1"}}),
                json!({}),
            ),
            service(json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}), json!({})),
            service(
                json!({"type": "NodePort", "clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.2"],
                       "ports": [port(json!({"nodePort": 30080}))], "externalIPs": ["1.2.3.4", "1.2.3.5"]}),
                json!({}),
            ),
            service(
                json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.3"], "ports": [port(json!({}))]}),
                json!({}),
            ),
            service(
                json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.3"], "externalIPs": ["9.9.9.9"]}),
                json!({"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}, {"hostname": "a.example"}, {"ip": "1.1.1.1"}]}}),
            ),
            service(json!({"type": "ExternalName", "externalName": "db.example.com"}), json!({})),
        ],
        expect![[r#"
            Name | Type | Cluster-IP | External-IP | Port(s) | Age | [Selector]
            web | ClusterIP | 10.96.0.1 | <none> | 80/TCP,53/UDP | 5m | a=1,b=2
            web | ClusterIP | None | <none> | <none> | 5m | <none>
            web | NodePort | 10.96.0.2 | 1.2.3.4,1.2.3.5 | 80:30080/TCP | 5m | <none>
            web | LoadBalancer | 10.96.0.3 | <pending> | 80/TCP | 5m | <none>
            web | LoadBalancer | 10.96.0.3 | 1.1.1.1,5.6.7.8,a.example,9.9.9.9 | <none> | 5m | <none>
            web | ExternalName | <none> | db.example.com | <none> | 5m | <none>"#]],
    );
}

fn pod(metadata: Value, spec: Value, status: Value) -> Value {
    let mut value = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
    value["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    value
}

#[test]
fn pods() {
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}], "nodeName": "node-1"});
    let running = |name: &str| json!({"name": name, "ready": true, "restartCount": 0, "state": {"running": {}}});
    check(
        Resource::Pods,
        [
            pod(json!({}), json!({"containers": [{"name": "a"}]}), json!({"phase": "Pending"})),
            pod(
                json!({}),
                two.clone(),
                json!({"phase": "Running", "podIP": "10.244.1.2", "podIPs": [{"ip": "10.244.1.2"}, {"ip": "fd00::2"}],
                       "containerStatuses": [running("a"), running("b")]}),
            ),
            pod(
                json!({}),
                two.clone(),
                json!({"phase": "Running", "containerStatuses": [
                    running("a"),
                    {"name": "b", "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                     "lastState": {"terminated": {"finishedAt": "2024-05-01T11:58:00Z"}}}]}),
            ),
            pod(json!({"deletionTimestamp": "2024-05-01T11:59:00Z"}), two.clone(), json!({"phase": "Running"})),
            pod(
                json!({"deletionTimestamp": "2024-05-01T11:59:00Z"}),
                two.clone(),
                json!({"phase": "Running", "reason": "NodeLost"}),
            ),
            pod(
                json!({}),
                two.clone(),
                json!({"phase": "Succeeded", "containerStatuses": [
                {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
            ),
            pod(
                json!({}),
                two.clone(),
                json!({"phase": "Running", "containerStatuses": [
                {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}, running("b")]}),
            ),
            pod(
                json!({}),
                two.clone(),
                json!({"phase": "Failed", "containerStatuses": [
                {"name": "a", "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
            ),
            pod(json!({}), two.clone(), json!({"phase": "Failed", "reason": "Evicted"})),
            pod(
                json!({}),
                json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]}),
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "state": {"terminated": {"exitCode": 2}}}]}),
            ),
            pod(
                json!({}),
                json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]}),
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}]}),
            ),
            // Past its initialization, what init containers restarted counts no more.
            pod(
                json!({}),
                json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}),
                json!({"phase": "Running", "initContainerStatuses": [
                    {"name": "i", "restartCount": 7, "state": {"terminated": {"exitCode": 0}},
                     "lastState": {"terminated": {"finishedAt": "2024-05-01T11:59:00Z"}}}],
                    "containerStatuses": [{"name": "a", "ready": true, "restartCount": 1, "state": {"running": {}},
                     "lastState": {"terminated": {"finishedAt": "2024-05-01T11:54:30Z"}}}]}),
            ),
            // Before, it does.
            pod(
                json!({}),
                json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]}),
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "restartCount": 7, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                     "lastState": {"terminated": {"finishedAt": "2024-05-01T11:59:00Z"}}}],
                    "containerStatuses": [{"name": "a", "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}}]}),
            ),
            // Sidecars run on: they count as containers do, ready and restarted.
            pod(
                json!({}),
                json!({"containers": [{"name": "a"}], "initContainers": [
                    {"name": "s", "restartPolicy": "Always"}, {"name": "i"}, {"name": "t", "restartPolicy": "Always"}]}),
                json!({"phase": "Running", "initContainerStatuses": [
                    {"name": "s", "started": true, "ready": true, "restartCount": 4, "state": {"running": {}},
                     "lastState": {"terminated": {"finishedAt": "2024-05-01T09:00:00Z"}}},
                    {"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 0}}},
                    {"name": "t", "started": true, "ready": false, "restartCount": 0, "state": {"running": {}}}],
                    "containerStatuses": [running("a")]}),
            ),
            pod(
                json!({}),
                json!({"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}]}),
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "s", "started": true, "ready": true, "state": {"running": {}}},
                    {"name": "i", "state": {"waiting": {"reason": "PodInitializing"}}}]}),
            ),
            pod(
                json!({}),
                json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}),
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
            ),
            pod(
                json!({}),
                json!({"containers": [{"name": "a"}], "schedulingGates": [{"name": "x/y"}]}),
                json!({"phase": "Pending", "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            ),
            // What ran to its end does not become Terminating by being deleted.
            pod(
                json!({"deletionTimestamp": "2024-05-01T11:59:00Z"}),
                json!({"containers": [{"name": "a"}]}),
                json!({"phase": "Succeeded", "containerStatuses": [
                    {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
            ),
            pod(
                json!({}),
                two.clone(),
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [
                    {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}, running("b")]}),
            ),
            pod(
                json!({}),
                json!({"containers": [{"name": "a"}]}),
                json!({"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 3}}}]}),
            ),
            pod(
                json!({}),
                json!({"containers": [{"name": "a"}], "readinessGates": [{"conditionType": "x/y"}, {"conditionType": "z"}]}),
                json!({"phase": "Running", "conditions": [{"type": "x/y", "status": "True"}]}),
            ),
        ],
        expect![[r#"
            Name | Ready | Status | Restarts | Age | [IP] | [Node] | [Nominated Node] | [Readiness Gates]
            p | 0/1 | Pending | 0 | 5m | <none> | <none> | <none> | <none>
            p | 2/2 | Running | 0 | 5m | 10.244.1.2 | node-1 | <none> | <none>
            p | 1/2 | CrashLoopBackOff | 3 (2m ago) | 5m | <none> | node-1 | <none> | <none>
            p | 0/2 | Terminating | 0 | 5m | <none> | node-1 | <none> | <none>
            p | 0/2 | Unknown | 0 | 5m | <none> | node-1 | <none> | <none>
            p | 0/2 | Completed | 0 | 5m | <none> | node-1 | <none> | <none>
            p | 1/2 | NotReady | 0 | 5m | <none> | node-1 | <none> | <none>
            p | 0/2 | Signal:9 | 0 | 5m | <none> | node-1 | <none> | <none>
            p | 0/2 | Evicted | 0 | 5m | <none> | node-1 | <none> | <none>
            p | 0/2 | Init:ExitCode:2 | 0 | 5m | <none> | <none> | <none> | <none>
            p | 0/1 | Init:1/2 | 0 | 5m | <none> | <none> | <none> | <none>
            p | 1/1 | Running | 1 (5m30s ago) | 5m | <none> | <none> | <none> | <none>
            p | 0/1 | Init:CrashLoopBackOff | 7 (60s ago) | 5m | <none> | <none> | <none> | <none>
            p | 2/3 | Running | 4 (3h ago) | 5m | <none> | <none> | <none> | <none>
            p | 1/2 | Init:1/2 | 0 | 5m | <none> | <none> | <none> | <none>
            p | 0/1 | Init:Signal:9 | 0 | 5m | <none> | <none> | <none> | <none>
            p | 0/1 | SchedulingGated | 0 | 5m | <none> | <none> | <none> | <none>
            p | 0/1 | Completed | 0 | 5m | <none> | <none> | <none> | <none>
            p | 1/2 | Running | 0 | 5m | <none> | node-1 | <none> | <none>
            p | 0/1 | ExitCode:3 | 0 | 5m | <none> | <none> | <none> | <none>
            p | 0/1 | Running | 0 | 5m | <none> | <none> | <none> | 1/2"#]],
    );
}

#[test]
fn nodes() {
    check(
        Resource::Nodes,
        [
            json!({"metadata": {"name": "node-1", "labels": {"node-role.kubernetes.io/edge": "", "kubernetes.io/role": "db"}},
                   "spec": {"unschedulable": true},
                   "status": {"conditions": [{"type": "Ready", "status": "True"}],
                              "addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "172.31.255.11"},
                                            {"type": "InternalIP", "address": "fd00::b"}],
                              "nodeInfo": {"kubeletVersion": "v0.1.0", "osImage": "Debian", "kernelVersion": "6.1",
                                           "containerRuntimeVersion": "lab"}}}),
            json!({"metadata": {"name": "node-2"}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
            json!({"metadata": {"name": "node-3"}}),
        ],
        expect![[r#"
            Name | Status | Roles | Age | Version | [Internal-IP] | [External-IP] | [OS-Image] | [Kernel-Version] | [Container-Runtime]
            node-1 | Ready,SchedulingDisabled | db,edge | 5m | v0.1.0 | 172.31.255.11 | <none> | Debian | 6.1 | lab
            node-2 | NotReady | <none> | 5m |  | <none> | <none> | <unknown> | <unknown> | <unknown>
            node-3 | Unknown | <none> | 5m |  | <none> | <none> | <unknown> | <unknown> | <unknown>"#]],
    );
}

#[test]
fn namespaces_leases_and_service_ranges() {
    check(
        Resource::Namespaces,
        [json!({"metadata": {"name": "default"}, "status": {"phase": "Active"}})],
        expect![[r#"
            Name | Status | Age
            default | Active | 5m"#]],
    );
    check(
        Resource::Leases,
        [json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}), json!({"metadata": {"name": "l"}})],
        expect![[r#"
            Name | Holder | Age
            l | me | 5m
            l |  | 5m"#]],
    );
    check(
        Resource::ServiceCidrs,
        [json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "fd00::/112"]}})],
        expect![[r#"
            Name | CIDRs | Age
            kubernetes | 10.96.0.0/16,fd00::/112 | 5m"#]],
    );
}

#[test]
fn endpoints_and_slices() {
    let addresses = |ips: &[&str]| ips.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>();
    check(
        Resource::Endpoints,
        [
            json!({"metadata": {"name": "e"}, "subsets": [
                {"addresses": addresses(&["10.0.0.1", "fd00::2"]), "ports": [{"port": 80}, {"port": 443}]},
                {"addresses": addresses(&["10.0.0.3"])}]}),
            json!({"metadata": {"name": "e"}, "subsets": [{"notReadyAddresses": addresses(&["10.0.0.1"]), "ports": [{"port": 80}]}]}),
            json!({"metadata": {"name": "e"}}),
        ],
        expect![[r#"
            Name | Endpoints | Age
            e | 10.0.0.1:80,[fd00::2]:80,10.0.0.1:443 + 2 more... | 5m
            e |  | 5m
            e | <none> | 5m"#]],
    );
    check(
        Resource::EndpointSlices,
        [
            json!({"metadata": {"name": "s"}, "addressType": "IPv4", "ports": [{"port": 80}, {"name": "x"}, {}, {"port": 1}],
                   "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}]}),
            json!({"metadata": {"name": "s"}, "addressType": "IPv6", "endpoints": []}),
        ],
        expect![[r#"
            Name | AddressType | Ports | Endpoints | Age
            s | IPv4 | 80,x,* + 1 more... | 10.0.0.1,10.0.0.2 | 5m
            s | IPv6 | <unset> | <unset> | 5m"#]],
    );
}

#[test]
fn addresses() {
    let address = |parent: Value| json!({"metadata": {"name": "10.96.0.1"}, "spec": {"parentRef": parent}});
    check(
        Resource::IpAddresses,
        [
            address(json!({"resource": "services", "namespace": "default", "name": "web"})),
            address(
                json!({"group": "gateway.networking.k8s.io", "resource": "gateways", "namespace": "a", "name": "b"}),
            ),
            json!({"metadata": {"name": "10.96.0.2"}}),
        ],
        expect![[r#"
            Name | ParentRef
            10.96.0.1 | services/default/web
            10.96.0.1 | gateways.gateway.networking.k8s.io/a/b
            10.96.0.2 | <none>"#]],
    );
}

#[test]
fn events() {
    let involved = json!({"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"});
    check(
        Resource::Events,
        [
            json!({"metadata": {"name": "e1"}, "involvedObject": involved, "type": "Warning", "reason": "BackOff",
                   "message": " again \n", "source": {"component": "kubelet", "host": "n1"}, "count": 4,
                   "firstTimestamp": "2024-05-01T10:00:00Z", "lastTimestamp": "2024-05-01T11:59:30Z"}),
            json!({"metadata": {"name": "e2"}, "involvedObject": {"kind": "Node"}, "type": "Normal", "reason": "Up",
                   "reportingComponent": "agent", "eventTime": "2024-05-01T11:00:00.000000Z",
                   "series": {"count": 9, "lastObservedTime": "2024-05-01T11:59:59.000000Z"}}),
        ],
        expect![[r#"
            Last Seen | Type | Reason | Object | [Subobject] | [Source] | Message | [First Seen] | [Count] | [Name]
            30s | Warning | BackOff | pod/p | spec.containers{a} | kubelet, n1 | again | 120m | 4 | e1
            1s | Normal | Up | node |  | agent |  | 60m | 9 | e2"#]],
    );
}

#[test]
fn the_whole_table() {
    let table = Table { resource: Resource::Namespaces, version: "v1", include: Include::Metadata };
    let objects = [object(Resource::Namespaces, json!({"metadata": {"name": "a"}, "status": {"phase": "Active"}}))];
    let json = table.render(r#"{"resourceVersion":"9"}"#, &objects, true, now());
    expect![[r#"
        {
          "kind": "Table",
          "apiVersion": "meta.k8s.io/v1",
          "metadata": {
            "resourceVersion": "9"
          },
          "columnDefinitions": [
            {
              "name": "Name",
              "type": "string",
              "format": "name",
              "description": "The name of the object, unique in its namespace and resource.",
              "priority": 0
            },
            {
              "name": "Status",
              "type": "string",
              "format": "",
              "description": "Active, or Terminating once its deletion has begun.",
              "priority": 0
            },
            {
              "name": "Age",
              "type": "string",
              "format": "",
              "description": "How long ago the object was created.",
              "priority": 0
            }
          ],
          "rows": [
            {
              "cells": [
                "a",
                "Active",
                "5m"
              ],
              "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {
                  "creationTimestamp": "2024-05-01T11:55:00Z",
                  "name": "a",
                  "resourceVersion": "7"
                }
              }
            }
          ]
        }
    "#]]
    .assert_eq(&String::from_utf8(crate::encode::indent(&json)).unwrap());

    // Nobody can tell a Pod that runs no more by its cells alone.
    for (phase, message) in [("Succeeded", "The pod has completed successfully."), ("Failed", "The pod failed.")] {
        let pods = Table { resource: Resource::Pods, include: Include::None, ..table };
        let objects = [object(Resource::Pods, pod(json!({}), json!({}), json!({"phase": phase})))];
        let value: Value = serde_json::from_slice(&pods.render("{}", &objects, false, now())).unwrap();
        let condition = json!([{"type": "Completed", "status": "True", "reason": phase, "message": message}]);
        assert_eq!(value["rows"][0]["conditions"], condition);
    }

    for (include, expected) in
        [(Include::None, "\"object\":null}]}"), (Include::Object, "\"status\":{\"phase\":\"Active\"}}}]}")]
    {
        let json = Table { include, ..table }.render("{}", &objects, false, now());
        let text = String::from_utf8(json.to_vec()).unwrap();
        assert!(
            text.starts_with(r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{},"columnDefinitions":null"#)
        );
        assert!(text.ends_with(expected), "{text}");
    }
}
