use expect_test::expect;
use serde_json::{Value, json};

use crate::admission::Subresource;
use crate::admission::tests::{create, refused, update};
use crate::resource::Resource;

fn pod(spec: Value) -> Value {
    json!({ "metadata": { "name": "p" }, "spec": spec })
}

fn simple() -> Value {
    create(Resource::Pods, pod(json!({ "containers": [{ "name": "a", "image": "x:1" }] }))).expect("a pod")
}

/// Changes a created Pod by a merge and writes it back on the main path.
fn changed(old: &Value, patch: Value) -> Result<Value, String> {
    let mut new = old.clone();
    json_patch::merge(&mut new, &patch);
    update(Resource::Pods, Subresource::None, old, new)
}

#[test]
fn defaults() {
    let created = create(
        Resource::Pods,
        pod(json!({
            "containers": [
                {
                    "name": "a",
                    "image": "registry:5000/x",
                    "ports": [{ "containerPort": 80 }],
                    "readinessProbe": { "httpGet": { "port": 80 } },
                    "env": [{ "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }],
                },
                { "name": "b", "image": "x@sha256:00" },
                { "name": "c" },
            ],
            "volumes": [{ "name": "v" }, { "name": "w", "configMap": { "name": "c" } }, { "name": "x", "hostPath": { "path": "/" } }],
            "hostNetwork": true,
        })),
    );
    let mut created = created.expect("a pod");
    assert_eq!(created["metadata"]["generation"], 1);
    created.as_object_mut().expect("an object").remove("metadata");
    expect![[r#"
        {
          "apiVersion": "v1",
          "kind": "Pod",
          "spec": {
            "containers": [
              {
                "env": [
                  {
                    "name": "IP",
                    "valueFrom": {
                      "fieldRef": {
                        "apiVersion": "v1",
                        "fieldPath": "status.podIP"
                      }
                    }
                  }
                ],
                "image": "registry:5000/x",
                "imagePullPolicy": "Always",
                "name": "a",
                "ports": [
                  {
                    "containerPort": 80,
                    "hostPort": 80,
                    "protocol": "TCP"
                  }
                ],
                "readinessProbe": {
                  "failureThreshold": 3,
                  "httpGet": {
                    "path": "/",
                    "port": 80,
                    "scheme": "HTTP"
                  },
                  "periodSeconds": 10,
                  "successThreshold": 1,
                  "timeoutSeconds": 1
                },
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"
              },
              {
                "image": "x@sha256:00",
                "imagePullPolicy": "IfNotPresent",
                "name": "b",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"
              },
              {
                "imagePullPolicy": "IfNotPresent",
                "name": "c",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"
              }
            ],
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true,
            "hostNetwork": true,
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
            "volumes": [
              {
                "emptyDir": {},
                "name": "v"
              },
              {
                "configMap": {
                  "defaultMode": 420,
                  "name": "c"
                },
                "name": "w"
              },
              {
                "hostPath": {
                  "path": "/",
                  "type": ""
                },
                "name": "x"
              }
            ]
          },
          "status": {
            "phase": "Pending",
            "qosClass": "BestEffort"
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&created).expect("JSON"));
    // Defaults of what is defaulted change nothing.
    let mut again = created.clone();
    again["metadata"] = json!({ "name": "p" });
    let mut again = create(Resource::Pods, again).expect("a pod");
    again.as_object_mut().expect("an object").remove("metadata");
    assert_eq!(again, created);
}

#[test]
fn quality_of_service() {
    let class = |resources: Value| {
        let pod = create(Resource::Pods, pod(json!({ "containers": [{ "name": "a", "resources": resources }] })));
        pod.expect("a pod")["status"]["qosClass"].clone()
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({ "requests": { "cpu": "1" } })), "Burstable");
    assert_eq!(class(json!({ "limits": { "cpu": "1", "memory": "1Gi" } })), "Guaranteed");
    assert_eq!(class(json!({ "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "0.5" } })), "Burstable");
}

#[test]
fn refusals() {
    expect![[r#"
        spec.containers: Required value
    "#]]
    .assert_eq(&refused(Resource::Pods, json!({ "metadata": { "name": "p" } })));
    let wrong = refused(
        Resource::Pods,
        pod(json!({
            "restartPolicy": "Sometimes",
            "dnsPolicy": "x",
            "hostname": "a.b",
            "subdomain": "A",
            "nodeName": "a b",
            "terminationGracePeriodSeconds": -1,
            "activeDeadlineSeconds": 0,
            "nodeSelector": { "a b": "c" },
            "hostAliases": [{ "ip": "x", "hostnames": ["A"] }],
            "tolerations": [{ "operator": "Equal" }, { "key": "a", "operator": "Exists", "value": "b" }, { "key": "a", "operator": "In", "effect": "x", "tolerationSeconds": 1 }],
            "readinessGates": [{ "conditionType": "a b" }],
            "volumes": [{ "name": "v" }, { "name": "v" }, { "name": "" }],
            "initContainers": [{ "name": "a" }],
            "containers": [
                { "name": "a", "imagePullPolicy": "x", "terminationMessagePolicy": "y" },
                { "name": "" },
                {
                    "name": "B",
                    "env": [{ "name": "" }, { "name": "A=B" }],
                    "ports": [
                        { "name": "HTTP" },
                        { "name": "http", "containerPort": 70000, "protocol": "ICMP" },
                        { "name": "http", "containerPort": 80, "hostPort": 70000 },
                        { "containerPort": 1, "hostPort": 8080 },
                        { "containerPort": 2, "hostPort": 8080 },
                    ],
                    "volumeMounts": [{ "name": "nope", "mountPath": "/a" }, { "name": "v", "mountPath": "/a" }, { "name": "", "mountPath": "" }],
                },
            ],
        })),
    );
    expect![[r#"
        spec.volumes[1].name: Duplicate value: "v"
        spec.volumes[2].name: Required value
        spec.containers[0].name: Duplicate value: "a"
        spec.containers[0].imagePullPolicy: Unsupported value: "x": supported values: "Always", "IfNotPresent", "Never"
        spec.containers[0].terminationMessagePolicy: Unsupported value: "y": supported values: "FallbackToLogsOnError", "File"
        spec.containers[1].name: Required value
        spec.containers[2].name: Invalid value: "B": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        spec.containers[2].ports[0].name: Invalid value: "HTTP": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
        spec.containers[2].ports[0].name: Invalid value: "HTTP": must contain at least one letter (a-z)
        spec.containers[2].ports[0].containerPort: Required value
        spec.containers[2].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
        spec.containers[2].ports[1].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
        spec.containers[2].ports[2].name: Duplicate value: "http"
        spec.containers[2].ports[2].hostPort: Invalid value: 70000: must be between 1 and 65535, inclusive
        spec.containers[2].env[0].name: Required value
        spec.containers[2].env[1].name: Invalid value: "A=B": a valid environment variable name must consist only of printable ASCII characters other than '=' (e.g. 'my-env_name', regex used for validation is '^[ -<>-~]+$')
        spec.containers[2].volumeMounts[0].name: Not found: "nope"
        spec.containers[2].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
        spec.containers[2].volumeMounts[2].name: Required value
        spec.containers[2].volumeMounts[2].mountPath: Required value
        spec.containers[2].ports[4].hostPort: Duplicate value: "TCP//8080"
        spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"
        spec.dnsPolicy: Unsupported value: "x": supported values: "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"
        spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0
        spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
        spec.hostname: Invalid value: "a.b": must not contain dots
        spec.subdomain: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        spec.nodeName: Invalid value: "a b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.hostAliases[0].hostnames[0]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"
        spec.tolerations[1].operator: Invalid value: {"key":"a","operator":"Exists","value":"b"}: value must be empty when `operator` is 'Exists'
        spec.tolerations[2].effect: Invalid value: "x": effect must be 'NoExecute' when `tolerationSeconds` is set
        spec.tolerations[2].operator: Unsupported value: "In": supported values: "Equal", "Exists", "Gt", "Lt"
        spec.tolerations[2].effect: Unsupported value: "x": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule"
        spec.readinessGates[0].conditionType: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
    "#]].assert_eq(&wrong);
}

#[test]
fn what_may_change() {
    let old = simple();
    assert!(changed(&old, json!({ "metadata": { "labels": { "a": "b" } } })).is_ok());
    let image =
        json!({ "spec": { "containers": [{ "name": "a", "image": "x:2", "imagePullPolicy": "IfNotPresent" }] } });
    let image = changed(&old, image).expect("another image");
    assert_eq!(image["spec"]["containers"][0]["image"], "x:2");
    assert_eq!(image["metadata"]["generation"], 2);
    assert!(changed(&old, json!({ "spec": { "activeDeadlineSeconds": 5 } })).is_ok());
    assert!(changed(&old, json!({ "spec": { "tolerations": [{ "key": "a", "operator": "Exists" }] } })).is_ok());
    let bound = changed(&old, json!({ "spec": { "nodeName": "node-1" } })).expect("a binding");

    let mut out = String::new();
    for (old, patch) in [
        (&bound, json!({ "spec": { "nodeName": "node-2" } })),
        (&old, json!({ "spec": { "restartPolicy": "Never" } })),
        (&old, json!({ "spec": { "containers": [{ "name": "a", "image": "x:1", "command": ["b"] }] } })),
        (&old, json!({ "spec": { "containers": [{ "name": "a" }, { "name": "b" }] } })),
        (&old, json!({ "spec": { "schedulingGates": [{ "name": "a" }] } })),
    ] {
        out.push_str(&changed(old, patch).expect_err("must be refused"));
    }
    let limited = changed(
        &old,
        json!({ "spec": { "activeDeadlineSeconds": 5, "tolerations": [{ "key": "a", "operator": "Exists" }] } }),
    )
    .expect("an update");
    out.push_str(&changed(&limited, json!({ "spec": { "activeDeadlineSeconds": 6 } })).expect_err("longer"));
    out.push_str(&changed(&limited, json!({ "spec": { "activeDeadlineSeconds": null } })).expect_err("none"));
    out.push_str(&changed(&limited, json!({ "spec": { "tolerations": null } })).expect_err("fewer"));
    expect![[r#"
        spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
        spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
        spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
        spec.containers: Forbidden: pod updates may not add or remove containers
        spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
        spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value
        spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value
        spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds
    "#]].assert_eq(&out);
}

#[test]
fn gates_may_go() {
    let gated = create(
        Resource::Pods,
        pod(json!({ "containers": [{ "name": "a" }], "schedulingGates": [{ "name": "a/b" }, { "name": "c/d" }] })),
    );
    let gated = gated.expect("a pod");
    assert!(changed(&gated, json!({ "spec": { "schedulingGates": [{ "name": "c/d" }] } })).is_ok());
    assert!(changed(&gated, json!({ "spec": { "schedulingGates": null } })).is_ok());
}

#[test]
fn status_addresses_mirror_each_other() {
    let old = simple();
    let status = |status: Value| {
        let mut new = old.clone();
        new["spec"]["restartPolicy"] = "Never".into();
        new["status"] = status;
        update(Resource::Pods, Subresource::Status, &old, new)
    };
    let both = status(
        json!({ "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }], "hostIP": "1.1.1.1" }),
    )
    .expect("a status");
    assert_eq!(both["spec"], old["spec"], "the spec is not the status path's to write");
    assert_eq!(
        both["status"],
        json!({
            "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }],
            "hostIP": "1.1.1.1", "hostIPs": [{ "ip": "1.1.1.1" }], "qosClass": "BestEffort",
        })
    );
    let older_wins = status(json!({ "podIP": "10.0.0.2", "podIPs": [{ "ip": "10.0.0.1" }] })).expect("a status");
    assert_eq!(older_wins["status"]["podIPs"], json!([{ "ip": "10.0.0.2" }]));
    let wrong: String = [
        json!({ "podIP": "x" }),
        json!({ "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "10.0.0.2" }] }),
        json!({ "nominatedNodeName": "a b" }),
    ]
    .into_iter()
    .map(|wrong| status(wrong).expect_err("wrong"))
    .collect();
    expect![[r#"
        status.podIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        status.podIPs: Invalid value: [{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}]: may specify no more than one IP for each IP family
        status.nominatedNodeName: Invalid value: "a b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
    "#]].assert_eq(&wrong);
}
