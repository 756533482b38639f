//! The routes of Portolan's own group: what the nodes have programmed, questions to them, and their certificates. Nothing there is an object:
//! no name is created, listed or stored, so discovery shows subresources alone (of nodes and services, whose names
//! stand in the paths), and clients that map kinds to resources never meet the group.

use http::Method;
use model::Resource;

use super::Action;

pub const GROUP: &str = "portolan.dev";
pub const VERSION: &str = "v1alpha1";

/// `apiVersion` of what is sent and answered there.
pub const API_VERSION: &str = "portolan.dev/v1alpha1";

/// One method on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// `PUT …/nodes/{name}/acknowledgement`: an agent says what its kernel has.
    Acknowledge,
    /// `PUT …/nodes/{name}/heartbeat`: an agent says that it lives.
    Beat,
    /// `GET …/services/{name}/programmed`: whether every live node has this Service.
    ServiceProgrammed,
    /// `GET …/programmed`: whether every live node has everything up to a revision.
    Programmed,
    /// `GET …/nodes/{name}/questions`: an agent waits for questions.
    Listen,
    /// `POST …/nodes/{name}/questions`: somebody asks a node.
    Ask,
    /// `POST …/nodes/{name}/answers/{id}`: an agent answers.
    Answer,
    /// `POST …/nodes/{name}/certificate`: a machine asks for the certificate of a node.
    Certificate,
}

/// A subresource as discovery lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// The resource of the core group whose names stand in the path.
    pub of: Resource,
    pub name: &'static str,
    pub kind: &'static str,
    /// Sorted.
    pub verbs: Vec<&'static str>,
}

impl Own {
    /// Every one.
    pub const ALL: [Own; 8] = [
        Own::Acknowledge,
        Own::Beat,
        Own::ServiceProgrammed,
        Own::Programmed,
        Own::Listen,
        Own::Ask,
        Own::Answer,
        Own::Certificate,
    ];

    pub fn action(self) -> Action {
        match self {
            Self::Acknowledge | Self::Beat => Action::Update,
            Self::ServiceProgrammed | Self::Programmed | Self::Listen => Action::Get,
            Self::Ask | Self::Answer | Self::Certificate => Action::Create,
        }
    }

    pub fn method(self) -> Method {
        self.action().method()
    }

    /// The path as OpenAPI spells it.
    pub fn path(self) -> String {
        let rest = match self {
            Self::Acknowledge => "nodes/{name}/acknowledgement",
            Self::Beat => "nodes/{name}/heartbeat",
            Self::ServiceProgrammed => "namespaces/{namespace}/services/{name}/programmed",
            Self::Programmed => "programmed",
            Self::Listen | Self::Ask => "nodes/{name}/questions",
            Self::Answer => "nodes/{name}/answers/{id}",
            Self::Certificate => "nodes/{name}/certificate",
        };
        format!("/apis/{API_VERSION}/{rest}")
    }

    /// What is sent to the path, or else answered by it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Acknowledge => "Acknowledgement",
            Self::Beat => "HeartbeatResponse",
            Self::ServiceProgrammed => "ServiceProgrammed",
            Self::Programmed => "Programmed",
            Self::Listen | Self::Ask => "Question",
            Self::Answer => "Answer",
            Self::Certificate => "CertificateRequest",
        }
    }

    /// The subresource that the path is; none for the one that names no object.
    pub fn subresource(self) -> Option<(Resource, &'static str)> {
        match self {
            Self::Acknowledge => Some((Resource::Nodes, "acknowledgement")),
            Self::Beat => Some((Resource::Nodes, "heartbeat")),
            Self::ServiceProgrammed => Some((Resource::Services, "programmed")),
            Self::Programmed => None,
            Self::Listen | Self::Ask => Some((Resource::Nodes, "questions")),
            Self::Answer => Some((Resource::Nodes, "answers")),
            Self::Certificate => Some((Resource::Nodes, "certificate")),
        }
    }

    /// What the metrics call it.
    pub fn label(self) -> &'static str {
        self.subresource().map_or("programmed", |(_, name)| name)
    }

    /// Every subresource once, by resource and name.
    pub fn subresources() -> Vec<Subresource> {
        let mut all: Vec<Subresource> = Vec::new();
        for own in Self::ALL {
            let Some((of, name)) = own.subresource() else { continue };
            let verb = own.action().verb();
            match all.iter_mut().find(|sub| (sub.of, sub.name) == (of, name)) {
                Some(known) => known.verbs.push(verb),
                None => all.push(Subresource { of, name, kind: own.kind(), verbs: vec![verb] }),
            }
        }
        all.iter_mut().for_each(|sub| sub.verbs.sort_unstable());
        all.sort_by_key(|sub| (sub.of, sub.name));
        all
    }

    /// Whether the body of a request to this path may go on beside its answer, as lines.
    pub fn converses(path: &str) -> bool {
        path.ends_with("/heartbeat") && Self::waits(path)
    }

    /// Whether a request to this path may be meant to wait (`timeoutSeconds`).
    pub fn waits(path: &str) -> bool {
        path.strip_prefix("/apis/").and_then(|rest| rest.strip_prefix(API_VERSION)).is_some_and(|r| r.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subresources_are_listed_once_with_all_their_verbs() {
        let lines: Vec<String> = Own::subresources()
            .iter()
            .map(|sub| format!("{}/{} {}: {}", sub.of, sub.name, sub.kind, sub.verbs.join(" ")))
            .collect();
        expect_test::expect![[r#"
            nodes/acknowledgement Acknowledgement: update
            nodes/answers Answer: create
            nodes/certificate CertificateRequest: create
            nodes/heartbeat HeartbeatResponse: update
            nodes/questions Question: create get
            services/programmed ServiceProgrammed: get"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn the_group_is_what_its_parts_say() {
        assert_eq!(API_VERSION, format!("{GROUP}/{VERSION}"));
        assert!(Own::waits(&Own::Programmed.path()) && !Own::waits("/api/v1/nodes"));
        let converse: Vec<Own> = Own::ALL.into_iter().filter(|own| Own::converses(&own.path())).collect();
        assert_eq!(converse, [Own::Beat]);
        assert!(!Own::converses("/api/v1/nodes/n/heartbeat"));
    }
}
