//! Addresses that traffic may be sent to: an endpoint's, in a slice or in Endpoints.

use std::net::IpAddr;

use super::document::Errors;
use crate::field::FieldError;
use crate::syntax::parse_ip;

/// Refuses addresses that mean the sender itself or its link; what is no address at all passes, it is refused
/// elsewhere. They would let a Service's author reach what only the node may reach.
pub(super) fn validate(path: &str, value: &str, errors: &mut Errors) {
    let Some(address) = parse_ip(value) else { return };
    let mut refuse = |text: String| errors.push(FieldError::invalid(path, value, text));
    if address.is_unspecified() {
        refuse(format!("may not be unspecified ({value})"));
    }
    if address.is_loopback() {
        refuse("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        refuse("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    }
    if link_local_multicast {
        refuse("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned());
    }
}
