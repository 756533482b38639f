//! Tables of others that nothing is left in.
//!
//! `iptables` over nf_tables makes a table with its built-in chains when it is first asked to write there, and never takes it
//! away again. Where Portolan's rules were the only ones, what stays is no rule of anybody's, but a table that was not there
//! before. It is removed if all that it has are built-in chains without rules that let everything pass, in a batch that the kernel
//! refuses if anybody has written a rule meanwhile.

use std::io;

use nix::libc;

use super::expr::family_number;
use super::guard::{generation, overtaken};
use super::message::{DELETE_TABLE, GET_CHAIN, GET_TABLE, NAME};
use super::netlink::batch::{Batch, NFTABLES};
use super::netlink::socket::Socket;
use super::netlink::{NetlinkError, attribute};
use crate::plan::Family;

/// `NFTA_TABLE_USE`: how many chains and sets there are.
const TABLE_USE: u16 = 3;
/// `NFTA_CHAIN_TABLE`, `NFTA_CHAIN_HOOK`, `NFTA_CHAIN_POLICY`, and `NFTA_CHAIN_USE`: how many rules there are, and how many lead
/// there.
const CHAIN_TABLE: u16 = 1;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_USE: u16 = 6;
/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;
/// How often it is tried while others write.
const ATTEMPTS: usize = 8;

/// Removes the table of the calling thread's network namespace if nothing is in it but empty built-in chains. Whether it did.
///
/// # Errors
/// When the kernel does not answer, or the process may not.
pub fn remove_emptied(family: Family, table: &str) -> Result<bool, NetlinkError> {
    let socket = Socket::open().map_err(|source: io::Error| NetlinkError::Send { bytes: 0, source })?;
    for _ in 0..ATTEMPTS {
        let seen_in = generation(&socket)?;
        if !is_empty(&socket, family, table)? {
            return Ok(false);
        }
        let mut batch = Batch::default();
        batch.generation = Some(seen_in);
        let what = format!("removing the empty table {table}");
        batch.message(family_number(family), DELETE_TABLE, 0, what, |w| w.text(NAME, table));
        match socket.commit(&batch) {
            Err(error) if overtaken(&error) => {}
            // Somebody else has it, or has taken it away.
            Err(error) if matches!(error.refusal(), Some(libc::EPERM | libc::EBUSY | libc::ENOENT)) => {
                return Ok(false);
            }
            outcome => return outcome.map(|_| true),
        }
    }
    Ok(false)
}

fn is_empty(socket: &Socket, family: Family, table: &str) -> Result<bool, NetlinkError> {
    let what = "looking for a table";
    let found = socket.get(family_number(family), GET_TABLE, what, |w| w.text(NAME, table))?;
    let Some(chains) = found.and_then(|found| number(&found, TABLE_USE)) else { return Ok(false) };
    let of_table = |message: &[u8]| {
        attribute(message, CHAIN_TABLE).and_then(|name| name.strip_suffix(b"\0")) == Some(table.as_bytes())
    };
    let empty = |message: &[u8]| {
        attribute(message, CHAIN_HOOK).is_some()
            && number(message, CHAIN_POLICY) == Some(ACCEPT)
            && number(message, CHAIN_USE) == Some(0)
    };
    let read = |message: &[u8], all: &mut Vec<bool>| all.extend(of_table(message).then(|| empty(message)));
    let all = socket.dump(
        NFTABLES << 8 | u16::from(GET_CHAIN),
        family_number(family),
        "the chains",
        |w| w.text(NAME, table),
        read,
    )?;
    Ok(usize::try_from(chains).is_ok_and(|chains| chains == all.len()) && all.iter().all(|empty| *empty))
}

fn number(message: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(*attribute(message, kind)?.first_chunk()?))
}
