//! What a name of the zone is, by its labels alone. Nothing here knows what exists.

use hickory_proto::rr::Name;

use crate::names::Zone;

/// A place in the tree of names below the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The zone itself.
    Apex,
    /// A name that has others below it, whatever the cluster is: `svc`, `pod`, `dns`.
    Above,
    /// `dns-version`
    Version,
    /// `ns.dns`
    NameServer,
    /// `NAMESPACE.svc` or `NAMESPACE.pod`
    Namespace(String),
    Service {
        namespace: String,
        service: String,
        part: Part,
    },
    /// `LABEL.NAMESPACE.pod`
    Pod {
        namespace: String,
        label: String,
    },
    Nothing,
}

/// What stands before the name of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Itself,
    /// `_tcp`: there are names below it if the Service has a named port of that protocol.
    Protocol(String),
    Endpoint(String),
    /// `_http._tcp`
    Port {
        port: String,
        protocol: String,
    },
}

impl Place {
    /// `name` is in lower case, and in the zone.
    pub fn of(name: &Name, zone: &Zone) -> Self {
        // Not `num_labels`, which does not count a `*`.
        let depth = name.iter().count().saturating_sub(zone.domain.iter().count());
        let labels: Option<Vec<&str>> = name.iter().take(depth).map(|label| std::str::from_utf8(label).ok()).collect();
        // No name of an object has other than letters.
        let Some(labels) = labels else { return Self::Nothing };
        match labels.as_slice() {
            [] => Self::Apex,
            ["svc" | "pod" | "dns"] => Self::Above,
            ["dns-version"] => Self::Version,
            ["ns", "dns"] => Self::NameServer,
            [namespace, "svc" | "pod"] => Self::Namespace((*namespace).to_owned()),
            [label, namespace, "pod"] => Self::Pod { namespace: (*namespace).to_owned(), label: (*label).to_owned() },
            [before @ .., service, namespace, "svc"] => match Part::of(before) {
                Some(part) => {
                    Self::Service { namespace: (*namespace).to_owned(), service: (*service).to_owned(), part }
                }
                None => Self::Nothing,
            },
            _ => Self::Nothing,
        }
    }
}

impl Part {
    fn of(labels: &[&str]) -> Option<Self> {
        let after_underscore = |label: &str| label.strip_prefix('_').map(str::to_owned);
        match labels {
            [] => Some(Self::Itself),
            [label] => Some(match after_underscore(label) {
                Some(protocol) => Self::Protocol(protocol),
                None => Self::Endpoint((*label).to_owned()),
            }),
            [port, protocol] => {
                Some(Self::Port { port: after_underscore(port)?, protocol: after_underscore(protocol)? })
            }
            _ => None,
        }
    }
}
