//! The routes that are no resource's: discovery, documents, health. Each is a path of its own, without parameters, so
//! that the router registers, `/` lists and OpenAPI describes exactly these.

use crate::discovery::GroupVersion;

/// What a page shows. All of them are read with `GET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/`: the paths that there are.
    Paths,
    /// `/api`: the versions of the core group.
    Core,
    /// `/apis`: the other groups.
    Groups,
    /// `/apis/{group}`.
    Group(&'static str),
    /// `/api/v1` and `/apis/{group}/{version}`: the resources of a version.
    Resources(GroupVersion),
    OpenApiV2,
    OpenApiV3,
    OpenApiV3Of(GroupVersion),
    /// `/openapi.json`: the whole in one document.
    OpenApi,
    /// `/docs`: that document for people.
    Docs,
    DocsScript,
    DocsStyle,
    Version,
    Livez,
    Readyz,
    /// What probes asked before there were the other two; the same as ready.
    Healthz,
    Metrics,
}

impl Page {
    /// Every page.
    pub fn all() -> Vec<Page> {
        let versions = GroupVersion::all();
        let mut groups: Vec<&'static str> = versions.iter().map(|gv| gv.group).filter(|g| !g.is_empty()).collect();
        groups.dedup();
        let mut pages = vec![Page::Paths, Page::Core, Page::Groups];
        pages.extend(groups.into_iter().map(Page::Group));
        pages.extend(versions.iter().copied().map(Page::Resources));
        pages.extend([Page::OpenApiV2, Page::OpenApiV3]);
        pages.extend(versions.into_iter().map(Page::OpenApiV3Of));
        pages.extend([Page::OpenApi, Page::Docs, Page::DocsScript, Page::DocsStyle]);
        pages.extend([Page::Version, Page::Livez, Page::Readyz, Page::Healthz, Page::Metrics]);
        pages
    }

    pub fn path(self) -> String {
        match self {
            Self::Paths => "/".to_owned(),
            Self::Core => "/api".to_owned(),
            Self::Groups => "/apis".to_owned(),
            Self::Group(group) => format!("/apis/{group}"),
            Self::Resources(gv) => format!("/{}", gv.path()),
            Self::OpenApiV2 => "/openapi/v2".to_owned(),
            Self::OpenApiV3 => "/openapi/v3".to_owned(),
            Self::OpenApiV3Of(gv) => format!("/openapi/v3/{}", gv.path()),
            Self::OpenApi => OPENAPI.to_owned(),
            Self::Docs => DOCS.to_owned(),
            Self::DocsScript => DOCS_SCRIPT.to_owned(),
            Self::DocsStyle => DOCS_STYLE.to_owned(),
            Self::Version => "/version".to_owned(),
            Self::Livez => "/livez".to_owned(),
            Self::Readyz => "/readyz".to_owned(),
            Self::Healthz => "/healthz".to_owned(),
            Self::Metrics => "/metrics".to_owned(),
        }
    }

    /// Whether no token is asked for: health and version, as a load balancer's probe and a client's first question
    /// carry none, and the documents for people, as a browser has none to show. They hold what is public anyhow.
    pub fn open(self) -> bool {
        matches!(
            self,
            Self::Livez
                | Self::Readyz
                | Self::Healthz
                | Self::Version
                | Self::OpenApi
                | Self::Docs
                | Self::DocsScript
                | Self::DocsStyle
        )
    }
}

/// The paths of the pages that are open to all.
#[derive(Clone, Debug)]
pub struct OpenPages(Vec<String>);

impl OpenPages {
    pub fn new() -> Self {
        Self(Page::all().into_iter().filter(|page| page.open()).map(Page::path).collect())
    }

    /// Whether this path is one. A slash at its end changes nothing, here as in the router.
    pub fn contains(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.0.iter().any(|open| open == path)
    }
}

const OPENAPI: &str = "/openapi.json";
const DOCS: &str = "/docs";
const DOCS_SCRIPT: &str = "/docs/page.js";
const DOCS_STYLE: &str = "/docs/page.css";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn health_version_and_the_page_for_people_are_open() {
        let open = OpenPages::new();
        for path in
            ["/livez", "/readyz", "/healthz", "/version", "/version/", "/openapi.json", "/docs", "/docs/page.js"]
        {
            assert!(open.contains(path), "{path}");
        }
        for path in ["/", "/metrics", "/livezz", "/version/x", "/openapi/v3", "/docs/x", "/api"] {
            assert!(!open.contains(path), "{path}");
        }
    }

    #[test]
    fn every_page_has_a_path_of_its_own() {
        let mut seen = BTreeSet::new();
        for page in Page::all() {
            assert!(seen.insert(page.path()), "{page:?}");
        }
    }
}
