use std::net::IpAddr;

use jiff::Timestamp;
use model::types::PodCondition;
use serde_json::{Value, json};

use super::conditions::Conditions;
use super::status::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_735_689_600 + second).unwrap()
}

fn container(name: &str, ready: bool) -> Container<'_> {
    Container {
        name,
        image: "x",
        role: Role::Main,
        state: State::Running { since: at(0) },
        last: None,
        restarts: 0,
        started: true,
        ready,
        why: "",
    }
}

fn standing<'a>(containers: Vec<Container<'a>>, pod_ips: &'a [IpAddr]) -> Standing<'a> {
    Standing {
        phase: Phase::Running,
        initialized: true,
        host_ips: &[],
        pod_ips,
        started: Some(at(0)),
        containers,
        gates: &[],
        reported: &[],
    }
}

fn condition<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == name).unwrap()
}

fn words(condition: &Value) -> [&str; 3] {
    ["status", "reason", "message"].map(|field| condition[field].as_str().unwrap_or_default())
}

#[test]
fn a_pod_says_who_is_not_ready_and_what_a_probe_said() {
    let ips = ["10.244.1.2".parse().unwrap(), "fd00:244:1::2".parse().unwrap()];
    let mut conditions = Conditions::default();
    let mut pod = standing(vec![container("a", true), container("b", false), container("c", false)], &ips);
    pod.containers[2].why = "Readiness probe failed: HTTP probe failed with statuscode: 503\nmore";
    let status = render(&pod, &mut conditions, at(1));
    let expected = "containers with unready status: [b c], \
                    c: Readiness probe failed: HTTP probe failed with statuscode: 503";
    assert_eq!(words(condition(&status, "ContainersReady")), ["False", "ContainersNotReady", expected]);
    assert_eq!(words(condition(&status, "Ready")), ["False", "ContainersNotReady", expected]);
    assert_eq!(words(condition(&status, "Initialized")), ["True", "", ""]);
    assert_eq!((&status["podIP"], &status["podIPs"][1]["ip"]), (&json!("10.244.1.2"), &json!("fd00:244:1::2")));
    assert_eq!(status["containerStatuses"][1]["ready"], false);
    assert_eq!(condition(&status, "PodReadyToStartContainers")["status"], "True");
    let nowhere = render(&standing(Vec::new(), &[]), &mut conditions, at(1));
    assert_eq!(condition(&nowhere, "PodReadyToStartContainers")["status"], "False");
}

#[test]
fn a_readiness_gate_opens_when_its_condition_is_true() {
    let gates = ["a.example/one".to_owned(), "a.example/two".to_owned()];
    let said = |status: &str| PodCondition { type_: gates[1].clone(), status: status.into(), ..Default::default() };
    let ready = |reported: &[PodCondition], both: bool| -> Value {
        let gates = if both { &gates[..] } else { &gates[1..] };
        let pod = Standing { gates, reported, ..standing(vec![container("a", true)], &[]) };
        let status = render(&pod, &mut Conditions::default(), at(0));
        assert_eq!(condition(&status, "ContainersReady")["status"], "True");
        condition(&status, "Ready").clone()
    };
    let none = "corresponding condition of pod readiness gate \"a.example/one\" does not exist., \
                the status of pod readiness gate \"a.example/two\" is not \"True\", but False";
    assert_eq!(words(&ready(&[said("False")], true)), ["False", "ReadinessGatesNotReady", none]);
    assert_eq!(words(&ready(&[said("True")], false)), ["True", "", ""]);
}

#[test]
fn who_ended_is_not_ready_and_says_how() {
    for (phase, reason, initialized) in [
        (Phase::Succeeded, "PodCompleted", ["True", "PodCompleted", ""]),
        (Phase::Failed, "PodFailed", ["True", "", ""]),
    ] {
        let pod = Standing { phase, ..standing(vec![container("a", true)], &[]) };
        let status = render(&pod, &mut Conditions::default(), at(0));
        assert_eq!(words(condition(&status, "Ready")), ["False", reason, ""]);
        assert_eq!(words(condition(&status, "Initialized")), initialized);
    }
}

#[test]
fn init_containers_are_waited_for_by_their_part() {
    let mut pod = standing(vec![container("wait", false), container("side", false), container("web", false)], &[]);
    (pod.containers[0].role, pod.containers[1].role) = (Role::Init, Role::Sidecar);
    pod.initialized = false;
    let status = render(&pod, &mut Conditions::default(), at(0));
    let message = "containers with incomplete status: [wait]";
    assert_eq!(words(condition(&status, "Initialized")), ["False", "ContainersNotInitialized", message]);
    // A sidecar serves, so its readiness counts as the others' does.
    assert_eq!(condition(&status, "Ready")["message"], "containers with unready status: [side web]");
    assert_eq!(status["initContainerStatuses"].as_array().unwrap().len(), 2);
}

#[test]
fn a_condition_keeps_the_time_of_its_last_change_over_lives() {
    let transition = |status: &Value| condition(status, "Ready")["lastTransitionTime"].as_str().unwrap().to_owned();
    let mut conditions = Conditions::default();
    let unready = standing(vec![container("a", false)], &[]);
    let ready = standing(vec![container("a", true)], &[]);
    assert_eq!(transition(&render(&unready, &mut conditions, at(0))), "2025-01-01T00:00:00Z");
    assert_eq!(transition(&render(&ready, &mut conditions, at(5))), "2025-01-01T00:00:05Z");
    let status = render(&ready, &mut conditions, at(9));
    assert_eq!(transition(&status), "2025-01-01T00:00:05Z");
    let reported: Vec<PodCondition> = serde_json::from_value(status["conditions"].clone()).unwrap();
    let mut later = Conditions::of(&reported);
    assert_eq!(transition(&render(&ready, &mut later, at(99))), "2025-01-01T00:00:05Z");
    assert_eq!(transition(&render(&unready, &mut later, at(100))), "2025-01-01T00:01:40Z");
}

#[test]
fn states_are_told_as_kubelet_does() {
    let ended =
        |code| Ended { code, signal: Some(9), reason: "Error", message: String::new(), started: None, finished: at(3) };
    let mut web = container("web", false);
    web.state = State::Waiting { reason: "CrashLoopBackOff", message: "restarting container web".into() };
    web.last = Some(ended(137));
    let mut done = container("done", false);
    done.state = State::Terminated(ended(0));
    let status = render(&standing(vec![web, done], &[]), &mut Conditions::default(), at(0));
    let [web, done] = [&status["containerStatuses"][0], &status["containerStatuses"][1]];
    assert_eq!(web["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(web["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(done["state"]["terminated"]["startedAt"], "2025-01-01T00:00:03Z");
    assert_eq!(done["lastState"], json!({}));
}

#[test]
fn a_patch_replaces_addresses_and_is_for_one_pod() {
    let ips = ["10.244.1.2".parse().unwrap()];
    let status = render(&standing(Vec::new(), &ips), &mut Conditions::default(), at(0));
    let patch = patch("u-1", &status);
    assert_eq!(patch["metadata"]["uid"], "u-1");
    assert_eq!(patch["status"]["podIPs"], json!([{"ip": "10.244.1.2"}, {"$patch": "replace"}]));
}
