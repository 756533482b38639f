//! The addresses that one entry of an AddressPool stands for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// Consecutive addresses of one family, both ends among them.
///
/// Written as a CIDR (`192.0.2.0/28`; bits behind the prefix mean nothing) or as a range (`192.0.2.10-192.0.2.20`). Of
/// an IPv4 CIDR shorter than /31 the first and the last address are left out: hosts on such a network take them for the
/// network and for everybody. A range has all that it says, so whoever knows better can give them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    ipv4: bool,
    first: u128,
    last: u128,
}

/// A text that is no span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    #[error("must be a CIDR, as 192.0.2.0/28, or a range with both ends in it, as 192.0.2.10-192.0.2.20")]
    Malformed,
    #[error("must have both ends in one IP family")]
    Families,
    #[error("must not end before it begins")]
    Backwards,
}

impl Span {
    pub fn is_ipv4(&self) -> bool {
        self.ipv4
    }

    pub fn first(&self) -> IpAddr {
        address(self.ipv4, self.first)
    }

    pub fn last(&self) -> IpAddr {
        address(self.ipv4, self.last)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.ipv4 && (self.first..=self.last).contains(&number(address))
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.ipv4 == other.ipv4 && self.first <= other.last && other.first <= self.last
    }

    /// Every address of a network, first and last included.
    pub fn of_net(net: IpNet) -> Self {
        Self { ipv4: net.addr().is_ipv4(), first: number(net.network()), last: number(net.broadcast()) }
    }

    /// How many addresses; 2^64 − 1 where there are more.
    pub fn count(&self) -> u64 {
        u64::try_from(self.last - self.first).unwrap_or(u64::MAX).saturating_add(1)
    }

    pub(crate) fn numbers(&self) -> (u128, u128) {
        (self.first, self.last)
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        if let Some((first, last)) = text.split_once('-') {
            let parse = |end: &str| end.trim().parse::<IpAddr>().map_err(|_| SpanError::Malformed);
            let (first, last) = (parse(first)?, parse(last)?);
            if first.is_ipv4() != last.is_ipv4() {
                return Err(SpanError::Families);
            }
            let span = Self { ipv4: first.is_ipv4(), first: number(first), last: number(last) };
            return if span.first <= span.last { Ok(span) } else { Err(SpanError::Backwards) };
        }
        let net: IpNet = text.parse().map_err(|_| SpanError::Malformed)?;
        let mut span = Self::of_net(net);
        if span.ipv4 && net.prefix_len() < 31 {
            span.first += 1;
            span.last -= 1;
        }
        Ok(span)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first())?;
        if self.first == self.last { Ok(()) } else { write!(f, "-{}", self.last()) }
    }
}

pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

pub(crate) fn address(ipv4: bool, number: u128) -> IpAddr {
    if ipv4 {
        // It came from 32 bits, or lies between two that did: nothing is cut off.
        Ipv4Addr::from(number as u32).into()
    } else {
        Ipv6Addr::from(number).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_what_they_stand_for() {
        for (text, shown, count) in [
            ("192.0.2.0/28", "192.0.2.1-192.0.2.14", 14),
            ("192.0.2.4/31", "192.0.2.4-192.0.2.5", 2),
            ("192.0.2.4/32", "192.0.2.4", 1),
            ("192.0.2.0/30", "192.0.2.1-192.0.2.2", 2),
            ("192.0.2.9/30", "192.0.2.9-192.0.2.10", 2),
            ("192.0.2.0 - 192.0.2.255", "192.0.2.0-192.0.2.255", 256),
            ("192.0.2.7-192.0.2.7", "192.0.2.7", 1),
            ("0.0.0.0/0", "0.0.0.1-255.255.255.254", (1 << 32) - 2),
            ("fd00::1:0/112", "fd00::1:0-fd00::1:ffff", 65_536),
            ("fd00::/64", "fd00::-fd00::ffff:ffff:ffff:ffff", u64::MAX),
            ("::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", u64::MAX),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.to_string().as_str(), span.count()), (shown, count), "{text}");
        }
    }

    #[test]
    fn texts_that_are_none() {
        for (text, error) in [
            ("", SpanError::Malformed),
            ("192.0.2.1", SpanError::Malformed),
            ("192.0.2.0/33", SpanError::Malformed),
            ("192.0.2.0/", SpanError::Malformed),
            ("192.0.2.0-", SpanError::Malformed),
            ("192.0.2.0/24-192.0.3.0/24", SpanError::Malformed),
            ("192.0.2.1-fd00::1", SpanError::Families),
            ("192.0.2.9-192.0.2.1", SpanError::Backwards),
        ] {
            assert_eq!(text.parse::<Span>(), Err(error), "{text}");
        }
    }

    #[test]
    fn spans_meet_in_one_address_and_never_across_families() {
        let span = |text: &str| text.parse::<Span>().unwrap();
        assert!(span("192.0.2.1-192.0.2.5").overlaps(&span("192.0.2.5-192.0.2.9")));
        assert!(!span("192.0.2.1-192.0.2.4").overlaps(&span("192.0.2.5-192.0.2.9")));
        assert!(span("192.0.2.0/24").overlaps(&span("192.0.2.5-192.0.2.5")));
        assert!(!span("0.0.0.0-255.255.255.255").overlaps(&span("::/0")));
        assert!(!span("192.0.2.0/24").contains("192.0.2.255".parse().unwrap()));
        assert!(Span::of_net("192.0.2.0/24".parse().unwrap()).contains("192.0.2.255".parse().unwrap()));
        assert!(!span("::/0").contains("192.0.2.1".parse().unwrap()));
    }
}
