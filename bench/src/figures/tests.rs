use super::*;

fn run() -> Figures {
    Figures(vec![
        Figure::rate("creates/etcd", 2_000.0, Unit::PerSecond, "puts"),
        Figure::rate("creates/ours", 5_000.0, Unit::PerSecond, "creates").beside("creates/etcd").aim(Aim::Ratio(1.0)),
        Figure::cost("lag/p99", 30.0, Unit::Milliseconds, "lag").aim(Aim::Value(20.0)),
        Figure::cost("lag/none", 30.0, Unit::Milliseconds, "lag").beside("not/there").aim(Aim::Ratio(1.0)),
    ])
}

#[test]
fn a_ratio_is_to_what_was_measured_in_the_same_run() {
    let run = run();
    assert_eq!(run.ratio(&run.0[1]), Some(2.5));
    assert_eq!(run.ratio(&run.0[2]), None);
    assert_eq!(run.ratio(&run.0[3]), None);
}

#[test]
fn an_aim_is_reached_missed_or_unknown() {
    let run = run();
    let reached: Vec<_> = run.0.iter().map(|f| run.reached(f)).collect();
    assert_eq!(reached, [None, Some(true), Some(false), None]);
}

#[test]
fn figures_keep_their_shape_in_json() {
    let run = run();
    let text = serde_json::to_string(&run).unwrap();
    assert!(
        text.starts_with(r#"[{"name":"creates/etcd","about":"puts","value":2000.0,"unit":"/s","better":"higher"},"#),
        "{text}"
    );
    assert!(text.contains(r#""beside":"creates/etcd","aim":{"ratio":1.0}"#), "{text}");
    assert_eq!(serde_json::from_str::<Figures>(&text).unwrap(), run);
}
