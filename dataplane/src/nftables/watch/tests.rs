//! Messages as the kernel sends them, and what is made of them. That it sends them so is tested in `tests/kernel`.

use super::*;
use crate::nftables::netlink::Writer;
use crate::nftables::netlink::batch::{finish, header};

const TABLE: &str = "portolan";
const OWN: u32 = 1000;
const STRANGER: u32 = 2000;
const NEW_RULE: u8 = 6;

fn message(kind: u8, family: u8, port: u32, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    header(&mut writer.bytes, NFTABLES << 8 | u16::from(kind), 0, 7, family, 0);
    writer.bytes[12..16].copy_from_slice(&port.to_ne_bytes());
    body(&mut writer);
    finish(&mut writer.bytes, 0);
    writer.bytes
}

fn element(kind: u8, port: u32, table: &str, set: &str, key: u32) -> Vec<u8> {
    message(kind, 2, port, |w| {
        w.text(NAME, table);
        w.text(SET_NAME, set);
        w.nest(3, |w| w.nest(1, |w| w.nest(1, |w| w.u32(1, key))));
    })
}

fn end(port: u32, generation: u32, name: &str) -> Vec<u8> {
    message(NEW_GENERATION, 0, port, |w| {
        w.u32(GENERATION, generation);
        w.u32(2, 4711);
        w.text(PROCESS_NAME, name);
    })
}

fn hear(messages: &[Vec<u8>]) -> Damage {
    let mut damage = Damage::default();
    damage.hear(&messages.concat(), OWN, Owner::Agent);
    damage
}

/// Kinds of the messages of a batch with the last byte of each, which is the key's.
fn says(batch: &Batch) -> Vec<(u8, u8)> {
    let frames: Vec<u8> = batch.frames(usize::MAX).flat_map(|f| f.bytes).collect();
    let messages = Messages(&frames).filter(|m| m.kind >> 8 == NFTABLES);
    messages.map(|m| ((m.kind & 0xff) as u8, *m.body.last().unwrap())).collect()
}

#[test]
fn elements_are_undone_by_the_other_verb_last_things_first() {
    let damage = hear(&[
        element(DELETE_ELEMENTS, STRANGER, TABLE, "services", 1),
        element(NEW_ELEMENTS, STRANGER, TABLE, "services", 2),
        element(DELETE_ELEMENTS, STRANGER, TABLE, "affinity", 3),
        end(STRANGER, 9, "nft"),
    ]);
    assert_eq!((damage.elements(), damage.whole(), damage.generation), (3, false, Some(9)));
    assert_eq!(damage.by.as_deref(), Some("nft"));
    let (firm, volatile) = damage.undo();
    assert_eq!(says(&firm), [(DELETE_ELEMENTS, 2), (NEW_ELEMENTS, 1)]);
    assert_eq!(says(&volatile), [(NEW_ELEMENTS, 3)]);
}

#[test]
fn what_we_did_and_what_others_do_elsewhere_is_no_damage() {
    let damage = hear(&[
        element(DELETE_ELEMENTS, OWN, TABLE, "services", 1),
        end(OWN, 9, "portolan"),
        element(DELETE_ELEMENTS, STRANGER, "other", "services", 2),
        message(NEW_RULE, 2, STRANGER, |w| w.text(NAME, "other")),
        // `inet portolan` is somebody else's.
        message(NEW_RULE, 1, STRANGER, |w| w.text(NAME, TABLE)),
        end(STRANGER, 10, "nft"),
    ]);
    assert!(damage.is_empty(), "{damage:?}");
    assert_eq!((damage.generation, damage.by), (Some(10), None));
}

#[test]
fn structure_makes_it_whole() {
    for family in [2, 10] {
        let damage =
            hear(&[message(NEW_RULE, family, STRANGER, |w| w.text(NAME, TABLE)), end(STRANGER, 3, "fire\nwalld")]);
        assert!(damage.whole());
        assert_eq!(damage.by.as_deref(), Some("firewalld"));
    }
    let many = element(DELETE_ELEMENTS, STRANGER, TABLE, "draws", 1).repeat(MAX_DEEDS + 1);
    assert!(hear(&[many]).whole(), "too many to be undone one by one");
}

#[test]
fn what_was_done_before_a_load_does_not_matter() {
    let mut damage = Damage::after(9);
    let heard = [
        element(DELETE_ELEMENTS, STRANGER, TABLE, "services", 1),
        end(STRANGER, 8, "nft"),
        element(DELETE_ELEMENTS, STRANGER, TABLE, "services", 2),
        end(STRANGER, 10, "nft"),
    ];
    damage.hear(&heard.concat(), OWN, Owner::Agent);
    assert_eq!((damage.elements(), damage.generation), (1, Some(10)));
    damage.lost();
    damage.clear();
    assert!(damage.whole(), "what was lost stays lost");
}

#[test]
fn generations_wrap_around() {
    assert!(later(1, u32::MAX) && later(6, 5) && !later(5, 5) && !later(4, 5) && !later(u32::MAX, 1));
}

#[test]
fn malformed_messages_are_passed_by() {
    let whole = element(DELETE_ELEMENTS, STRANGER, TABLE, "services", 1);
    for length in 0..whole.len() {
        assert!(hear(&[whole[..length].to_vec()]).elements() <= 1);
    }
}
