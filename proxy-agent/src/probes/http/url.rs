//! The URL of a probe, and where a redirect leads.

use std::fmt;

use http::Uri;

/// What is asked for, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub tls: bool,
    /// A name or an address, an IPv6 one without brackets.
    pub host: String,
    pub port: u16,
    /// Path and query, as they stand in the request.
    pub target: String,
}

impl Url {
    pub fn new(tls: bool, host: String, port: u16, path: &str) -> Self {
        Self { tls, host, port, target: target(path) }
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// What a `Location` means here. None where it cannot be followed.
    pub fn join(&self, location: &str) -> Option<Self> {
        let absolute = if is_absolute(location) {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{}:{location}", self.scheme())
        } else {
            return Some(Self { target: self.resolve(location), ..self.clone() });
        };
        // A fragment is the client's own.
        let uri: Uri = absolute.split('#').next().unwrap_or_default().parse().ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some(Self { tls, host, port, target: target(uri.path_and_query().map_or("/", |p| p.as_str())) })
    }

    /// A reference without scheme and authority, by RFC 3986 section 5.2.
    fn resolve(&self, reference: &str) -> String {
        let path = self.target.split('?').next().unwrap_or("/");
        let joined = if reference.starts_with('/') {
            reference.to_owned()
        } else if reference.is_empty() || reference.starts_with('#') {
            self.target.clone()
        } else if reference.starts_with('?') {
            format!("{path}{reference}")
        } else {
            let folder = path.rfind('/').and_then(|slash| path.get(..=slash)).unwrap_or("/");
            format!("{folder}{reference}")
        };
        let joined = joined.split('#').next().unwrap_or_default();
        let (path, query) = joined.split_once('?').map_or((joined, None), |(path, query)| (path, Some(query)));
        let mut segments: Vec<&str> = Vec::new();
        let mut last_is_folder = false;
        for segment in path.split('/').skip(1) {
            last_is_folder = matches!(segment, "" | "." | "..");
            match segment {
                "." => {}
                ".." => drop(segments.pop()),
                "" => {}
                name => segments.push(name),
            }
        }
        let mut resolved = format!("/{}", segments.join("/"));
        if last_is_folder && !segments.is_empty() {
            resolved.push('/');
        }
        target(&query.map_or(resolved.clone(), |query| format!("{resolved}?{query}")))
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.target)
    }
}

/// Whether a `Location` names a scheme.
pub fn is_absolute(location: &str) -> bool {
    let scheme = location.split_once(':').map_or("", |(scheme, _)| scheme);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// A path as it stands in a request: from the root, without a fragment, and nothing in it that would end the line.
fn target(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut text = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        text.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'!' | b'#'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => text.push(char::from(byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_what_a_request_can_hold() {
        let url = |path| Url::new(false, "10.0.0.1".into(), 80, path).to_string();
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("healthz", "/healthz"),
            ("?deep=1", "/?deep=1"),
            ("/a b/ü?x=1 2", "/a%20b/%C3%BC?x=1%202"),
            ("/a%20b", "/a%20b"),
            ("/x\r\nX-Evil: 1", "/x%0D%0AX-Evil:%201"),
            ("/a#top", "/a"),
        ] {
            assert_eq!(url(path), format!("http://10.0.0.1:80{expected}"));
        }
        assert_eq!(Url::new(true, "fd00::1".into(), 443, "/").to_string(), "https://[fd00::1]:443/");
    }

    #[test]
    fn a_redirect_leads_where_it_says() {
        let from = Url::new(false, "10.0.0.1".into(), 8080, "/a/b?q=1");
        for (location, expected) in [
            ("/x", Some("http://10.0.0.1:8080/x")),
            ("x?y", Some("http://10.0.0.1:8080/a/x?y")),
            ("../x/./y/", Some("http://10.0.0.1:8080/x/y/")),
            ("../../../", Some("http://10.0.0.1:8080/")),
            ("?z", Some("http://10.0.0.1:8080/a/b?z")),
            ("#z", Some("http://10.0.0.1:8080/a/b?q=1")),
            ("//10.0.0.1/x", Some("http://10.0.0.1:80/x")),
            ("https://10.0.0.1/x#y", Some("https://10.0.0.1:443/x")),
            ("https://[fd00::1]:8443", Some("https://[fd00::1]:8443/")),
            ("ftp://10.0.0.1/x", None),
            ("http://", None),
        ] {
            assert_eq!(from.join(location).map(|url| url.to_string()).as_deref(), expected, "{location}");
        }
    }
}
