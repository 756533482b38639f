use expect_test::expect;
use proptest::prelude::*;

use super::*;

#[test]
fn a_weight_is_an_integer_from_0_to_100() {
    for (text, weight) in [("0", 0), ("7", 7), ("100", 100), ("007", 7)] {
        assert_eq!(parse_one(text), Some(weight), "{text:?}");
    }
    for text in ["", "-1", "+1", "101", "300", "1.5", " 5", "5%", "٣", "0x10"] {
        assert_eq!(parse_one(text), None, "{text:?}");
    }
}

#[test]
fn a_list_of_weights_is_read_in_any_order() {
    let weights = parse("fd00:244:1::2=0,10.244.1.2=50").unwrap();
    assert_eq!(format(&weights).as_deref(), Some("10.244.1.2=50,fd00:244:1::2=0"));
    assert_eq!(parse(""), Ok(BTreeMap::new()));
}

#[test]
fn full_weights_are_left_out() {
    let weights = parse("10.0.0.1=100,10.0.0.2=99").unwrap();
    assert_eq!(format(&weights).as_deref(), Some("10.0.0.2=99"));
    assert_eq!(format(&parse("10.0.0.1=100").unwrap()), None);
    assert_eq!(format(&BTreeMap::new()), None);
}

#[test]
fn what_is_wrong_is_said() {
    let said: String = [
        ",",
        "10.0.0.1",
        "10.0.0.1=1,",
        "web=1",
        "10.0.0.01=1",
        "10.0.0.1=",
        "10.0.0.1=101",
        "10.0.0.1= 1",
        "10.0.0.1=1, 10.0.0.2=1",
        "10.0.0.1=1,10.0.0.1=1",
        "::1=1,0:0::1=2",
    ]
    .iter()
    .map(|text| format!("{text}: {}\n", parse(text).unwrap_err()))
    .collect();
    expect![[r#"
        ,: "" is not of the form ADDRESS=WEIGHT
        10.0.0.1: "10.0.0.1" is not of the form ADDRESS=WEIGHT
        10.0.0.1=1,: "" is not of the form ADDRESS=WEIGHT
        web=1: "web" is not an IP address
        10.0.0.01=1: "10.0.0.01" is not an IP address
        10.0.0.1=: the weight of 10.0.0.1 must be an integer from 0 to 100
        10.0.0.1=101: the weight of 10.0.0.1 must be an integer from 0 to 100
        10.0.0.1= 1: the weight of 10.0.0.1 must be an integer from 0 to 100
        10.0.0.1=1, 10.0.0.2=1: " 10.0.0.2" is not an IP address
        10.0.0.1=1,10.0.0.1=1: 10.0.0.1 has more than one weight
        ::1=1,0:0::1=2: ::1 has more than one weight
    "#]]
    .assert_eq(&said);
}

#[test]
fn a_pod_without_a_readable_weight_has_the_full_one() {
    let of = |text: Option<&str>| {
        let mut metadata = ObjectMeta::default();
        metadata.annotations.extend(text.map(|text| (WEIGHT.to_owned(), text.to_owned())));
        of_pod(&metadata)
    };
    assert_eq!([of(None), of(Some("0")), of(Some("101")), of(Some("half"))], [FULL, 0, FULL, FULL]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_again(weights in prop::collection::btree_map(any::<IpAddr>(), 0u8..=100, 0..20)) {
        let text = format(&weights).unwrap_or_default();
        let less_than_full: BTreeMap<IpAddr, u8> = weights.into_iter().filter(|(_, weight)| *weight != FULL).collect();
        prop_assert_eq!(parse(&text).unwrap(), less_than_full);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9a-f:.=, ]{0,40}") {
        if let Ok(weights) = parse(&text) {
            prop_assert_eq!(parse(&format(&weights).unwrap_or_default()).unwrap().len(),
                weights.values().filter(|weight| **weight != FULL).count());
        }
    }
}
