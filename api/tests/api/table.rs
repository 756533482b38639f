//! Server-side tables through the API.

use serde_json::{Value, json};

use crate::app::{App, SERVICES};

const TABLE: &str =
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

#[tokio::test]
async fn a_list_and_an_object_are_tables() {
    let app = App::new().await;
    let created = app.service("web", json!({})).await;
    for path in [SERVICES.to_owned(), format!("{SERVICES}/web")] {
        let table = app.get_as(&path, TABLE).await.json();
        assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
        assert_eq!(
            table["columnDefinitions"][0],
            json!({
                "name": "Name", "type": "string", "format": "name", "priority": 0,
                "description": "The name of the object, unique in its namespace and resource."
            })
        );
        let row = &table["rows"][0];
        assert_eq!(row["cells"][0], "web");
        assert_eq!(row["cells"][2], created["spec"]["clusterIP"]);
        assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(row["object"]["metadata"]["uid"], created["metadata"]["uid"]);
    }
    let old = app.get_as(SERVICES, "application/json;as=Table;v=v1beta1;g=meta.k8s.io").await.json();
    assert_eq!(old["apiVersion"], "meta.k8s.io/v1beta1");
}

#[tokio::test]
async fn rows_carry_what_was_asked_for() {
    let app = App::new().await;
    let created = app.service("web", json!({})).await;
    let object = async |include: &str| {
        let answer = app.get_as(&format!("{SERVICES}?includeObject={include}"), TABLE).await;
        answer.json()["rows"][0]["object"].clone()
    };
    assert_eq!(object("None").await, Value::Null);
    assert_eq!(object("Object").await, created);
    assert_eq!(app.get_as(&format!("{SERVICES}?includeObject=Some"), TABLE).await.code, 422);
}

#[tokio::test]
async fn every_resource_has_a_table() {
    let app = App::new().await;
    for resource in model::Resource::ALL {
        let info = resource.info();
        let root = if info.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}/v1", info.group) };
        let table = app.get_as(&format!("{root}/{}", info.plural), TABLE).await.json();
        assert_eq!(table["kind"], "Table");
        assert!(table["columnDefinitions"].as_array().unwrap().len() >= 2);
    }
}
