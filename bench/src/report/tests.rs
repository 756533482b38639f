use super::*;
use crate::figures::Unit;

fn run(ours: f64, lag: f64) -> Figures {
    Figures(vec![
        Figure::rate("creates/etcd", 2_000.0, Unit::PerSecond, "puts"),
        Figure::rate("creates/ours", ours, Unit::PerSecond, "creates").beside("creates/etcd").aim(Aim::Ratio(1.0)),
        Figure::cost("lag/p99", lag, Unit::Milliseconds, "lag").aim(Aim::Value(20.0)),
    ])
}

#[test]
fn runs_are_compared_by_their_ratios() {
    let baseline = Baseline::of("here", &run(4_000.0, 10.0));
    let mut slower = run(3_000.0, 40.0);
    // A machine that is half as fast in everything has not changed.
    slower.0[0].value = 1_500.0;
    let changes: Vec<_> = changes(&slower, &baseline).into_iter().map(|c| (c.name, c.times_as_good)).collect();
    let expected = [("creates/etcd", 0.75), ("creates/ours", 1.0), ("lag/p99", 0.25)];
    assert_eq!(changes, expected.map(|(name, times)| (name.to_owned(), times)));
}

#[test]
fn a_page_says_what_is_missed_and_what_became_worse() {
    let baseline = Baseline::of("here", &run(4_000.0, 10.0));
    let page = markdown("A run", &run(4_000.0, 40.0), &["lag-sizes.svg".into()], Some(&baseline));
    expect_test::expect![[r"
        # A run

        ## Aims

        | what | figure | ratio | aim |
        |---|---|---|---|
        | creates (`creates/ours`) | 4,000 /s | 2 of `creates/etcd` | ≥ 1 of it ✓ |
        | lag (`lag/p99`) | 40 ms |  | ≤ 20 ms missed |

        ## creates

        | what | figure | ratio | aim | beside the baseline |
        |---|---|---|---|---|
        | puts (`creates/etcd`) | 2,000 /s |  |  | × 1 |
        | creates (`creates/ours`) | 4,000 /s | 2 of `creates/etcd` | ≥ 1 of it ✓ | × 1 |

        ## lag

        | what | figure | ratio | aim | beside the baseline |
        |---|---|---|---|---|
        | lag (`lag/p99`) | 40 ms |  | ≤ 20 ms missed | × 0.25 |

        ![lag-sizes](lag-sizes.svg)

        ## Worse than the baseline

        - `lag/p99`: 0.25 of what it was
    "]]
    .assert_eq(&page);
}

#[test]
fn numbers_have_three_digits() {
    for (value, text) in [
        (0.0, "0"),
        (0.012_34, "0.0123"),
        (0.5, "0.5"),
        (1.0, "1"),
        (3.456, "3.46"),
        (42.06, "42.1"),
        (123.4, "123"),
        (4_567.0, "4,570"),
        (1_234_567.0, "1,230,000"),
    ] {
        assert_eq!(short(value), text);
    }
}
