use expect_test::expect;
use serde_json::{Value, json};

use crate::admission::Subresource;
use crate::admission::tests::{create, refused, update};
use crate::resource::Resource;

fn role(rules: Value) -> Value {
    json!({ "metadata": { "name": "system:reader" }, "rules": rules })
}

fn binding(kind: &str, subjects: Value) -> Value {
    json!({
        "metadata": { "name": "readers" },
        "roleRef": { "kind": kind, "name": "reader" },
        "subjects": subjects,
    })
}

#[test]
fn rules_of_roles() {
    let rules = json!([
        {},
        { "verbs": ["get"], "resources": ["pods"], "apiGroups": [""] },
        { "verbs": ["get"], "nonResourceURLs": ["/metrics"] },
        { "verbs": ["get"], "nonResourceURLs": ["/metrics"], "resources": ["pods"] },
    ]);
    expect![[r#"
        rules[0].verbs: Required value: verbs must contain at least one value
        rules[0].apiGroups: Required value: resource rules must supply at least one api group
        rules[0].resources: Required value: resource rules must supply at least one resource
        rules[2].nonResourceURLs: Invalid value: ["/metrics"]: namespaced rules cannot apply to non-resource URLs
        rules[3].nonResourceURLs: Invalid value: ["/metrics"]: namespaced rules cannot apply to non-resource URLs
        rules[3].nonResourceURLs: Invalid value: ["/metrics"]: rules cannot apply to both regular resources and non-resource URLs
    "#]]
    .assert_eq(&refused(Resource::Roles, role(rules)));
    assert!(create(Resource::Roles, role(Value::Null)).is_ok());
    let urls = json!([{ "verbs": ["get"], "nonResourceURLs": ["/metrics"] }]);
    assert!(create(Resource::ClusterRoles, role(urls)).is_ok());
}

#[test]
fn aggregation() {
    let with = |selectors: Value| {
        let mut role = role(Value::Null);
        role["aggregationRule"] = json!({ "clusterRoleSelectors": selectors });
        role
    };
    let selectors = json!([
        { "matchLabels": { "a b": "c" } },
        { "matchExpressions": [
            { "key": "a", "operator": "In" },
            { "key": "a", "operator": "Exists", "values": ["x"] },
            { "key": "a", "operator": "Equals" },
        ] },
    ]);
    let wrong = refused(Resource::ClusterRoles, with(json!([]))) + &refused(Resource::ClusterRoles, with(selectors));
    expect![[r#"
        aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil
        aggregationRule.clusterRoleSelectors[0].matchLabels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        aggregationRule.clusterRoleSelectors[1].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
        aggregationRule.clusterRoleSelectors[1].matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'
        aggregationRule.clusterRoleSelectors[1].matchExpressions[2].operator: Invalid value: "Equals": not a valid selector operator
    "#]]
    .assert_eq(&wrong);
}

#[test]
fn bindings_are_defaulted_and_refused() {
    let subjects = json!([
        { "kind": "User", "name": "alice" },
        { "kind": "Group", "name": "devs" },
        { "kind": "ServiceAccount", "name": "robot", "namespace": "shop" },
    ]);
    let made = create(Resource::RoleBindings, binding("Role", subjects)).expect("a RoleBinding");
    assert_eq!(made["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(made["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    assert!(made["subjects"][2].get("apiGroup").is_none());

    let subjects = json!([
        { "kind": "User" },
        { "kind": "Group", "name": "devs", "apiGroup": "x" },
        { "kind": "ServiceAccount", "name": "A", "apiGroup": "x" },
        { "kind": "Robot", "name": "r" },
    ]);
    let mut wrong = refused(Resource::ClusterRoleBindings, binding("Role", subjects));
    wrong += &refused(Resource::RoleBindings, json!({ "metadata": { "name": "a/b" } }));
    let mut changed = made.clone();
    changed["roleRef"]["name"] = "writer".into();
    wrong += &update(Resource::RoleBindings, Subresource::None, &made, changed).expect_err("must be refused");
    expect![[r#"
        roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
        subjects[0].name: Required value
        subjects[1].apiGroup: Unsupported value: "x": supported values: "rbac.authorization.k8s.io"
        subjects[2].name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        subjects[2].apiGroup: Unsupported value: "x": supported values: ""
        subjects[2].namespace: Required value
        subjects[3].kind: Unsupported value: "Robot": supported values: "Group", "ServiceAccount", "User"
        metadata.name: Invalid value: "a/b": may not contain '/'
        roleRef.apiGroup: Unsupported value: "": supported values: "rbac.authorization.k8s.io"
        roleRef.kind: Unsupported value: "": supported values: "ClusterRole", "Role"
        roleRef.name: Required value
        roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"writer"}: cannot change roleRef
    "#]].assert_eq(&wrong);
}
