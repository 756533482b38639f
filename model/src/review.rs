//! The table of reviews: questions about the asker ("may I?", "who am I?") that a client creates and that are
//! answered at once. A review is never stored, so it is no [`crate::Resource`] and takes no `create` but its own;
//! routes, discovery, schema and documents read it from here, as they read the others from `resource.rs`.

/// A kind that can be created and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Review {
    SelfSubject,
    LocalSubjectAccess,
    SelfSubjectAccess,
    SelfSubjectRules,
    SubjectAccess,
}

/// One row of the table.
#[derive(Debug)]
pub struct ReviewInfo {
    pub review: Review,
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    /// Lower-case plural, as in paths.
    pub plural: &'static str,
    pub singular: &'static str,
    pub namespaced: bool,
}

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

static TABLE: [ReviewInfo; 5] = [
    row(Review::SelfSubject, AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview", false),
    row(
        Review::LocalSubjectAccess,
        AUTHORIZATION,
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
        true,
    ),
    row(
        Review::SelfSubjectAccess,
        AUTHORIZATION,
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        false,
    ),
    row(
        Review::SelfSubjectRules,
        AUTHORIZATION,
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
        false,
    ),
    row(
        Review::SubjectAccess,
        AUTHORIZATION,
        "SubjectAccessReview",
        "subjectaccessreviews",
        "subjectaccessreview",
        false,
    ),
];

const fn row(
    review: Review,
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    namespaced: bool,
) -> ReviewInfo {
    ReviewInfo { review, group, version: "v1", kind, plural, singular, namespaced }
}

impl Review {
    /// Every review, in the order of the enum.
    pub const ALL: [Review; 5] = [
        Review::SelfSubject,
        Review::LocalSubjectAccess,
        Review::SelfSubjectAccess,
        Review::SelfSubjectRules,
        Review::SubjectAccess,
    ];

    /// This review's row.
    pub fn info(self) -> &'static ReviewInfo {
        &TABLE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_at_their_own_index() {
        for review in Review::ALL {
            let info = review.info();
            assert_eq!(info.review, review);
            assert_eq!(info.plural, format!("{}s", info.singular));
            assert_eq!(info.singular, info.kind.to_ascii_lowercase());
        }
    }
}
