//! `Accept` headers of real clients.

use http::HeaderValue;

use super::*;

fn negotiate(accept_header: &str, endpoint: Endpoint) -> Result<Accepted, u16> {
    let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept_header).unwrap())]);
    accept(&headers, endpoint).map_err(|s| s.code().as_u16())
}

const PLAIN: Accepted = Accepted { format: Format::Json, shape: Shape::Plain };

#[test]
fn kubectl_get_asks_for_a_table() {
    let header = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    let table = Accepted { format: Format::Json, shape: Shape::Table("v1") };
    assert_eq!(negotiate(header, Endpoint::Objects), Ok(table));
    assert_eq!(negotiate(header, Endpoint::Watch), Ok(table));
    assert_eq!(negotiate(header, Endpoint::Documents), Ok(PLAIN));
}

#[test]
fn versions_of_discovery_are_taken_in_the_order_asked() {
    let both = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let old = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let unknown = "application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList,application/json";
    let shape = |header| negotiate(header, Endpoint::DiscoveryRoot).unwrap().shape;
    assert_eq!(shape(both), Shape::Discovery("v2"));
    assert_eq!(shape(old), Shape::Discovery("v2beta1"));
    assert_eq!(shape(unknown), Shape::Plain);
}

#[test]
fn what_is_not_served_falls_to_the_next() {
    assert_eq!(negotiate("application/json;as=Chair;v=v1;g=meta.k8s.io, */*;q=0.8", Endpoint::Objects), Ok(PLAIN));
    assert_eq!(negotiate("text/html,application/xhtml+xml,*/*;q=0.8", Endpoint::Objects), Ok(PLAIN));
    assert_eq!(negotiate("", Endpoint::Objects), Ok(PLAIN));
    assert_eq!(negotiate("Application/JSON; charset=utf-8", Endpoint::Objects), Ok(PLAIN));
    assert_eq!(negotiate("application/yaml", Endpoint::Watch), Err(406));
    assert_eq!(
        negotiate("application/yaml", Endpoint::Objects),
        Ok(Accepted { format: Format::Yaml, shape: Shape::Plain })
    );
}

#[test]
fn protobuf_is_for_objects() {
    let protobuf = |shape| Ok(Accepted { format: Format::Protobuf, shape });
    let typed = "application/vnd.kubernetes.protobuf,application/json";
    assert_eq!(negotiate(typed, Endpoint::Objects), protobuf(Shape::Plain));
    assert_eq!(negotiate(typed, Endpoint::Watch), protobuf(Shape::Plain));
    assert_eq!(negotiate("application/vnd.kubernetes.protobuf;stream=watch", Endpoint::Watch), protobuf(Shape::Plain));
    assert_eq!(negotiate(typed, Endpoint::Documents), Ok(PLAIN));
    assert_eq!(negotiate(typed, Endpoint::DiscoveryRoot), Ok(PLAIN));
    assert_eq!(negotiate("application/vnd.kubernetes.protobuf", Endpoint::Documents), Err(406));
    let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
                    application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    assert_eq!(negotiate(metadata, Endpoint::Objects), protobuf(Shape::Metadata("v1")));
    let table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,\
                 application/json;as=Table;g=meta.k8s.io;v=v1";
    let json_table = Accepted { format: Format::Json, shape: Shape::Table("v1") };
    assert_eq!(negotiate(table, Endpoint::Objects), Ok(json_table));
}

#[test]
fn agents_ask_for_slim_objects() {
    let slim = "application/json;as=Slim;g=portolan.dev;v=v1alpha1, application/json";
    let accepted = Accepted { format: Format::Json, shape: Shape::Slim };
    assert_eq!(negotiate(slim, Endpoint::Objects), Ok(accepted));
    assert_eq!(negotiate(slim, Endpoint::Watch), Ok(accepted));
    assert_eq!(negotiate(slim, Endpoint::Documents), Ok(PLAIN));
    let newer = "application/json;as=Slim;g=portolan.dev;v=v2, application/json";
    assert_eq!(negotiate(newer, Endpoint::Watch), Ok(PLAIN));
    let protobuf = "application/vnd.kubernetes.protobuf;as=Slim;g=portolan.dev;v=v1alpha1";
    assert_eq!(negotiate(protobuf, Endpoint::Watch), Err(406));
}

#[test]
fn bodies_are_json_unless_they_say_otherwise() {
    let format = |text: &str| {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(text).unwrap())]);
        body_format(&headers).map_err(|s| s.code().as_u16())
    };
    assert_eq!(body_format(&HeaderMap::new()).unwrap(), Format::Json);
    assert_eq!(format("application/json; charset=utf-8"), Ok(Format::Json));
    assert_eq!(format("application/yaml"), Ok(Format::Yaml));
    assert_eq!(format("application/vnd.kubernetes.protobuf"), Ok(Format::Protobuf));
    assert_eq!(format("text/plain"), Err(415));
}

#[test]
fn people_get_indented_json() {
    let agent = |text: &'static str| HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_static(text))]);
    let query = |text| crate::query::Query::parse(Some(text));
    assert!(pretty(&agent("curl/8.5.0"), &query("")));
    assert!(!pretty(&agent("curl/8.5.0"), &query("pretty=false")));
    assert!(!pretty(&agent("kubectl/v1.32.0"), &query("")));
    assert!(pretty(&agent("kubectl/v1.32.0"), &query("pretty=true")));
}
