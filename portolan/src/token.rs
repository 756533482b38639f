//! `portolan token`: tokens are made here, and the server never learns a secret before somebody shows it.
//!
//! On stdout stands what is to be pasted or piped and nothing else; what is to be said besides goes to stderr.

mod list;
mod url;

use std::time::Duration;

use jiff::Timestamp;
use proxy_agent::client::authority::CaHash;
use proxy_agent::client::{Client, ClientError};
use proxy_agent::join::{Role, Secret};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::{CreateToken, Output, Print, TokenArgs, TokenCommand};
use crate::server::kubeconfig;
use crate::{Failure, output, remote};

const TOKENS: &str = "/apis/portolan.dev/v1alpha1/tokens";

const JOIN_TTL: Duration = Duration::from_secs(3600);
const ACCESS_TTL: Duration = Duration::from_secs(24 * 3600);
/// Ten years: beyond that the clock of somebody is wrong.
const TTL_LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Runs the command.
pub fn run(args: TokenArgs) -> Result<(), Failure> {
    let client = remote::client(args.kubeconfig)?;
    match args.command {
        TokenCommand::Create(create) => remote::block_on(self::create(&client, create)),
        TokenCommand::List { output } => {
            let tokens = remote::block_on(async {
                list::tokens(&client, Timestamp::now()).await.map_err(|e| Failure::new("listing the tokens", &e))
            })?;
            output::print(output, &list::Table(&tokens), &tokens)
        }
        TokenCommand::Revoke { ids } => remote::block_on(revoke(&client, &ids)),
    }
}

/// A token that was made, with what others need to use it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    id: String,
    token: String,
    purpose: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    server: String,
    ca_hash: String,
    /// What to run on a machine that is to join.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(skip)]
    ca_pem: String,
}

async fn create(client: &Client, args: CreateToken) -> Result<(), Failure> {
    let expires_at = expiry(&args, Timestamp::now())?;
    let joins = args.joins();
    let print = args.print.unwrap_or(if joins.is_some() { Print::Command } else { Print::Token });
    match (print, joins.is_some()) {
        (Print::Kubeconfig, true) => {
            return Err(Failure::text("--print kubeconfig is for a --user: a machine gets credentials of its own"));
        }
        (Print::Command, false) => {
            return Err(Failure::text(
                "--print command is for --node-join and --edge-join: there is nothing to run for a user",
            ));
        }
        _ => {}
    }
    let ca_pem = client.ca_pem().map(|pem| String::from_utf8_lossy(pem).into_owned());
    let ca_hash = ca_pem.as_deref().and_then(|pem| CaHash::of_pem(pem.as_bytes()));
    let (Some(ca_pem), Some(ca_hash)) = (ca_pem, ca_hash) else {
        let url = client.server_url();
        return Err(Failure::text(format!("{url} has no certificate authority; use the server's admin.kubeconfig")));
    };
    let server = url::for_others(client, args.server.as_deref()).await?;
    let secret = Secret::new().map_err(|_| Failure::text("the system has no random numbers to give"))?;
    let expires_at = expires_at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let object = object(&args, &secret, expires_at.as_deref());
    client.post(TOKENS, &object).await.map_err(|e| Failure::new("making the token", &e))?;
    let token = secret.token();
    let made = Made {
        command: joins.map(|role| {
            let program = match role {
                Role::Node => "agent",
                Role::Edge => "edge",
            };
            format!("portolan {program} --server {server} --token {token} --ca-hash {ca_hash}")
        }),
        id: secret.id.clone(),
        token,
        purpose: args.purpose(),
        user: args.user,
        groups: args.group,
        expires_at,
        server,
        ca_hash: ca_hash.to_string(),
        ca_pem,
    };
    eprint!("{}", made.remarks());
    output::print(args.output, &made.shown(print)?, &made)
}

/// When the token ends; `None`: never.
fn expiry(args: &CreateToken, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    let ttl = args.ttl.unwrap_or(if args.joins().is_some() { JOIN_TTL } else { ACCESS_TTL });
    if ttl.is_zero() {
        if args.joins().is_some() {
            return Err(Failure::text("a token for machines has an end: give --ttl a time, as 1h"));
        }
        return Ok(None);
    }
    if ttl > TTL_LONGEST {
        return Err(Failure::text("--ttl is at most ten years (87600h)"));
    }
    let at = now.checked_add(ttl.max(Duration::from_secs(1)));
    at.map(Some).map_err(|e| Failure::new("counting from now", &e))
}

fn object(args: &CreateToken, secret: &Secret, expires_at: Option<&str>) -> Value {
    let mut spec = json!({"purpose": args.purpose(), "hash": secret.hash()});
    let mut put = |field: &str, value: Value| spec[field] = value;
    if let Some(at) = expires_at {
        put("expiresAt", at.into());
    }
    if let Some(user) = &args.user {
        put("user", user.as_str().into());
    }
    if !args.group.is_empty() {
        put("groups", args.group.clone().into());
    }
    if !args.description.is_empty() {
        put("description", args.description.as_str().into());
    }
    json!({"apiVersion": "portolan.dev/v1alpha1", "kind": "Token", "metadata": {"name": secret.id}, "spec": spec})
}

impl Made {
    /// What goes to stderr.
    fn remarks(&self) -> String {
        let until = self.expires_at.as_ref().map_or("until it is revoked".to_owned(), |at| format!("until {at}"));
        let id = &self.id;
        match &self.user {
            None => format!(
                "Run this as root on each machine that is to join. The token holds {until}; to end it before: portolan token \
                 revoke {id}\n"
            ),
            Some(user) => format!(
                "The token of {user} holds {until}, and is shown this once; to end it before: portolan token revoke {id}. \
                 What {user} may do, RoleBindings and ClusterRoleBindings say.\n"
            ),
        }
    }

    /// What goes to stdout where no data is asked for.
    fn shown(&self, print: Print) -> Result<String, Failure> {
        Ok(match print {
            Print::Command => self.command.clone().unwrap_or_default() + "\n",
            Print::Token => format!("{}\n", self.token),
            Print::Kubeconfig => {
                let user = self.user.as_deref().unwrap_or_default();
                let config = kubeconfig::of(&self.server, &self.ca_pem, user, &self.token);
                serde_saphyr::to_string(&config).map_err(|e| Failure::new("writing the kubeconfig", &e))?
            }
        })
    }
}

async fn revoke(client: &Client, ids: &[String]) -> Result<(), Failure> {
    for id in ids {
        // Somebody may paste the whole token.
        let id = id.split_once('.').map_or(id.as_str(), |(id, _)| id);
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(Failure::text(format!("{id:?} is no token's id; `portolan token list` shows them")));
        }
        match client.delete(&format!("{TOKENS}/{id}"), None).await {
            Ok(_) => output::print(Output::Table, &format!("token {id} is revoked\n"), &())?,
            Err(error) if ClientError::is_not_found(&error) => {
                return Err(Failure::text(format!(
                    "there is no token {id}; `portolan token list` shows those that are"
                )));
            }
            Err(error) => return Err(Failure::new(format!("revoking token {id}"), &error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(arguments: &[&str]) -> Result<CreateToken, String> {
        let line = ["portolan", "token", "create"].iter().chain(arguments);
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::Token(TokenArgs { command: TokenCommand::Create(create), .. }) => Ok(create),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_token_is_for_machines_or_for_a_user() {
        let now: Timestamp = "2024-05-06T07:08:09.9Z".parse().unwrap();
        let join = args(&["--node-join"]).unwrap();
        assert_eq!(expiry(&join, now).unwrap().unwrap().to_string(), "2024-05-06T08:08:09.9Z");
        let secret = Secret::new().unwrap();
        let hash = secret.hash();
        let expected = json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "Token", "metadata": {"name": secret.id},
            "spec": {"purpose": "NodeJoin", "hash": hash, "expiresAt": "x"},
        });
        assert_eq!(object(&join, &secret, Some("x")), expected);
        let edge = args(&["--edge-join"]).unwrap();
        assert_eq!(object(&edge, &secret, Some("x"))["spec"]["purpose"], "EdgeJoin");
        let access =
            args(&["--user=alice", "--group=devs", "--group=ops", "--ttl=0", "--description=her laptop"]).unwrap();
        assert_eq!(expiry(&access, now).unwrap(), None);
        let spec = json!({
            "purpose": "Access", "hash": hash, "user": "alice", "groups": ["devs", "ops"], "description": "her laptop",
        });
        assert_eq!(object(&access, &secret, None)["spec"], spec);
        for arguments in [
            &[][..],
            &["--node-join", "--user=a"],
            &["--node-join", "--group=a"],
            &["--edge-join", "--group=a"],
            &["--node-join", "--edge-join"],
            &["--user=a", "--ttl=x"],
        ] {
            assert!(args(arguments).is_err(), "{arguments:?}");
        }
        for (arguments, hint) in
            [(&["--node-join", "--ttl=0"][..], "has an end"), (&["--user=a", "--ttl=99999h"], "ten years")]
        {
            let error = expiry(&args(arguments).unwrap(), now).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn what_is_printed_is_one_line() {
        let line = "portolan agent --server https://192.0.2.1:6443 --token a.b --ca-hash sha256:00";
        let made = Made {
            id: "a".into(),
            token: "a.b".into(),
            purpose: "NodeJoin",
            user: None,
            groups: Vec::new(),
            expires_at: Some("2024-05-06T08:08:09Z".into()),
            server: "https://192.0.2.1:6443".into(),
            ca_hash: "sha256:00".into(),
            command: Some(line.into()),
            ca_pem: String::new(),
        };
        assert_eq!(made.shown(Print::Command).unwrap(), format!("{line}\n"));
        assert_eq!(made.shown(Print::Token).unwrap(), "a.b\n");
        assert!(made.remarks().contains("until 2024-05-06T08:08:09Z") && !made.remarks().contains("a.b"));
        let data = serde_json::to_value(&made).unwrap();
        assert_eq!((&data["command"], &data["expiresAt"]), (&json!(line), &json!("2024-05-06T08:08:09Z")));
    }
}
