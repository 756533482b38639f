use http_body_util::BodyExt;

use super::*;

fn site() -> Site {
    Site {
        metrics: Arc::new(Metrics::new(Mode::Ipvs)),
        health: Arc::new(Health::default()),
        config: Arc::new(serde_json::json!({"kubeproxy.config.k8s.io": {}})),
        mode: Mode::Ipvs,
    }
}

async fn get(site: &Site, door: Door, path: &str, now: Instant) -> (u16, String) {
    let response = answer(site, door, &Method::GET, path, now, Timestamp::UNIX_EPOCH);
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn each_door_serves_its_own() {
    let (site, now) = (site(), Instant::now());
    assert_eq!(get(&site, Door::Metrics, "/proxyMode", now).await, (200, "ipvs".to_owned()));
    assert_eq!(get(&site, Door::Metrics, "/healthz", now).await, (200, "ok".to_owned()));
    assert_eq!(get(&site, Door::Metrics, "/configz", now).await, (200, r#"{"kubeproxy.config.k8s.io":{}}"#.to_owned()));
    assert!(get(&site, Door::Metrics, "/metrics", now).await.1.ends_with("# EOF\n"));
    assert_eq!(get(&site, Door::Metrics, "/livez", now).await.0, 404);
    assert_eq!(get(&site, Door::Health, "/metrics", now).await.0, 404);
    let response = answer(&site, Door::Metrics, &Method::POST, "/metrics", now, Timestamp::UNIX_EPOCH);
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_node_is_healthy_once_programmed_and_while_it_stays() {
    let (site, now) = (site(), Instant::now());
    assert_eq!(get(&site, Door::Health, "/healthz", now).await.0, 503);
    site.health.update(|facts| facts.updated = Some(Timestamp::UNIX_EPOCH));
    assert_eq!(get(&site, Door::Health, "/healthz", now).await.0, 200);
    site.health.update(|facts| facts.leaving = true);
    let (code, body) = get(&site, Door::Health, "/healthz", now).await;
    assert_eq!(code, 503);
    assert!(body.contains(r#""nodeEligible":false"#), "{body}");
    assert_eq!(get(&site, Door::Health, "/livez", now).await.0, 200, "it forwards until it is gone");
    site.health.update(|facts| facts.pending = Some(now));
    assert_eq!(get(&site, Door::Health, "/livez", now + crate::health::STALLED).await.0, 503);
    let text = site.metrics.text();
    assert!(text.contains("kubeproxy_proxy_healthz_total{code=\"503\"} 2\n"), "{text}");
    assert!(text.contains("kubeproxy_proxy_livez_total{code=\"200\"} 1\n"), "{text}");
}
