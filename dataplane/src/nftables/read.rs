//! Reading the kernel's tables: what is really in them, whoever wrote it.
//!
//! Never on the way of a change. Whole sets are read when a table that was found may be kept ([`dump`]), single
//! elements when somebody asks where a packet would go ([`get`]): a dump's time grows with the square of the set's
//! size (half a second for 100,000 elements), a question's does not grow.
//!
//! Keys and values are bytes as they stand in registers, which is also what [`super::element::Element`] makes of
//! itself; so the two can be compared without either being understood.

use std::time::Duration;

use nix::libc;

use super::expr::{DATA_VALUE, DATA_VERDICT, LIST_ELEM, VERDICT_CHAIN, family_number};
use super::message::NAME;
use super::netlink::batch::{NFTABLES, NLM_F_ACK};
use super::netlink::socket::{Request, Socket};
use super::netlink::{NetlinkError, Writer, attribute, attributes};
use super::set::Set;
use crate::plan::Family;

// NFT_MSG_*
const GET_CHAIN: u16 = NFTABLES << 8 | 4;
const GET_RULE: u16 = NFTABLES << 8 | 7;
const GET_SET: u16 = NFTABLES << 8 | 10;
const GET_ELEMENTS: u16 = NFTABLES << 8 | 13;
const GET_GENERATION: u16 = NFTABLES << 8 | 16;

/// Where chains, rules and sets say what they are called.
const TABLE_OF: u16 = 1;
const SET_NAME: u16 = 2;
const CHAIN_NAME: u16 = 3;
const RULE_CHAIN: u16 = 2;
/// The list of elements in a message.
const ELEMENTS: u16 = 3;

// NFTA_SET_ELEM_*
const KEY: u16 = 1;
const DATA: u16 = 2;
const FLAGS: u16 = 3;
const TIMEOUT: u16 = 4;
const EXPIRATION: u16 = 5;
const USER_DATA: u16 = 6;
const KEY_END: u16 = 10;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;

/// Keys in one question. Each is answered by a message of its own, and all of these wait in the socket.
const KEYS_PER_QUESTION: usize = 64;

/// An element of a set or map, in the kernel's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub key: &'a [u8],
    /// In a set of concatenated ranges: the last of the range that begins with the key.
    pub key_end: Option<&'a [u8]>,
    pub value: Value<'a>,
    /// In a set of plain ranges: the key is the first address after a range, not the first of one.
    pub end: bool,
    /// How long the element stays when it is not renewed, and how long it still stays. Only in sets with timeouts.
    pub timeout: Option<Duration>,
    pub expires: Option<Duration>,
    /// What `nft` keeps with it: a comment.
    pub user_data: &'a [u8],
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    None,
    Data(&'a [u8]),
    /// A verdict that goes to this chain.
    Goto(&'a str),
}

impl<'a> Value<'a> {
    /// The bytes of a value that is data.
    pub fn data(self) -> Option<&'a [u8]> {
        if let Self::Data(bytes) = self { Some(bytes) } else { None }
    }
}

/// A chain, a rule or a set: who it belongs to, and its attributes as the kernel writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Of the chain or the set; for a rule that of its chain.
    pub name: String,
    pub attributes: Vec<u8>,
}

/// The number of the rule set: another one after every change of any table.
///
/// # Errors
/// When the kernel does not answer.
pub fn generation(socket: &Socket) -> Result<u32, NetlinkError> {
    let mut number = None;
    let request = Request { kind: GET_GENERATION, flags: NLM_F_ACK, family: 0, what: "reading the generation" };
    // NFTA_GEN_ID
    socket.exchange(request, |_| {}, |answer| number = attribute(answer, 1).and_then(big_u32))?;
    number.ok_or(NetlinkError::NoAnswer)
}

/// The elements with these keys, as `read` has them; `None` where there is none. In a set of ranges a key is any
/// address, and its element is the range that holds it.
///
/// Takes some microseconds a key, and a further question per key that is not there.
///
/// # Errors
/// When the kernel refuses for another reason than that there is no such element (or set, or table).
pub fn get<T>(
    socket: &Socket,
    family: Family,
    set: Set,
    keys: &[impl AsRef<[u8]>],
    mut read: impl FnMut(&Entry<'_>) -> T,
) -> Result<Vec<Option<T>>, NetlinkError> {
    let request =
        Request { kind: GET_ELEMENTS, flags: NLM_F_ACK, family: family_number(family), what: "reading elements" };
    let mut found = Vec::with_capacity(keys.len());
    while let Some(rest) = keys.get(found.len()..).filter(|rest| !rest.is_empty()) {
        let asked = &rest[..rest.len().min(KEYS_PER_QUESTION)];
        let before = found.len();
        let body = |w: &mut Writer| {
            set_body(socket, set, w);
            w.nest(ELEMENTS, |w| {
                for key in asked {
                    w.nest(LIST_ELEM, |w| w.nest(KEY, |w| w.bytes(DATA_VALUE, key.as_ref())));
                }
            });
        };
        let outcome = socket.exchange(request, body, |answer| {
            found.extend(entries(answer).take(1).map(|entry| Some(read(&entry))));
        });
        match outcome {
            Ok(_) if found.len() == before + asked.len() => {}
            Ok(_) => return Err(NetlinkError::NoAnswer),
            // The kernel stops at the first that it does not find.
            Err(NetlinkError::Refused { source, .. })
                if source.raw_os_error() == Some(libc::ENOENT) && found.len() < before + asked.len() =>
            {
                found.push(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Every element of a set, as `read` has it, in the kernel's order, which means nothing.
///
/// # Errors
/// When there is no such set, the kernel refuses, or the set does not rest.
pub fn dump<T>(
    socket: &Socket,
    family: Family,
    set: Set,
    mut read: impl FnMut(&Entry<'_>) -> Option<T>,
) -> Result<Vec<T>, NetlinkError> {
    let what = format!("the elements of {}", set.name());
    socket.dump(
        GET_ELEMENTS,
        family_number(family),
        &what,
        |w| set_body(socket, set, w),
        |message, all| {
            all.extend(entries(message).filter_map(|entry| read(&entry)));
        },
    )
}

/// The sets and maps of a family's table.
///
/// # Errors
/// When the kernel refuses, or the tables do not rest.
pub fn sets(socket: &Socket, family: Family) -> Result<Vec<Object>, NetlinkError> {
    objects(socket, family, GET_SET, SET_NAME, "the sets")
}

/// The chains of a family's table.
///
/// # Errors
/// When the kernel refuses, or the tables do not rest.
pub fn chains(socket: &Socket, family: Family) -> Result<Vec<Object>, NetlinkError> {
    objects(socket, family, GET_CHAIN, CHAIN_NAME, "the chains")
}

/// The rules of a family's table, those of a chain in their order.
///
/// # Errors
/// When the kernel refuses, or the tables do not rest.
pub fn rules(socket: &Socket, family: Family) -> Result<Vec<Object>, NetlinkError> {
    objects(socket, family, GET_RULE, RULE_CHAIN, "the rules")
}

/// The kernel may list every table's; ours are kept. There are none when there is no such table.
fn objects(socket: &Socket, family: Family, kind: u16, name: u16, what: &str) -> Result<Vec<Object>, NetlinkError> {
    let table = socket.owner().table();
    let body = |w: &mut Writer| w.text(NAME, table);
    let found = socket.dump(kind, family_number(family), what, body, |message, all| {
        let of = |kind| attribute(message, kind).map(text).unwrap_or_default();
        if of(TABLE_OF) == table {
            all.push(Object { name: of(name).to_owned(), attributes: message.to_vec() });
        }
    });
    match found {
        Err(NetlinkError::Refused { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        found => found,
    }
}

fn set_body(socket: &Socket, set: Set, w: &mut Writer) {
    w.text(NAME, socket.owner().table());
    w.text(SET_NAME, set.name());
}

/// The elements in a message.
fn entries(message: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let list = attribute(message, ELEMENTS).unwrap_or_default();
    attributes(list).filter(|(kind, _)| *kind == LIST_ELEM).filter_map(|(_, element)| entry(element))
}

fn entry(element: &[u8]) -> Option<Entry<'_>> {
    let mut entry = Entry {
        key: attribute(attribute(element, KEY)?, DATA_VALUE)?,
        key_end: None,
        value: Value::None,
        end: false,
        timeout: None,
        expires: None,
        user_data: &[],
    };
    for (kind, content) in attributes(element) {
        match kind {
            KEY_END => entry.key_end = attribute(content, DATA_VALUE),
            DATA => entry.value = value(content),
            FLAGS => entry.end = big_u32(content).unwrap_or(0) & INTERVAL_END != 0,
            TIMEOUT => entry.timeout = milliseconds(content),
            EXPIRATION => entry.expires = milliseconds(content),
            USER_DATA => entry.user_data = content,
            _ => {}
        }
    }
    Some(entry)
}

fn value(data: &[u8]) -> Value<'_> {
    if let Some(bytes) = attribute(data, DATA_VALUE) {
        return Value::Data(bytes);
    }
    let chain = attribute(data, DATA_VERDICT).and_then(|verdict| attribute(verdict, VERDICT_CHAIN));
    chain.map_or(Value::None, |name| Value::Goto(text(name)))
}

/// A string without its NUL; nothing when it is no text, which no name of ours is.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default().trim_end_matches('\0')
}

fn big_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|b| u32::from_be_bytes(*b))
}

fn milliseconds(bytes: &[u8]) -> Option<Duration> {
    bytes.first_chunk::<8>().map(|b| Duration::from_millis(u64::from_be_bytes(*b)))
}
