//! Which address, which port, which part of a range: (range, in use, request) → choice or refusal.
//!
//! No I/O, no clock, no randomness: chance comes in as a number. Nothing here decides *when* something is taken; the
//! store's writer marks what its objects hold and asks before it gives out more.
//!
//! What is in use is kept as maximal runs of consecutive numbers ([`runs`]), for IPv4, IPv6 and ports alike. A bitmap
//! would be as quick for a /16 but not usable for a /64; runs cost a logarithm in either, and less the fuller a range is,
//! because runs merge. Handing out the last of 65,000 addresses takes as many lookups as the first: at most four. External
//! addresses ([`external`]) are few, and have an order in which they are given; they are a set.

mod addresses;
mod band;
mod external;
mod ports;
mod range;
mod runs;
mod span;
mod subnets;

pub use addresses::{AddressPool, AddressRefusal};
pub use external::{ExternalAddresses, FREED_MOST, Turn};
pub use ports::{PortPool, PortRefusal};
pub use range::{AddressRange, RangeError};
pub use span::{Span, SpanError};
pub use subnets::{SubnetError, SubnetPool};
