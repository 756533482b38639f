//! Settings of the network that rules rely on, and what they were before.
//!
//! That is kept in the network namespace itself, as a chain without rules whose name says it: `PORTOLAN-WAS-localnet-0`. The
//! setting belongs to the namespace as the rules do, and whoever takes the rules away, even another process after a crash,
//! knows what to put back.

use std::fs;
use std::io;

/// With which the names of chains begin that say what settings were.
pub const MARKS: &str = "PORTOLAN-WAS-";

/// Of `/proc/sys/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// By which it is remembered: at most 12 characters, without a hyphen at the end.
    pub name: &'static str,
    /// Behind `/proc/sys/`.
    pub path: &'static str,
}

/// Loopback addresses may be routed; see `iptables::layout`.
pub const ROUTE_LOCALNET: Setting = Setting { name: "localnet", path: "net/ipv4/conf/all/route_localnet" };

/// The value of a setting, at most as long as a chain's name has room for.
const LONGEST_VALUE: usize = 3;

impl Setting {
    /// Its value in the calling thread's network namespace; `None` where there is no such setting.
    pub fn get(&self) -> Option<String> {
        fs::read_to_string(self.file()).ok().map(|text| text.trim().to_owned())
    }

    /// # Errors
    /// When the process may not, or there is no such setting.
    pub fn set(&self, value: &str) -> io::Result<()> {
        fs::write(self.file(), value)
    }

    /// The kernel shows each thread the settings of its own namespace there.
    fn file(&self) -> String {
        format!("/proc/sys/{}", self.path)
    }

    /// The name of the chain that says that it was `before`. `None`: that does not fit, or is no value.
    pub fn mark(&self, before: &str) -> Option<String> {
        let fits = !before.is_empty() && before.len() <= LONGEST_VALUE;
        let plain = before.chars().all(|c| c.is_ascii_digit());
        (fits && plain).then(|| format!("{MARKS}{}-{before}", self.name))
    }

    /// What the setting was before, from the name of a chain; `None`: that is about something else.
    pub fn before<'a>(&self, chain: &'a str) -> Option<&'a str> {
        chain.strip_prefix(MARKS)?.strip_prefix(self.name)?.strip_prefix('-')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xtables::name::LONGEST;

    #[test]
    fn what_was_before_is_a_name() {
        let name = ROUTE_LOCALNET.mark("0").unwrap();
        assert_eq!(name, "PORTOLAN-WAS-localnet-0");
        assert_eq!(ROUTE_LOCALNET.before(&name), Some("0"));
        assert_eq!(ROUTE_LOCALNET.before("PORTOLAN-WAS-localnets-0"), None);
        assert_eq!(ROUTE_LOCALNET.mark("1 2"), None);
        assert!(ROUTE_LOCALNET.mark("255").unwrap().len() <= LONGEST);
    }
}
