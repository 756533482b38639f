use serde_json::json;

use super::*;
use crate::testing::{Fake, Reply};

#[test]
fn one_database_is_one_epoch() {
    let lineage = Lineage::default();
    assert_eq!(lineage.is(0, "a"), Ok(()));
    lineage.saw(0, 50);
    lineage.saw(0, 40);
    assert_eq!(lineage.newest(), 50);
    assert_eq!(lineage.stands_at(0, 50, 50), Ok(()));
    // Asked for when less had been seen, while another stream went on.
    assert_eq!(lineage.stands_at(0, 30, 45), Ok(()));
    assert_eq!((lineage.is(0, "a"), lineage.epoch(), lineage.newest()), (Ok(()), 0, 50));
}

#[test]
fn another_uid_or_an_older_revision_begins_another_epoch_once() {
    let lineage = Lineage::default();
    assert_eq!(lineage.is(0, "a"), Ok(()));
    assert_eq!(lineage.is(0, "b"), Err(Another));
    assert_eq!(lineage.is(0, "b"), Err(Another), "who still knows the old one learns it, too");
    assert_eq!((lineage.epoch(), lineage.newest()), (1, 0));
    assert_eq!(lineage.is(1, "b"), Ok(()));
    lineage.saw(0, 1000);
    assert_eq!(lineage.newest(), 0, "what was seen in another database says nothing of this one");
    assert_eq!(lineage.stands_at(1, 0, 7), Ok(()));
    assert_eq!(lineage.stands_at(0, 0, 7), Err(Another));
    assert_eq!(lineage.stands_at(1, 7, 6), Err(Another));
    lineage.end(1, "again");
    assert_eq!(lineage.epoch(), 2);
}

#[tokio::test]
async fn the_server_is_asked_and_one_that_says_nothing_is_believed() {
    let uid = |uid: &str| Reply::json(200, &json!({"metadata": {"uid": uid}}));
    let fake = Fake::bare(vec![
        uid("a"),
        Reply::status(403, "Forbidden", "no"),
        Reply::status(404, "NotFound", "no"),
        Reply::json(200, &json!({})),
        Reply::status(500, "InternalError", "no"),
        uid("a"),
        uid("b"),
    ])
    .await;
    let client = Client::new(&fake.url(), None, None).unwrap();
    let lineage = Lineage::default();
    for _ in 0..4 {
        assert_eq!(lineage.check(&client, 0).await.unwrap(), Ok(()));
    }
    assert!(lineage.check(&client, 0).await.is_err());
    assert_eq!(lineage.check(&client, 0).await.unwrap(), Ok(()));
    let waiting = lineage.clone();
    let over = tokio::spawn(async move { waiting.over(0).await });
    assert_eq!(lineage.check(&client, 0).await.unwrap(), Err(Another));
    over.await.unwrap();
    assert!(fake.asked().iter().all(|asked| asked.target == IDENTITY));
}
