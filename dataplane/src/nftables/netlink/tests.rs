//! Bytes in and out. What a kernel makes of them is tested in `tests/kernel`.

use std::fmt::Write as _;

use expect_test::expect;

use super::batch::Batch;
use super::socket::Messages;
use super::*;
use crate::nftables::changes::Changes;
use crate::nftables::element::Element;
use crate::nftables::expr::{Expr, Field, Reg};
use crate::nftables::message::add_changes;
use crate::plan::Family;

/// Sixteen bytes to a line. Netlink headers are in the host's order: little-endian in these tests.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.chunks(16).fold(String::new(), |mut text, line| {
        for word in line.chunks(4) {
            for byte in word {
                let _ = write!(text, "{byte:02x}");
            }
            text.push(' ');
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    })
}

fn one_endpoint() -> Batch {
    let mut changes = Changes::default();
    changes.remove(Element::Draw { family: Family::V4, pool: 0x800, slot: 1, id: 2 });
    changes.add(Element::Endpoint { pool: 0x800, id: 3, address: [10, 244, 1, 2].into(), port: 8080 });
    let mut batch = Batch::default();
    add_changes(&mut batch, &changes);
    batch
}

#[test]
#[cfg(target_endian = "little")]
fn a_batch() {
    let frames: Vec<_> = one_endpoint().frames(usize::MAX).collect();
    assert_eq!((frames.len(), frames[0].last), (1, 2));
    expect![[r#"
        14000000 10000100 00000000 00000000
        0000000a 5c000000 0c0a0104 01000000
        00000000 02000000 0d000100 706f7274
        6f6c616e 00000000 0e000200 656e6470
        6f696e74 73000000 28000380 24000180
        10000180 0c000100 00080000 03000000
        10000280 0c000100 0af40102 1f900000
        48000000 0e0a0500 02000000 00000000
        02000000 0d000100 706f7274 6f6c616e
        00000000 0a000200 64726177 73000000
        18000380 14000180 10000180 0c000100
        00080000 01000000 14000000 11000100
        00000000 00000000 0000000a
    "#]]
    .assert_eq(&hex(&frames[0].bytes));
}

#[test]
#[cfg(target_endian = "little")]
fn an_expression() {
    let mut writer = Writer::default();
    Expr::Load(Field::Destination, Reg(0)).encode(Family::V6, &mut writer);
    expect![[r#"
        34000180 0c000100 7061796c 6f616400
        24000280 08000100 00000001 08000200
        00000001 08000300 00000018 08000400
        00000010
    "#]]
    .assert_eq(&hex(&writer.bytes));
}

/// Small sockets get several frames; together they have the same messages in the same order.
#[test]
fn frames_cut_between_messages() {
    let batch = one_endpoint();
    let frames: Vec<_> = batch.frames(1).collect();
    assert_eq!(frames.len(), 2);
    let sequences: Vec<_> =
        frames.iter().flat_map(|f| Messages(&f.bytes).map(|m| m.sequence).collect::<Vec<_>>()).collect();
    assert_eq!(sequences, [0, 1, 0, 0, 2, 0]);
    assert!(frames.iter().all(|f| Messages(&f.bytes).count() == 3));
}

#[test]
fn an_error_names_the_message_and_the_reason() {
    // EEXIST for message 2, capped, with an explanation.
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&64u32.to_ne_bytes());
    bytes.extend_from_slice(&2u16.to_ne_bytes());
    bytes.extend_from_slice(&0x300u16.to_ne_bytes());
    bytes.extend_from_slice(&2u32.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(-17i32).to_ne_bytes());
    bytes.extend_from_slice(&500u32.to_ne_bytes());
    bytes.extend_from_slice(&[0; 12]);
    let mut writer = Writer { bytes };
    writer.text(1, "already there");
    writer.bytes.resize(64, 0);
    let bytes = writer.bytes;
    let messages: Vec<_> = Messages(&bytes).collect();
    assert_eq!((messages.len(), messages[0].sequence), (1, 2));
    let (error, detail) = messages[0].error().unwrap_err();
    assert_eq!((error.raw_os_error(), detail.as_str()), (Some(17), "already there"));
    assert_eq!(one_endpoint().what(2), "removing elements of ip draws");
    assert_eq!(one_endpoint().what(99), "the batch");
}

#[test]
fn malformed_answers_end_the_reading() {
    for bytes in [&[][..], &[1, 2, 3], &[255; 15], &[255; 40], &[0; 40], &[20, 0, 0, 0]] {
        assert!(Messages(bytes).count() <= 1, "{bytes:?}");
        assert!(attributes(bytes).count() <= 10, "{bytes:?}");
    }
}
