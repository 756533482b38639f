//! Discovery documents as clients see them.

use expect_test::{Expect, expect};

use super::*;

fn check(document: &Document, expected: Expect) {
    let value: Value = serde_json::from_slice(&document.bytes).unwrap();
    expected.assert_eq(&serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn legacy_roots() {
    let discovery = Discovery::new();
    check(
        &discovery.core.legacy,
        expect![[r#"
        {
          "kind": "APIVersions",
          "serverAddressByClientCIDRs": [],
          "versions": [
            "v1"
          ]
        }"#]],
    );
    check(
        &discovery.groups.legacy,
        expect![[r#"
            {
              "apiVersion": "v1",
              "groups": [
                {
                  "name": "authentication.k8s.io",
                  "preferredVersion": {
                    "groupVersion": "authentication.k8s.io/v1",
                    "version": "v1"
                  },
                  "versions": [
                    {
                      "groupVersion": "authentication.k8s.io/v1",
                      "version": "v1"
                    }
                  ]
                },
                {
                  "name": "authorization.k8s.io",
                  "preferredVersion": {
                    "groupVersion": "authorization.k8s.io/v1",
                    "version": "v1"
                  },
                  "versions": [
                    {
                      "groupVersion": "authorization.k8s.io/v1",
                      "version": "v1"
                    }
                  ]
                },
                {
                  "name": "coordination.k8s.io",
                  "preferredVersion": {
                    "groupVersion": "coordination.k8s.io/v1",
                    "version": "v1"
                  },
                  "versions": [
                    {
                      "groupVersion": "coordination.k8s.io/v1",
                      "version": "v1"
                    }
                  ]
                },
                {
                  "name": "discovery.k8s.io",
                  "preferredVersion": {
                    "groupVersion": "discovery.k8s.io/v1",
                    "version": "v1"
                  },
                  "versions": [
                    {
                      "groupVersion": "discovery.k8s.io/v1",
                      "version": "v1"
                    }
                  ]
                },
                {
                  "name": "events.k8s.io",
                  "preferredVersion": {
                    "groupVersion": "events.k8s.io/v1",
                    "version": "v1"
                  },
                  "versions": [
                    {
                      "groupVersion": "events.k8s.io/v1",
                      "version": "v1"
                    }
                  ]
                },
                {
                  "name": "networking.k8s.io",
                  "preferredVersion": {
                    "groupVersion": "networking.k8s.io/v1",
                    "version": "v1"
                  },
                  "versions": [
                    {
                      "groupVersion": "networking.k8s.io/v1",
                      "version": "v1"
                    }
                  ]
                },
                {
                  "name": "portolan.dev",
                  "preferredVersion": {
                    "groupVersion": "portolan.dev/v1alpha1",
                    "version": "v1alpha1"
                  },
                  "versions": [
                    {
                      "groupVersion": "portolan.dev/v1alpha1",
                      "version": "v1alpha1"
                    }
                  ]
                },
                {
                  "name": "rbac.authorization.k8s.io",
                  "preferredVersion": {
                    "groupVersion": "rbac.authorization.k8s.io/v1",
                    "version": "v1"
                  },
                  "versions": [
                    {
                      "groupVersion": "rbac.authorization.k8s.io/v1",
                      "version": "v1"
                    }
                  ]
                }
              ],
              "kind": "APIGroupList"
            }"#]],
    );
}

#[test]
fn legacy_group_and_resources() {
    let discovery = Discovery::new();
    check(
        &discovery.group[0].1,
        expect![[r#"
            {
              "apiVersion": "v1",
              "kind": "APIGroup",
              "name": "authentication.k8s.io",
              "preferredVersion": {
                "groupVersion": "authentication.k8s.io/v1",
                "version": "v1"
              },
              "versions": [
                {
                  "groupVersion": "authentication.k8s.io/v1",
                  "version": "v1"
                }
              ]
            }"#]],
    );
    let (_, networking) = discovery.resources.iter().find(|(gv, _)| gv.group == "networking.k8s.io").unwrap();
    check(
        networking,
        expect![[r#"
        {
          "apiVersion": "v1",
          "groupVersion": "networking.k8s.io/v1",
          "kind": "APIResourceList",
          "resources": [
            {
              "kind": "ServiceCIDR",
              "name": "servicecidrs",
              "namespaced": false,
              "singularName": "servicecidr",
              "verbs": [
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch"
              ]
            },
            {
              "kind": "ServiceCIDR",
              "name": "servicecidrs/status",
              "namespaced": false,
              "singularName": "",
              "verbs": [
                "get",
                "patch",
                "update"
              ]
            },
            {
              "kind": "IPAddress",
              "name": "ipaddresses",
              "namespaced": false,
              "shortNames": [
                "ip"
              ],
              "singularName": "ipaddress",
              "verbs": [
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch"
              ]
            }
          ]
        }"#]],
    );
}

#[test]
fn legacy_core_resources() {
    let discovery = Discovery::new();
    let (_, core) = &discovery.resources[0];
    let value: Value = serde_json::from_slice(&core.bytes).unwrap();
    let lines: Vec<String> = value["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| format!("{} {} {} {} {}", r["name"], r["kind"], r["namespaced"], r["shortNames"], r["verbs"]))
        .collect();
    expect![[r#"
        "namespaces" "Namespace" false ["ns"] ["create","delete","get","list","patch","update","watch"]
        "namespaces/finalize" "Namespace" false null ["update"]
        "namespaces/status" "Namespace" false null ["get","patch","update"]
        "nodes" "Node" false ["no"] ["create","delete","deletecollection","get","list","patch","update","watch"]
        "nodes/status" "Node" false null ["get","patch","update"]
        "bindings" "Binding" true null ["create"]
        "pods" "Pod" true ["po"] ["create","delete","deletecollection","get","list","patch","update","watch"]
        "pods/binding" "Binding" true null ["create"]
        "pods/status" "Pod" true null ["get","patch","update"]
        "services" "Service" true ["svc"] ["create","delete","deletecollection","get","list","patch","update","watch"]
        "services/status" "Service" true null ["get","patch","update"]
        "endpoints" "Endpoints" true ["ep"] ["create","delete","deletecollection","get","list","patch","update","watch"]
        "events" "Event" true ["ev"] ["create","delete","deletecollection","get","list","patch","update","watch"]
        "serviceaccounts" "ServiceAccount" true ["sa"] ["create","delete","deletecollection","get","list","patch","update","watch"]
        "serviceaccounts/token" "TokenRequest" true null ["create"]
        "secrets" "Secret" true null ["create","delete","deletecollection","get","list","patch","update","watch"]"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn aggregated() {
    let discovery = Discovery::new();
    check(
        &discovery.groups.v2,
        expect![[r#"
            {
              "apiVersion": "apidiscovery.k8s.io/v2",
              "items": [
                {
                  "metadata": {
                    "creationTimestamp": null,
                    "name": "authentication.k8s.io"
                  },
                  "versions": [
                    {
                      "freshness": "Current",
                      "resources": [
                        {
                          "resource": "selfsubjectreviews",
                          "responseKind": {
                            "group": "authentication.k8s.io",
                            "kind": "SelfSubjectReview",
                            "version": "v1"
                          },
                          "scope": "Cluster",
                          "singularResource": "selfsubjectreview",
                          "verbs": [
                            "create"
                          ]
                        }
                      ],
                      "version": "v1"
                    }
                  ]
                },
                {
                  "metadata": {
                    "creationTimestamp": null,
                    "name": "authorization.k8s.io"
                  },
                  "versions": [
                    {
                      "freshness": "Current",
                      "resources": [
                        {
                          "resource": "localsubjectaccessreviews",
                          "responseKind": {
                            "group": "authorization.k8s.io",
                            "kind": "LocalSubjectAccessReview",
                            "version": "v1"
                          },
                          "scope": "Namespaced",
                          "singularResource": "localsubjectaccessreview",
                          "verbs": [
                            "create"
                          ]
                        },
                        {
                          "resource": "selfsubjectaccessreviews",
                          "responseKind": {
                            "group": "authorization.k8s.io",
                            "kind": "SelfSubjectAccessReview",
                            "version": "v1"
                          },
                          "scope": "Cluster",
                          "singularResource": "selfsubjectaccessreview",
                          "verbs": [
                            "create"
                          ]
                        },
                        {
                          "resource": "selfsubjectrulesreviews",
                          "responseKind": {
                            "group": "authorization.k8s.io",
                            "kind": "SelfSubjectRulesReview",
                            "version": "v1"
                          },
                          "scope": "Cluster",
                          "singularResource": "selfsubjectrulesreview",
                          "verbs": [
                            "create"
                          ]
                        },
                        {
                          "resource": "subjectaccessreviews",
                          "responseKind": {
                            "group": "authorization.k8s.io",
                            "kind": "SubjectAccessReview",
                            "version": "v1"
                          },
                          "scope": "Cluster",
                          "singularResource": "subjectaccessreview",
                          "verbs": [
                            "create"
                          ]
                        }
                      ],
                      "version": "v1"
                    }
                  ]
                },
                {
                  "metadata": {
                    "creationTimestamp": null,
                    "name": "coordination.k8s.io"
                  },
                  "versions": [
                    {
                      "freshness": "Current",
                      "resources": [
                        {
                          "resource": "leases",
                          "responseKind": {
                            "group": "coordination.k8s.io",
                            "kind": "Lease",
                            "version": "v1"
                          },
                          "scope": "Namespaced",
                          "singularResource": "lease",
                          "verbs": [
                            "create",
                            "delete",
                            "deletecollection",
                            "get",
                            "list",
                            "patch",
                            "update",
                            "watch"
                          ]
                        }
                      ],
                      "version": "v1"
                    }
                  ]
                },
                {
                  "metadata": {
                    "creationTimestamp": null,
                    "name": "discovery.k8s.io"
                  },
                  "versions": [
                    {
                      "freshness": "Current",
                      "resources": [
                        {
                          "resource": "endpointslices",
                          "responseKind": {
                            "group": "discovery.k8s.io",
                            "kind": "EndpointSlice",
                            "version": "v1"
                          },
                          "scope": "Namespaced",
                          "singularResource": "endpointslice",
                          "verbs": [
                            "create",
                            "delete",
                            "deletecollection",
                            "get",
                            "list",
                            "patch",
                            "update",
                            "watch"
                          ]
                        }
                      ],
                      "version": "v1"
                    }
                  ]
                },
                {
                  "metadata": {
                    "creationTimestamp": null,
                    "name": "events.k8s.io"
                  },
                  "versions": [
                    {
                      "freshness": "Current",
                      "resources": [
                        {
                          "resource": "events",
                          "responseKind": {
                            "group": "events.k8s.io",
                            "kind": "Event",
                            "version": "v1"
                          },
                          "scope": "Namespaced",
                          "shortNames": [
                            "ev"
                          ],
                          "singularResource": "event",
                          "verbs": [
                            "create",
                            "delete",
                            "deletecollection",
                            "get",
                            "list",
                            "patch",
                            "update",
                            "watch"
                          ]
                        }
                      ],
                      "version": "v1"
                    }
                  ]
                },
                {
                  "metadata": {
                    "creationTimestamp": null,
                    "name": "networking.k8s.io"
                  },
                  "versions": [
                    {
                      "freshness": "Current",
                      "resources": [
                        {
                          "resource": "servicecidrs",
                          "responseKind": {
                            "group": "networking.k8s.io",
                            "kind": "ServiceCIDR",
                            "version": "v1"
                          },
                          "scope": "Cluster",
                          "singularResource": "servicecidr",
                          "subresources": [
                            {
                              "responseKind": {
                                "group": "networking.k8s.io",
                                "kind": "ServiceCIDR",
                                "version": "v1"
                              },
                              "subresource": "status",
                              "verbs": [
                                "get",
                                "patch",
                                "update"
                              ]
                            }
                          ],
                          "verbs": [
                            "create",
                            "delete",
                            "deletecollection",
                            "get",
                            "list",
                            "patch",
                            "update",
                            "watch"
                          ]
                        },
                        {
                          "resource": "ipaddresses",
                          "responseKind": {
                            "group": "networking.k8s.io",
                            "kind": "IPAddress",
                            "version": "v1"
                          },
                          "scope": "Cluster",
                          "shortNames": [
                            "ip"
                          ],
                          "singularResource": "ipaddress",
                          "verbs": [
                            "create",
                            "delete",
                            "deletecollection",
                            "get",
                            "list",
                            "patch",
                            "update",
                            "watch"
                          ]
                        }
                      ],
                      "version": "v1"
                    }
                  ]
                },
                {
                  "metadata": {
                    "creationTimestamp": null,
                    "name": "portolan.dev"
                  },
                  "versions": [
                    {
                      "freshness": "Current",
                      "resources": [
                        {
                          "resource": "tokens",
                          "responseKind": {
                            "group": "portolan.dev",
                            "kind": "Token",
                            "version": "v1alpha1"
                          },
                          "scope": "Cluster",
                          "singularResource": "token",
                          "verbs": [
                            "create",
                            "delete",
                            "deletecollection",
                            "get",
                            "list",
                            "patch",
                            "update",
                            "watch"
                          ]
                        },
                        {
                          "resource": "addresspools",
                          "responseKind": {
                            "group": "portolan.dev",
                            "kind": "AddressPool",
                            "version": "v1alpha1"
                          },
                          "scope": "Cluster",
                          "shortNames": [
                            "pool"
                          ],
                          "singularResource": "addresspool",
                          "subresources": [
                            {
                              "responseKind": {
                                "group": "portolan.dev",
                                "kind": "AddressPool",
                                "version": "v1alpha1"
                              },
                              "subresource": "status",
                              "verbs": [
                                "get",
                                "patch",
                                "update"
                              ]
                            }
                          ],
                          "verbs": [
                            "create",
                            "delete",
                            "deletecollection",
                            "get",
                            "list",
                            "patch",
                            "update",
                            "watch"
                          ]
                        },
                        {
                          "resource": "loadbalancers",
                          "responseKind": {
                            "group": "portolan.dev",
                            "kind": "LoadBalancer",
                            "version": "v1alpha1"
                          },
                          "scope": "Cluster",
                          "shortNames": [
                            "lb"
                          ],
                          "singularResource": "loadbalancer",
                          "subresources": [
                            {
                              "responseKind": {
                                "group": "portolan.dev",
                                "kind": "LoadBalancer",
                                "version": "v1alpha1"
                              },
                              "subresource": "status",
                              "verbs": [
                                "get",
                                "patch",
                                "update"
                              ]
                            }
                          ],
                          "verbs": [
                            "create",
                            "delete",
                            "deletecollection",
                            "get",
                            "list",
                            "patch",
                            "update",
                            "watch"
                          ]
                        },
                        {
                          "resource": "accesslists",
                          "responseKind": {
                            "group": "portolan.dev",
                            "kind": "AccessList",
                            "version": "v1alpha1"
                          },
                          "scope": "Cluster",
                          "shortNames": [
                            "acl"
                          ],
                          "singularResource": "accesslist",
                          "verbs": [
                            "create",
                            "delete",
                            "deletecollection",
                            "get",
                            "list",
                            "patch",
                            "update",
                            "watch"
                          ]
                        },
                        {
                          "resource": "nodes",
                          "responseKind": {
                            "group": "",
                            "kind": "",
                            "version": ""
                          },
                          "scope": "Cluster",
                          "singularResource": "",
                          "subresources": [
                            {
                              "responseKind": {
                                "group": "portolan.dev",
                                "kind": "Acknowledgement",
                                "version": "v1alpha1"
                              },
                              "subresource": "acknowledgement",
                              "verbs": [
                                "update"
                              ]
                            },
                            {
                              "responseKind": {
                                "group": "portolan.dev",
                                "kind": "Answer",
                                "version": "v1alpha1"
                              },
                              "subresource": "answers",
                              "verbs": [
                                "create"
                              ]
                            },
                            {
                              "responseKind": {
                                "group": "portolan.dev",
                                "kind": "CertificateRequest",
                                "version": "v1alpha1"
                              },
                              "subresource": "certificate",
                              "verbs": [
                                "create"
                              ]
                            },
                            {
                              "responseKind": {
                                "group": "portolan.dev",
                                "kind": "HeartbeatResponse",
                                "version": "v1alpha1"
                              },
                              "subresource": "heartbeat",
                              "verbs": [
                                "update"
                              ]
                            },
                            {
                              "responseKind": {
                                "group": "portolan.dev",
                                "kind": "Question",
                                "version": "v1alpha1"
                              },
                              "subresource": "questions",
                              "verbs": [
                                "create",
                                "get"
                              ]
                            }
                          ],
                          "verbs": []
                        },
                        {
                          "resource": "services",
                          "responseKind": {
                            "group": "",
                            "kind": "",
                            "version": ""
                          },
                          "scope": "Namespaced",
                          "singularResource": "",
                          "subresources": [
                            {
                              "responseKind": {
                                "group": "portolan.dev",
                                "kind": "ServiceProgrammed",
                                "version": "v1alpha1"
                              },
                              "subresource": "programmed",
                              "verbs": [
                                "get"
                              ]
                            }
                          ],
                          "verbs": []
                        }
                      ],
                      "version": "v1alpha1"
                    }
                  ]
                },
                {
                  "metadata": {
                    "creationTimestamp": null,
                    "name": "rbac.authorization.k8s.io"
                  },
                  "versions": [
                    {
                      "freshness": "Current",
                      "resources": [
                        {
                          "resource": "roles",
                          "responseKind": {
                            "group": "rbac.authorization.k8s.io",
                            "kind": "Role",
                            "version": "v1"
                          },
                          "scope": "Namespaced",
                          "singularResource": "role",
                          "verbs": [
                            "create",
                            "delete",
                            "deletecollection",
                            "get",
                            "list",
                            "patch",
                            "update",
                            "watch"
                          ]
                        },
                        {
                          "resource": "rolebindings",
                          "responseKind": {
                            "group": "rbac.authorization.k8s.io",
                            "kind": "RoleBinding",
                            "version": "v1"
                          },
                          "scope": "Namespaced",
                          "singularResource": "rolebinding",
                          "verbs": [
                            "create",
                            "delete",
                            "deletecollection",
                            "get",
                            "list",
                            "patch",
                            "update",
                            "watch"
                          ]
                        },
                        {
                          "resource": "clusterroles",
                          "responseKind": {
                            "group": "rbac.authorization.k8s.io",
                            "kind": "ClusterRole",
                            "version": "v1"
                          },
                          "scope": "Cluster",
                          "singularResource": "clusterrole",
                          "verbs": [
                            "create",
                            "delete",
                            "deletecollection",
                            "get",
                            "list",
                            "patch",
                            "update",
                            "watch"
                          ]
                        },
                        {
                          "resource": "clusterrolebindings",
                          "responseKind": {
                            "group": "rbac.authorization.k8s.io",
                            "kind": "ClusterRoleBinding",
                            "version": "v1"
                          },
                          "scope": "Cluster",
                          "singularResource": "clusterrolebinding",
                          "verbs": [
                            "create",
                            "delete",
                            "deletecollection",
                            "get",
                            "list",
                            "patch",
                            "update",
                            "watch"
                          ]
                        }
                      ],
                      "version": "v1"
                    }
                  ]
                }
              ],
              "kind": "APIGroupDiscoveryList",
              "metadata": {}
            }"#]],
    );
    let text = |document: &Document| String::from_utf8(document.bytes.to_vec()).unwrap();
    assert_eq!(
        text(&discovery.groups.v2).replace("apidiscovery.k8s.io/v2", "apidiscovery.k8s.io/v2beta1"),
        text(&discovery.groups.v2beta1)
    );
    let core: Value = serde_json::from_slice(&discovery.core.v2.bytes).unwrap();
    assert_eq!(core["items"].as_array().unwrap().len(), 1);
    let services = &core["items"][0]["versions"][0]["resources"][3];
    expect![[r#"
        {
          "categories": [
            "all"
          ],
          "resource": "pods",
          "responseKind": {
            "group": "",
            "kind": "Pod",
            "version": "v1"
          },
          "scope": "Namespaced",
          "shortNames": [
            "po"
          ],
          "singularResource": "pod",
          "subresources": [
            {
              "responseKind": {
                "group": "",
                "kind": "Binding",
                "version": "v1"
              },
              "subresource": "binding",
              "verbs": [
                "create"
              ]
            },
            {
              "responseKind": {
                "group": "",
                "kind": "Pod",
                "version": "v1"
              },
              "subresource": "status",
              "verbs": [
                "get",
                "patch",
                "update"
              ]
            }
          ],
          "verbs": [
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch"
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(services).unwrap());
}

#[test]
fn root_lists_what_is_served() {
    check(
        &Discovery::new().paths,
        expect![[r#"
            {
              "paths": [
                "/api",
                "/api/v1",
                "/apis",
                "/apis/authentication.k8s.io",
                "/apis/authentication.k8s.io/v1",
                "/apis/authorization.k8s.io",
                "/apis/authorization.k8s.io/v1",
                "/apis/coordination.k8s.io",
                "/apis/coordination.k8s.io/v1",
                "/apis/discovery.k8s.io",
                "/apis/discovery.k8s.io/v1",
                "/apis/events.k8s.io",
                "/apis/events.k8s.io/v1",
                "/apis/networking.k8s.io",
                "/apis/networking.k8s.io/v1",
                "/apis/portolan.dev",
                "/apis/portolan.dev/v1alpha1",
                "/apis/portolan.dev/v1alpha1/programmed",
                "/apis/rbac.authorization.k8s.io",
                "/apis/rbac.authorization.k8s.io/v1",
                "/docs",
                "/docs/page.css",
                "/docs/page.js",
                "/healthz",
                "/livez",
                "/metrics",
                "/openapi.json",
                "/openapi/v2",
                "/openapi/v3",
                "/openapi/v3/api/v1",
                "/openapi/v3/apis/authentication.k8s.io/v1",
                "/openapi/v3/apis/authorization.k8s.io/v1",
                "/openapi/v3/apis/coordination.k8s.io/v1",
                "/openapi/v3/apis/discovery.k8s.io/v1",
                "/openapi/v3/apis/events.k8s.io/v1",
                "/openapi/v3/apis/networking.k8s.io/v1",
                "/openapi/v3/apis/portolan.dev/v1alpha1",
                "/openapi/v3/apis/rbac.authorization.k8s.io/v1",
                "/readyz",
                "/version"
              ]
            }"#]],
    );
}
