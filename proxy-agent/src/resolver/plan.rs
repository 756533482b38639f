//! What is to be done about the files of a host. Pure.

use std::path::PathBuf;

use super::Wanted;
use super::text::{self, Author, author};

pub(super) const RESOLV_CONF: &str = "etc/resolv.conf";
pub(super) const SAVED: &str = "etc/resolv.conf.portolan-saved";
pub(super) const DROP_IN: &str = "etc/systemd/resolved.conf.d/portolan.conf";
pub(super) const DELEGATE: &str = "etc/systemd/dns-delegate.d/portolan.dns-delegate";

/// From which systemd on there are delegates.
const DELEGATES: u32 = 258;
/// systemd-resolved's stub.
const STUBS: [&str; 2] = ["127.0.0.53", "127.0.0.54"];

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    /// systemd-resolved runs; its version, 0 if it does not say.
    pub resolved: Option<u32>,
    pub resolv_conf: Entry,
    pub saved: Entry,
    pub drop_in: Entry,
    pub delegate: Entry,
}

/// A path of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Entry {
    #[default]
    Missing,
    File(String),
    /// Where it leads, and what is there.
    Link(PathBuf, Option<String>),
}

impl Entry {
    fn text(&self) -> &str {
        match self {
            Self::File(text) | Self::Link(_, Some(text)) => text,
            Self::Missing | Self::Link(_, None) => "",
        }
    }

    /// A link is never ours, whatever it leads to.
    fn author(&self) -> Author {
        if let Self::File(text) = self { author(text) } else { Author::Others }
    }
}

/// One step. Paths are relative to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A file with this text takes the path's place.
    Write(&'static str, String),
    /// The same file or link has a second name from now on, which may have been another's.
    Link(&'static str, &'static str),
    /// The first name takes the place of the second.
    Rename(&'static str, &'static str),
    Remove(&'static str),
    /// systemd-resolved reads its configuration again.
    Reload,
}

/// What is to be done, in this order, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub actions: Vec<Action>,
    pub left: Vec<String>,
}

/// From what is there to what is wanted.
pub(super) fn configure(host: &Host, wanted: &Wanted) -> Plan {
    let mut plan = Plan::default();
    match host.resolved {
        Some(version) if asks_stub(host.resolv_conf.text()) => {
            if version >= DELEGATES {
                plan.put(DELEGATE, &host.delegate, text::delegate(wanted));
                plan.take(DROP_IN, &host.drop_in);
            } else {
                plan.put(DROP_IN, &host.drop_in, text::drop_in(wanted));
                plan.take(DELEGATE, &host.delegate);
            }
            if !plan.actions.is_empty() {
                plan.actions.push(Action::Reload);
            }
        }
        _ => plan.put_first(host, wanted),
    }
    plan
}

/// From what is there to what was there.
pub(super) fn restore(host: &Host) -> Plan {
    let mut plan = Plan::default();
    plan.take(DELEGATE, &host.delegate);
    plan.take(DROP_IN, &host.drop_in);
    if !plan.actions.is_empty() && host.resolved.is_some() {
        plan.actions.push(Action::Reload);
    }
    match (host.resolv_conf.author(), &host.saved) {
        (Author::Us, Entry::Missing) => plan.actions.push(Action::Remove(RESOLV_CONF)),
        (Author::Us, _) => plan.actions.push(Action::Rename(SAVED, RESOLV_CONF)),
        (Author::Edited, _) => plan.left.push(edited(RESOLV_CONF)),
        (Author::Others, Entry::Missing) => {}
        // Put aside, and then nothing came in its place.
        (Author::Others, saved) if *saved == host.resolv_conf => plan.actions.push(Action::Remove(SAVED)),
        (Author::Others, _) => {
            let line = format!(
                "/{RESOLV_CONF} was written by somebody else since, and is left; what it was before is in /{SAVED}"
            );
            plan.left.push(line);
        }
    }
    plan
}

impl Plan {
    fn put(&mut self, path: &'static str, there: &Entry, text: String) {
        match (there, there.author()) {
            (Entry::File(old), Author::Us) if *old == text => {}
            (Entry::Missing, _) | (_, Author::Us) => self.actions.push(Action::Write(path, text)),
            (_, Author::Edited) => self.left.push(edited(path)),
            (_, Author::Others) => self.left.push(format!("/{path} is somebody else's and is left as it is")),
        }
    }

    fn take(&mut self, path: &'static str, there: &Entry) {
        match there.author() {
            Author::Us => self.actions.push(Action::Remove(path)),
            Author::Edited => self.left.push(edited(path)),
            Author::Others => {}
        }
    }

    fn put_first(&mut self, host: &Host, wanted: &Wanted) {
        if !wanted.servers.iter().any(|server| server.port() == 53) {
            self.left.push(format!("/{RESOLV_CONF} can only name servers on port 53, and this DNS is on another"));
            return;
        }
        match host.resolv_conf.author() {
            Author::Edited => self.left.push(edited(RESOLV_CONF)),
            Author::Us => {
                let text = text::resolv_conf(wanted, host.saved.text());
                self.put(RESOLV_CONF, &host.resolv_conf, text);
            }
            Author::Others => {
                if host.resolv_conf != Entry::Missing {
                    self.actions.push(Action::Link(RESOLV_CONF, SAVED));
                } else if host.saved != Entry::Missing {
                    self.actions.push(Action::Remove(SAVED));
                }
                let text = text::resolv_conf(wanted, host.resolv_conf.text());
                self.actions.push(Action::Write(RESOLV_CONF, text));
            }
        }
    }
}

fn edited(path: &str) -> String {
    format!("/{path} was changed since Portolan wrote it, and is left as it is")
}

/// Whether programs of the host reach systemd-resolved.
fn asks_stub(resolv_conf: &str) -> bool {
    resolv_conf.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next() == Some("nameserver") && words.next().is_some_and(|ip| STUBS.contains(&ip))
    })
}
