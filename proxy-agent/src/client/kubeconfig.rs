//! Reads a kubeconfig file: the server, whom to trust, and what to show.
//!
//! Only what a client of Portolan's own server needs is done; what is not done is refused by name, so that nobody
//! wonders why a password does nothing.

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::error::KubeconfigError;
use super::server::{Identity, Trust};

/// What a kubeconfig's current context says.
pub(crate) struct Loaded {
    pub server: String,
    pub tls_server_name: Option<String>,
    pub trust: Trust,
    pub token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct Kubeconfig {
    current_context: String,
    contexts: Vec<NamedContext>,
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: User,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    username: Option<String>,
    exec: Option<serde::de::IgnoredAny>,
    auth_provider: Option<serde::de::IgnoredAny>,
}

pub(super) fn load(path: &Path) -> Result<Loaded, KubeconfigError> {
    let text = fs::read_to_string(path).map_err(KubeconfigError::Read)?;
    parse(&text, path.parent().unwrap_or(Path::new("")))
}

/// Reads `text`; relative paths in it start from `directory`, the place of the file.
pub(crate) fn parse(text: &str, directory: &Path) -> Result<Loaded, KubeconfigError> {
    // No piece of the text in the message: there is a token in it, and messages go to logs.
    let options = serde_saphyr::options! { with_snippet: false };
    let config: Kubeconfig =
        serde_saphyr::from_str_with_options(text, options).map_err(|e| KubeconfigError::Parse(Box::new(e)))?;
    let context = match config.current_context.as_str() {
        "" => return Err(KubeconfigError::Missing { field: "current-context".into() }),
        name => &config.contexts.iter().find(|c| c.name == name).ok_or_else(|| no_such("context", name))?.context,
    };
    let cluster = config.clusters.iter().find(|c| c.name == context.cluster);
    let cluster = &cluster.ok_or_else(|| no_such("cluster", &context.cluster))?.cluster;
    let nobody = User::default();
    let user = match context.user.as_str() {
        "" => &nobody,
        name => &config.users.iter().find(|u| u.name == name).ok_or_else(|| no_such("user", name))?.user,
    };
    refuse_unsupported(cluster, user)?;
    if cluster.server.is_empty() {
        return Err(KubeconfigError::Missing { field: format!("server of cluster {:?}", context.cluster) });
    }
    let file = |data: &Option<String>, path: &Option<PathBuf>, data_name, path_name| {
        blob(directory, data.as_deref(), path.as_deref(), data_name, path_name)
    };
    let ca_pem = file(
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
        "certificate-authority-data",
        "certificate-authority",
    )?;
    let certificate =
        file(&user.client_certificate_data, &user.client_certificate, "client-certificate-data", "client-certificate")?;
    let key = file(&user.client_key_data, &user.client_key, "client-key-data", "client-key")?;
    let identity = match (certificate, key) {
        (None, None) => None,
        (Some(certificate_pem), Some(key_pem)) => Some(Identity { certificate_pem, key_pem }),
        (Some(_), None) => return Err(KubeconfigError::Missing { field: "client-key of the user".into() }),
        (None, Some(_)) => return Err(KubeconfigError::Missing { field: "client-certificate of the user".into() }),
    };
    let token = match (&user.token, &user.token_file) {
        (Some(token), _) if !token.is_empty() => Some(token.clone()),
        (_, Some(path)) => {
            let path = directory.join(path);
            let text = fs::read_to_string(&path).map_err(|source| KubeconfigError::File {
                field: "tokenFile",
                path,
                source,
            })?;
            Some(text.trim().to_owned())
        }
        _ => None,
    };
    Ok(Loaded {
        server: cluster.server.clone(),
        tls_server_name: cluster.tls_server_name.clone().filter(|n| !n.is_empty()),
        trust: Trust { ca_pem, identity },
        token,
    })
}

fn no_such(kind: &'static str, name: &str) -> KubeconfigError {
    KubeconfigError::NoSuch { kind, name: name.to_owned() }
}

fn refuse_unsupported(cluster: &Cluster, user: &User) -> Result<(), KubeconfigError> {
    let refuse = |field, hint| Err(KubeconfigError::Unsupported { field, hint });
    if cluster.insecure_skip_tls_verify {
        return refuse("insecure-skip-tls-verify", "name the server's CA in certificate-authority instead");
    }
    if cluster.proxy_url.as_deref().is_some_and(|p| !p.is_empty()) {
        return refuse("proxy-url", "");
    }
    if user.exec.is_some() {
        return refuse("exec", "use token, tokenFile or a client certificate");
    }
    if user.auth_provider.is_some() {
        return refuse("auth-provider", "use token, tokenFile or a client certificate");
    }
    if user.username.as_deref().is_some_and(|u| !u.is_empty()) {
        return refuse("username", "use token, tokenFile or a client certificate");
    }
    Ok(())
}

/// Inline data wins over a file, as in kubectl.
fn blob(
    directory: &Path,
    data: Option<&str>,
    path: Option<&Path>,
    data_field: &'static str,
    path_field: &'static str,
) -> Result<Option<Vec<u8>>, KubeconfigError> {
    if let Some(data) = data.filter(|d| !d.is_empty()) {
        let joined: String = data.split_ascii_whitespace().collect();
        let bytes = STANDARD.decode(joined);
        return bytes.map(Some).map_err(|source| KubeconfigError::Base64 { field: data_field, source });
    }
    let Some(path) = path.filter(|p| !p.as_os_str().is_empty()) else { return Ok(None) };
    let path = directory.join(path);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) => Err(KubeconfigError::File { field: path_field, path, source }),
    }
}
