//! The thin end: IPVS of a kernel, by generic netlink.
//!
//! The kernel gives the family `IPVS` a number when it loads the module, which it does when somebody asks for the number; and
//! it loads the module of a scheduler when a virtual server is to have it. So nobody has to call `modprobe`, and where the
//! modules are not installed, opening says so.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use netlink_sys::protocols::NETLINK_GENERIC;
use nix::libc;

use super::leaving::Command;
use super::message::{self, FoundDestination, FoundServer, Verb};
use super::state::Place;
use crate::nftables::netlink::batch::{NLM_F_ACK, NLM_F_DUMP};
use crate::nftables::netlink::socket::{Request, Socket};
use crate::nftables::netlink::{NetlinkError, Writer, attribute};

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_*`.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_NUMBER: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `IPVS_GENL_NAME`.
const NAME: &str = "IPVS";

/// Why there is no IPVS.
#[derive(Debug, thiserror::Error)]
pub enum IpvsError {
    #[error("opening a socket of generic netlink")]
    Socket(#[source] io::Error),
    /// Neither built in nor to be had as a module.
    #[error(
        "the kernel has no IPVS: the module ip_vs is neither built in nor could it be loaded (it must be installed for the \
         running kernel; some distributions have it in a package of its own)"
    )]
    Missing,
    #[error("asking the kernel for IPVS")]
    Ask(#[source] NetlinkError),
}

/// A virtual server of anybody's, with its destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub server: FoundServer,
    pub destinations: BTreeMap<SocketAddr, FoundDestination>,
}

/// IPVS of the network namespace in which this was opened.
pub struct Ipvs {
    socket: Socket,
    /// The family's number.
    family: u16,
}

impl Ipvs {
    /// # Errors
    /// When the kernel has no IPVS.
    pub fn open() -> Result<Self, IpvsError> {
        let socket = Socket::open_to(NETLINK_GENERIC).map_err(IpvsError::Socket)?;
        let mut family = None;
        let what = "looking for IPVS";
        // The byte that is a family's elsewhere is the command's in generic netlink.
        let request = Request { kind: CONTROL, flags: NLM_F_ACK, family: GET_FAMILY, what };
        let outcome = socket.exchange(
            request,
            |w| w.text(FAMILY_NAME, NAME),
            |answer| family = attribute(answer, FAMILY_NUMBER).and_then(|b| b.first_chunk::<2>()).copied(),
        );
        match outcome {
            Err(error) if error.refusal() == Some(libc::ENOENT) => Err(IpvsError::Missing),
            Err(error) => Err(IpvsError::Ask(error)),
            Ok(_) => Ok(Self { socket, family: family.map(u16::from_ne_bytes).ok_or(IpvsError::Missing)? }),
        }
    }

    /// Every virtual server by address, with its destinations. Those by firewall mark are not told of.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn all(&self) -> Result<BTreeMap<Place, Found>, NetlinkError> {
        let mut all = BTreeMap::new();
        for server in self.servers()? {
            let destinations = self.destinations(&server.place)?.unwrap_or_default();
            all.insert(server.place, Found { server, destinations });
        }
        Ok(all)
    }

    /// The virtual server at a place, with its destinations.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn find(&self, place: &Place) -> Result<Option<Found>, NetlinkError> {
        let Some(server) = self.server(place)? else { return Ok(None) };
        Ok(Some(Found { server, destinations: self.destinations(place)?.unwrap_or_default() }))
    }

    /// Every virtual server by address, without its destinations.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn servers(&self) -> Result<Vec<FoundServer>, NetlinkError> {
        let mut servers = Vec::new();
        let take = |message: &[u8]| servers.extend(message::read_server(message));
        self.ask(Verb::GetServer, NLM_F_DUMP, "listing virtual servers", |_| {}, take)?;
        Ok(servers)
    }

    /// The destinations of a virtual server, with what is counted of them. `None`: there is no such server.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn destinations(&self, place: &Place) -> Result<Option<BTreeMap<SocketAddr, FoundDestination>>, NetlinkError> {
        let mut found = BTreeMap::new();
        let take = |message: &[u8]| {
            found.extend(
                message::read_destination(message, place.family()).map(|destination| (destination.at, destination)),
            );
        };
        let what = format!("listing the destinations of {place}");
        match self.ask(Verb::GetDestination, NLM_F_DUMP, &what, |w| message::named(w, place), take) {
            Ok(()) if !found.is_empty() => Ok(Some(found)),
            // Of a server that is not there the kernel says nothing, as of one without destinations.
            Ok(()) => Ok(self.server(place)?.map(|_| found)),
            Err(error) if error.refusal() == Some(libc::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn server(&self, place: &Place) -> Result<Option<FoundServer>, NetlinkError> {
        let what = format!("looking for {place}");
        let mut server = None;
        let take = |message: &[u8]| server = message::read_server(message);
        match self.ask(Verb::GetServer, NLM_F_ACK, &what, |w| message::named(w, place), take) {
            Ok(()) => Ok(server),
            Err(error) if error.refusal() == Some(libc::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Does what is asked. What is to be added and is there already is made what it is to be; what is to be removed and is
    /// not there is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn apply(&self, command: &Command) -> Result<(), NetlinkError> {
        match *command {
            Command::AddServer { place, scheduler, persistence_seconds } => {
                let body = |w: &mut Writer| message::server(w, &place, scheduler, persistence_seconds);
                self.add_or_set([Verb::NewServer, Verb::SetServer], &format!("{place}"), body)
            }
            Command::SetServer { place, scheduler, persistence_seconds } => {
                let what = format!("changing {place}");
                let body = |w: &mut Writer| message::server(w, &place, scheduler, persistence_seconds);
                self.ask(Verb::SetServer, NLM_F_ACK, &what, body, |_| {}).map_err(|e| explained(e, libc::ENOENT))
            }
            Command::RemoveServer { place } => {
                let what = format!("removing {place}");
                gone(self.ask(Verb::RemoveServer, NLM_F_ACK, &what, |w| message::named(w, &place), |_| {}))
            }
            Command::AddDestination { place, destination, weight } => {
                let body = |w: &mut Writer| message::destination(w, &place, destination, Some(weight));
                let what = format!("{destination} as a destination of {place}");
                self.add_or_set([Verb::NewDestination, Verb::SetDestination], &what, body)
            }
            Command::SetWeight { place, destination, weight } => {
                let what = format!("changing the destination {destination} of {place}");
                let body = |w: &mut Writer| message::destination(w, &place, destination, Some(weight));
                self.ask(Verb::SetDestination, NLM_F_ACK, &what, body, |_| {})
            }
            Command::RemoveDestination { place, destination } => {
                let what = format!("removing the destination {destination} of {place}");
                let body = |w: &mut Writer| message::destination(w, &place, destination, None);
                gone(self.ask(Verb::RemoveDestination, NLM_F_ACK, &what, body, |_| {}))
            }
        }
    }

    fn add_or_set(&self, [add, set]: [Verb; 2], what: &str, body: impl Fn(&mut Writer)) -> Result<(), NetlinkError> {
        let outcome = match self.ask(add, NLM_F_ACK, &format!("adding {what}"), &body, |_| {}) {
            Err(error) if error.refusal() == Some(libc::EEXIST) => {
                self.ask(set, NLM_F_ACK, &format!("changing {what}"), &body, |_| {})
            }
            outcome => outcome,
        };
        outcome.map_err(|error| if add == Verb::NewServer { explained(error, libc::ENOENT) } else { error })
    }

    fn ask(
        &self,
        verb: Verb,
        flags: u16,
        what: &str,
        body: impl FnOnce(&mut Writer),
        each: impl FnMut(&[u8]),
    ) -> Result<(), NetlinkError> {
        let request = Request { kind: self.family, flags, family: verb as u8, what };
        // Servers that come or go while they are listed are not ours.
        self.socket.exchange(request, body, each).map(|_| ())
    }
}

/// It is no error that what was to be removed was not there.
fn gone(outcome: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match outcome {
        Err(error) if matches!(error.refusal(), Some(libc::ENOENT | libc::ESRCH)) => Ok(()),
        outcome => outcome,
    }
}

/// The number that the kernel gives for a missing scheduler, in words.
fn explained(error: NetlinkError, number: i32) -> NetlinkError {
    match error {
        NetlinkError::Refused { what, detail, source }
            if detail.is_empty() && source.raw_os_error() == Some(number) =>
        {
            let detail = "the module of its scheduler (ip_vs_rr and so on) is not there".to_owned();
            NetlinkError::Refused { what, detail, source }
        }
        error => error,
    }
}
