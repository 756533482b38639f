use proxy_agent::client::Client;

use super::*;

fn arguments() -> Arguments {
    Arguments {
        client: Client::new("http://127.0.0.1:1", None, None).unwrap(),
        namespace: "portolan-load".into(),
        services: 10,
        pods: 2,
        bind: 0,
        clients: 4,
        rate: 100,
        seconds: 1,
        replace_pods: 0,
        replace_services: 0,
        watchers: 1,
        agent_metrics: Vec::new(),
        record: None,
        keep: false,
        timeout: Duration::from_secs(60),
    }
}

#[test]
fn too_much_is_refused_before_anything_is_sent() {
    check(&arguments()).unwrap();
    for (wrong, hint) in [
        (Arguments { services: 100_000, pods: 11, ..arguments() }, "more than 1000000 Pods"),
        (Arguments { replace_pods: 60, replace_services: 41, ..arguments() }, "more than 100 %"),
        (Arguments { pods: 0, ..arguments() }, "no Pod that could change"),
        (Arguments { watchers: 0, agent_metrics: vec!["http://x".into()], ..arguments() }, "--watchers 1"),
    ] {
        let error = check(&wrong).unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_an_error() {
    let (_wish, stop) = Stop::new();
    let error = run(arguments(), stop).await.unwrap_err();
    assert!(matches!(error, LoadError::Client { doing: "making the namespace", .. }), "{error:?}");
}
