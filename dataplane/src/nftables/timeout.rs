//! Timeouts of TCP connections as objects of a table: one for each number of seconds that is asked for, made when it first is.

use super::expr::family_number;
use super::message::NAME;
use super::netlink::batch::Batch;
use super::set::CT_TIMEOUT;
use crate::plan::Family;

const NEW_OBJECT: u8 = 18;
const NLM_F_CREATE: u16 = 0x400;
const TCP: u8 = 6;

/// The object's name.
pub(super) fn name(seconds: u32) -> String {
    format!("established-{seconds}s")
}

/// Makes the object, if there is none yet: a silent connection that is established is forgotten after so many seconds. Every
/// other state lasts as long as the kernel has it.
pub(super) fn add(batch: &mut Batch, family: Family, seconds: u32) {
    let table = batch.owner.table();
    let number = family_number(family);
    batch.message(number, NEW_OBJECT, NLM_F_CREATE, format!("adding the timeout of {seconds} s"), |w| {
        w.text(NAME, table);
        w.text(2, &name(seconds));
        w.u32(3, CT_TIMEOUT);
        w.nest(4, |w| {
            // NFTA_CT_TIMEOUT_L3PROTO, _L4PROTO, _DATA; CTA_TIMEOUT_TCP_ESTABLISHED
            w.bytes(1, &u16::from(number).to_be_bytes());
            w.bytes(2, &[TCP]);
            w.nest(3, |w| w.u32(3, seconds));
        });
    });
}
