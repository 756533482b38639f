//! Creation through the API.

use expect_test::expect;
use serde_json::json;

use crate::app::{App, SERVICES, service};

#[tokio::test]
async fn a_created_object_is_answered_whole() {
    let app = App::new().await;
    let answer = app.post(SERVICES, &service("web", json!({"a": "b"}))).await;
    expect![[r#"
        201 {
          "apiVersion": "v1",
          "kind": "Service",
          "metadata": {
            "creationTimestamp": "2024-05-01T12:00:00Z",
            "generation": 1,
            "labels": {
              "a": "b"
            },
            "managedFields": [
              {
                "apiVersion": "v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {
                  "f:metadata": {
                    "f:labels": {
                      ".": {},
                      "f:a": {}
                    }
                  },
                  "f:spec": {
                    "f:internalTrafficPolicy": {},
                    "f:ports": {
                      ".": {},
                      "k:{\"port\":80,\"protocol\":\"TCP\"}": {
                        ".": {},
                        "f:port": {},
                        "f:protocol": {},
                        "f:targetPort": {}
                      }
                    },
                    "f:selector": {},
                    "f:sessionAffinity": {},
                    "f:type": {}
                  }
                },
                "manager": "unknown",
                "operation": "Update",
                "time": "2024-05-01T12:00:00Z"
              }
            ],
            "name": "web",
            "namespace": "default",
            "resourceVersion": "<resourceVersion>",
            "uid": "<uid>"
          },
          "spec": {
            "clusterIP": "<clusterIP>",
            "clusterIPs": "<clusterIPs>",
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": [
              "IPv4"
            ],
            "ipFamilyPolicy": "SingleStack",
            "ports": [
              {
                "port": 80,
                "protocol": "TCP",
                "targetPort": 80
              }
            ],
            "selector": {
              "app": "web"
            },
            "sessionAffinity": "None",
            "type": "ClusterIP"
          },
          "status": {
            "loadBalancer": {}
          }
        }"#]]
    .assert_eq(&answer.golden());
    // Where many are listed, it is the very same; read by its name it has a condition besides.
    let again = app.get(&format!("{SERVICES}?limit=1")).await;
    assert_eq!(again.json()["items"][0], answer.json());
    assert_eq!(
        app.post(SERVICES, &service("web", json!({}))).await.status(),
        r#"409 AlreadyExists: services "web" already exists"#
    );
}

#[tokio::test]
async fn what_kubernetes_refuses_is_refused_in_its_words() {
    let app = App::new().await;
    let mut lines = Vec::new();
    for value in [
        json!({"metadata": {"name": "a"}, "kind": "Pod"}),
        json!({"metadata": {"name": "a"}, "apiVersion": "v2"}),
        json!({"metadata": {"name": "a"}, "kind": 7}),
        json!({"metadata": {"name": "a", "namespace": "other"}}),
        json!({"metadata": {"name": "a", "resourceVersion": "5"}}),
        json!({"metadata": []}),
        json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": "80"}]}}),
        json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 99999}]}}),
        json!({"metadata": {"name": "A", "labels": {"-": "x"}}}),
        json!({"spec": {"ports": [{"port": 80}]}}),
        json!([]),
        json!("x"),
        json!(null),
    ] {
        lines.push(format!("{value}\n    {}", app.post(SERVICES, &value).await.status()));
    }
    let missing = app.post("/api/v1/namespaces/nope/services", &service("web", json!({}))).await;
    lines.push(missing.status());
    expect![[r#"
        {"kind":"Pod","metadata":{"name":"a"}}
            400 BadRequest: Pod in version "v1" cannot be handled as a Service: converting (v1.Pod) to (v1.Service): unknown conversion
        {"apiVersion":"v2","metadata":{"name":"a"}}
            400 BadRequest: the API version in the data (v2) does not match the expected API version (v1)
        {"kind":7,"metadata":{"name":"a"}}
            400 BadRequest: Service in version "v1" cannot be handled as a Service: json: cannot unmarshal number into Go struct field TypeMeta.kind of type string
        {"metadata":{"name":"a","namespace":"other"}}
            400 BadRequest: the namespace of the provided object does not match the namespace sent on the request
        {"metadata":{"name":"a","resourceVersion":"5"}}
            400 BadRequest: resourceVersion should not be set on objects to be created
        {"metadata":[]}
            400 BadRequest: Service in version "v1" cannot be handled as a Service: json: cannot unmarshal array into Go struct field Service.metadata of type v1.ObjectMeta
        {"metadata":{"name":"a"},"spec":{"ports":[{"port":"80"}]}}
            400 BadRequest: Service in version "v1" cannot be handled as a Service: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
        {"metadata":{"name":"a"},"spec":{"ports":[{"port":99999}]}}
            422 Invalid: Service "a" is invalid: [spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive, spec.ports[0].targetPort: Invalid value: 99999: must be between 1 and 65535, inclusive]
        {"metadata":{"labels":{"-":"x"},"name":"A"}}
            422 Invalid: Service "A" is invalid: [metadata.name: Invalid value: "A": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?'), metadata.labels: Invalid value: "-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), spec.ports: Required value]
        {"spec":{"ports":[{"port":80}]}}
            422 Invalid: Service "" is invalid: metadata.name: Required value: name or generateName is required
        []
            400 BadRequest: the object provided is unrecognized (must be of type Service): couldn't get version/kind; cannot unmarshal array into Go value of type v1.Service (5b5d)
        "x"
            400 BadRequest: the object provided is unrecognized (must be of type Service): couldn't get version/kind; cannot unmarshal string into Go value of type v1.Service (227822)
        null
            400 BadRequest: the object provided is unrecognized (must be of type Service): couldn't get version/kind; cannot unmarshal null into Go value of type v1.Service (6e756c6c)
        404 NotFound: namespaces "nope" not found"#]].assert_eq(&lines.join("\n"));
    assert_eq!(app.get(SERVICES).await.json()["items"], json!([]));
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_handled_as_asked() {
    let app = App::new().await;
    let body = r#"{"metadata":{"name":"NAME"},"spec":{"ports":[{"port":80,"prot":"TCP"}],"selectr":{"a":"b"},"type":"NodePort","type":"ClusterIP"}}"#;
    let send = async |name: &str, query: &str| {
        let path = format!("{SERVICES}?{query}");
        app.with_body("POST", &path, "application/json", body.replace("NAME", name)).await
    };
    let strict = send("strict", "fieldValidation=Strict").await;
    expect![[r#"400 BadRequest: Service in version "v1" cannot be handled as a Service: strict decoding error: duplicate field "spec.type", unknown field "spec.ports[0].prot", unknown field "spec.selectr""#]].assert_eq(&strict.status());
    let warnings = [
        r#"299 - "duplicate field \"spec.type\"""#,
        r#"299 - "unknown field \"spec.ports[0].prot\"""#,
        r#"299 - "unknown field \"spec.selectr\"""#,
    ];
    for (name, query) in [("warn", "fieldValidation=Warn"), ("default", "")] {
        let warned = send(name, query).await;
        assert_eq!((warned.code.as_u16(), warned.warnings()), (201, warnings.to_vec()));
        assert_eq!(warned.json()["spec"].get("selectr"), None);
        assert_eq!(warned.json()["spec"]["type"], "ClusterIP");
    }
    // The warnings come along when something else is wrong.
    let taken = send("warn", "").await;
    assert_eq!((taken.code.as_u16(), taken.warnings()), (409, warnings.to_vec()));
    let ignored = send("ignore", "fieldValidation=Ignore").await;
    assert_eq!((ignored.code.as_u16(), ignored.warnings().len()), (201, 0));
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let app = App::new().await;
    let before = app.store.revision();
    let answer = app.post(&format!("{SERVICES}?dryRun=All"), &service("web", json!({}))).await;
    assert_eq!(answer.code, 201);
    assert_eq!(app.store.revision(), before);
    assert_eq!(app.get(&format!("{SERVICES}/web")).await.code, 404);
}

#[tokio::test]
async fn names_are_generated() {
    let app = App::new().await;
    let mut value = service("x", json!({}));
    value["metadata"] = json!({"generateName": "web-"});
    let name = app.post(SERVICES, &value).await.json()["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
}

#[tokio::test]
async fn cluster_scoped_and_grouped_resources_have_their_paths() {
    let app = App::new().await;
    let node = app.post("/api/v1/nodes", &json!({"metadata": {"name": "n1", "namespace": "ignored"}})).await;
    assert_eq!(node.code, 201, "{}", node.text());
    assert_eq!(node.json()["apiVersion"], "v1");
    let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let answer = app.post(lease, &json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}})).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert_eq!(answer.json()["apiVersion"], "coordination.k8s.io/v1");
    assert_eq!(
        app.get(&format!("{lease}/x")).await.status(),
        r#"404 NotFound: leases.coordination.k8s.io "x" not found"#
    );
}
