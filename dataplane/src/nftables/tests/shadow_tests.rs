//! What a change touches, line by line.

use super::*;

fn step(shadow: &mut Shadow, plan: &Plan) -> String {
    render_changes(&shadow.update(plan, &web()).unwrap())
}

#[test]
fn one_endpoint_touches_a_handful_of_elements() {
    let mut shadow = Shadow::default();
    step(&mut shadow, &plan_of(1, endpoints(10), None));
    // The class is 12 for ten endpoints and for nine.
    let mut nine = endpoints(10);
    nine.remove(3);
    expect![[r#"
        - ip draws 1032746 . 3 : #72358407
        + ip draws 1032746 . 3 : #83bfa10b
        - ip draws 1032746 . 9 : #83bfa10b
        - ip endpoints 1032746 . #72358407 : 10.244.0.4 . 8080
        - ip hairpin 10.244.0.4 . 10.244.0.4
    "#]]
    .assert_eq(&step(&mut shadow, &plan_of(2, nine.clone(), None)));
    nine.push(Endpoint { address: IpAddr::from([10, 244, 9, 9]), port: 8080, local: false, share: 1 });
    expect![[r#"
        + ip draws 1032746 . 9 : #c8614f9a
        + ip endpoints 1032746 . #c8614f9a : 10.244.9.9 . 8080
    "#]]
    .assert_eq(&step(&mut shadow, &plan_of(3, nine.clone(), None)));
    // One goes and one comes: the new one takes the place of the old one.
    nine.remove(0);
    nine.push(Endpoint { address: IpAddr::from([10, 244, 9, 10]), port: 8080, local: false, share: 1 });
    expect![[r#"
        + ip draws 1032746 . 0 : #84e9d81d
        - ip draws 1032746 . 0 : #8f6529ff
        + ip endpoints 1032746 . #84e9d81d : 10.244.9.10 . 8080
        - ip endpoints 1032746 . #8f6529ff : 10.244.0.1 . 8080
    "#]]
    .assert_eq(&step(&mut shadow, &plan_of(4, nine, None)));
}

#[test]
fn a_new_class_changes_the_word() {
    let mut shadow = Shadow::default();
    step(&mut shadow, &plan_of(1, endpoints(2), None));
    expect![[r#"
        - ip draws 1032746 . 1 : #8c4b44dd
        - ip endpoints 1032746 . #8c4b44dd : 10.244.0.2 . 8080
        - ip hairpin 10.244.0.2 . 10.244.0.2
        + ip services 10.96.0.1 . tcp . 80 : pick-1 pool 1032746  # default/web
        - ip services 10.96.0.1 . tcp . 80 : pick-2 pool 1032746  # default/web
    "#]]
    .assert_eq(&step(&mut shadow, &plan_of(2, endpoints(1), None)));
    expect![[r#"
        - ip draws 1032746 . 0 : #8f6529ff
        - ip endpoints 1032746 . #8f6529ff : 10.244.0.1 . 8080
        - ip services 10.96.0.1 . tcp . 80 : pick-1 pool 1032746  # default/web
        + ip services 10.96.0.1 . tcp . 80 : refuse  # default/web
    "#]]
    .assert_eq(&step(&mut shadow, &plan_of(3, Vec::new(), None)));
    expect![[r#"
        + ip draws 1032746 . 0 : #8f6529ff
        + ip endpoints 1032746 . #8f6529ff : 10.244.0.1 . 8080
        + ip services 10.96.0.1 . tcp . 80 : pick-1 pool 1032746  # default/web
        - ip services 10.96.0.1 . tcp . 80 : refuse  # default/web
    "#]]
    .assert_eq(&step(&mut shadow, &plan_of(4, endpoints(1), None)));
}

#[test]
fn a_range_that_grows_is_replaced() {
    let mut shadow = Shadow::default();
    let mut plan = plan_of(1, endpoints(1), None);
    step(&mut shadow, &plan);
    plan.revision = 2;
    plan.node.service_cidrs = vec!["10.96.0.0/16".parse().unwrap(), "10.97.0.0/16".parse().unwrap()];
    expect![[r#"
        + ip service-cidrs 10.96.0.0/15
        - ip service-cidrs 10.96.0.0/16
    "#]]
    .assert_eq(&step(&mut shadow, &plan));
}

#[test]
fn nothing_changes_nothing() {
    let mut shadow = Shadow::default();
    step(&mut shadow, &plan_of(1, endpoints(5), None));
    assert!(shadow.update(&plan_of(2, endpoints(5), None), &Dirty::All).unwrap().is_empty());
    assert_eq!(shadow.revision(), 2);
}

/// A Service that the plan has no more, and that nobody called dirty, stays until it is looked at.
#[test]
fn only_what_is_dirty_is_looked_at() {
    let mut shadow = Shadow::default();
    step(&mut shadow, &plan_of(1, endpoints(1), None));
    let empty = Plan { revision: 2, node: plan_of(1, Vec::new(), None).node, ..Plan::default() };
    assert!(shadow.update(&empty, &Dirty::Services(BTreeSet::new())).unwrap().is_empty());
    assert!(!shadow.update(&empty, &Dirty::All).unwrap().is_empty());
}
