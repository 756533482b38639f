//! Which slices are written, created, deleted.

use expect_test::expect;
use serde_json::json;

use super::*;

#[test]
fn metadata_of_a_written_slice_is_kept() {
    let service = service(json!({}));
    let mut slices = Slices::default();
    slices.derive(&service, &[pod("a", 1)]);
    let slice = slices.by_name.get_mut("web-00001").unwrap();
    slice.metadata.uid = Some("slice-1".into());
    slice.metadata.annotations.insert("example.com/note".into(), "kept".into());
    slices.derive(&service, &[pod("a", 1), pod("b", 2)]);
    let slice = &slices.by_name["web-00001"];
    assert_eq!(slice.endpoints.len(), 2);
    assert_eq!(slice.metadata.uid(), "slice-1");
    assert_eq!(slice.metadata.annotations.get("example.com/note").unwrap(), "kept");
}

#[test]
fn slices_of_another_owner_or_family_go() {
    let dual = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
    let pods = [pod("a", 1)];
    let mut slices = Slices::default();
    slices.derive(&dual, &pods);
    let mut text = summary(&slices.derive(&service(json!({})), &pods));
    let mut again = service(json!({}));
    again.metadata.uid = Some("service-2".into());
    text += "the Service was made anew:\n";
    text += &summary(&slices.derive(&again, &pods));
    text += "it became an external name:\n";
    text += &summary(&slices.clone().derive(&service(json!({"type": "ExternalName"})), &pods));
    text += "it lost its selector:\n";
    text += &summary(&slices.clone().derive(&service(json!({"selector": {}})), &pods));
    text += "it is being deleted, and its Pods are:\n";
    again.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
    again.spec.ip_families.push("IPv6".into());
    text += &summary(&slices.derive(&again, &[]));
    expect![[r#"
        delete web-00002
        the Service was made anew:
        create web-00003 IPv4 [http:8080/TCP] a=10.244.0.1(rs-)
        delete web-00001
        it became an external name:
        delete web-00003
        it lost its selector:
        it is being deleted, and its Pods are:
        update web-00003 IPv4 []
    "#]]
    .assert_eq(&text);
}

#[test]
fn slices_fill_the_changed_then_the_best_fitting() {
    let service = service(json!({}));
    let mut pods: Vec<Pod> = (0..250).map(|n| pod(&format!("p{n:03}"), n)).collect();
    let mut slices = Slices::default();
    slices.derive(&service, &pods);
    let sizes = |slices: &Slices| {
        slices.by_name.values().map(|s| format!("{}:{}", s.metadata.name(), s.endpoints.len())).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&slices), ["web-00001:100", "web-00002:100", "web-00003:50"]);
    // One Pod more goes where there is room; with one that changes elsewhere, into that one's slice, if it fits.
    pods.push(pod("q", 999));
    assert_eq!(slices.derive(&service, &pods).len(), 1);
    assert_eq!(sizes(&slices), ["web-00001:100", "web-00002:100", "web-00003:51"]);
    pods.remove(10);
    pods.push(pod("r", 998));
    assert_eq!(slices.derive(&service, &pods).len(), 1);
    assert_eq!(sizes(&slices), ["web-00001:100", "web-00002:100", "web-00003:51"]);
    // Half of the Pods go: nothing is balanced anew.
    pods.retain(|p| !p.metadata.name().starts_with("p1"));
    slices.derive(&service, &pods);
    assert_eq!(sizes(&slices), ["web-00001:100", "web-00003:51"]);
    pods.retain(|p| p.metadata.name() > "p050");
    slices.derive(&service, &pods);
    assert_eq!(sizes(&slices), ["web-00001:50", "web-00003:51"]);
    // Sixty fit into neither whole: a new slice. Forty fit into the fuller of both.
    pods.extend((0..60).map(|n| pod(&format!("s{n:03}"), 300 + n)));
    slices.derive(&service, &pods);
    assert_eq!(sizes(&slices), ["web-00001:50", "web-00003:51", "web-00004:60"]);
    pods.extend((0..40).map(|n| pod(&format!("t{n:03}"), 400 + n)));
    slices.derive(&service, &pods);
    assert_eq!(sizes(&slices), ["web-00001:50", "web-00003:51", "web-00004:100"]);
}

#[test]
fn a_long_name_is_cut_as_generated_names_are() {
    let mut service = service(json!({}));
    service.metadata.name = Some("a".repeat(63));
    let mut slices = Slices::default();
    slices.derive(&service, &[]);
    let names: Vec<usize> = slices.by_name.keys().map(String::len).collect();
    assert_eq!(names, [63]);
}
