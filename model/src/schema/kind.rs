//! What a schema can be asked of: the kinds that are stored, and those that are only created.

use super::{Struct, struct_at};
use crate::resource::Resource;
use crate::review::Review;

/// A kind that a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Resource(Resource),
    Review(Review),
    /// core/v1 Binding, the body of `…/pods/{name}/binding`.
    Binding,
    /// authentication.k8s.io/v1 TokenRequest, the body of `…/serviceaccounts/{name}/token`.
    TokenRequest,
}

impl From<Resource> for Kind {
    fn from(resource: Resource) -> Self {
        Self::Resource(resource)
    }
}

impl From<Review> for Kind {
    fn from(review: Review) -> Self {
        Self::Review(review)
    }
}

impl Kind {
    /// Every one.
    pub fn all() -> impl Iterator<Item = Kind> {
        Resource::ALL
            .into_iter()
            .map(Kind::from)
            .chain(Review::ALL.into_iter().map(Kind::from))
            .chain([Kind::Binding, Kind::TokenRequest])
    }

    /// API group; empty for core.
    pub fn group(self) -> &'static str {
        match self {
            Self::Resource(resource) => resource.info().group,
            Self::Review(review) => review.info().group,
            Self::Binding => "",
            Self::TokenRequest => "authentication.k8s.io",
        }
    }

    pub fn version(self) -> &'static str {
        match self {
            Self::Resource(resource) => resource.info().version,
            Self::Review(review) => review.info().version,
            Self::Binding | Self::TokenRequest => "v1",
        }
    }

    /// `v1` or `discovery.k8s.io/v1`.
    pub fn api_version(self) -> String {
        let (group, version) = (self.group(), self.version());
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
    }

    /// `Service`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resource(resource) => resource.info().kind,
            Self::Review(review) => review.info().kind,
            Self::Binding => "Binding",
            Self::TokenRequest => "TokenRequest",
        }
    }

    /// The name of its schema: `io.k8s.api.core.v1.Service`.
    pub fn schema_name(self) -> &'static str {
        self.root().name
    }

    pub(crate) fn root(self) -> &'static Struct {
        struct_at(match self {
            Self::Resource(resource) => super::ROOTS[resource as usize],
            Self::Review(review) => super::REVIEW_ROOTS[review as usize],
            Self::Binding => super::BINDING,
            Self::TokenRequest => super::TOKEN_REQUEST,
        })
    }
}
