//! The registers of a rule: sixteen of 32 bits, which hold bytes.

use std::net::IpAddr;

use crate::nftables::expr::Reg;
use crate::nftables::set::Set;
use crate::plan::Family;

const COUNT: usize = 16;
const WORD: usize = 4;

#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Registers([[u8; WORD]; COUNT]);

impl Registers {
    /// Writes from a register on. What goes beyond the last one is lost: the layout's rules do not, and elements that
    /// somebody else made longer cannot, since the kernel checks their length.
    pub fn store(&mut self, to: Reg, bytes: &[u8]) {
        let words = self.0.iter_mut().skip(usize::from(to.0));
        for (word, bytes) in words.zip(bytes.chunks(WORD)) {
            word[..bytes.len()].copy_from_slice(bytes);
        }
    }

    pub fn store_address(&mut self, to: Reg, address: IpAddr) {
        match address {
            IpAddr::V4(a) => self.store(to, &a.octets()),
            IpAddr::V6(a) => self.store(to, &a.octets()),
        }
    }

    pub fn store_port(&mut self, to: Reg, port: u16) {
        let [a, b] = port.to_be_bytes();
        self.store(to, &[a, b, 0, 0]);
    }

    pub fn number(&self, register: Reg) -> u32 {
        u32::from_ne_bytes(self.word(register))
    }

    pub fn first_byte(&self, register: Reg) -> u8 {
        self.word(register)[0]
    }

    pub fn port(&self, register: Reg) -> u16 {
        let [a, b, ..] = self.word(register);
        u16::from_be_bytes([a, b])
    }

    pub fn address(&self, register: Reg, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.word(register).into(),
            Family::V6 => {
                let mut all = [0; 16];
                let words = (register.0..).map(|r| self.word(Reg(r)));
                all.chunks_mut(WORD).zip(words).for_each(|(to, word)| to.copy_from_slice(&word));
                all.into()
            }
        }
    }

    /// The bytes of a set's key that starts in a register.
    pub fn key(&self, set: Set, family: Family, register: Reg) -> Vec<u8> {
        let length: u32 = set.spec().key.iter().map(|t| t.bytes(family)).sum();
        let words = self.0.iter().skip(usize::from(register.0)).take(length as usize / WORD);
        words.flatten().copied().collect()
    }

    /// So many bytes from a register on.
    pub fn bytes(&self, register: Reg, count: usize) -> Vec<u8> {
        self.0.iter().skip(usize::from(register.0)).flatten().take(count).copied().collect()
    }

    fn word(&self, register: Reg) -> [u8; WORD] {
        self.0.get(usize::from(register.0)).copied().unwrap_or_default()
    }
}
