//! Acting as somebody else: `kubectl --as`, by whoever has the verb `impersonate` on them (apiserver
//! `pkg/endpoints/filters/impersonation.go`). A server that passed over these headers would do with all of an administrator's
//! rights what was meant to be tried with a guest's.

use std::collections::BTreeMap;

use access::{Attributes, Item, User, user};
use http::HeaderMap;

use crate::query;
use crate::status::Status;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Headers of this kind that one request may have.
const MOST: usize = 64;

/// Whom a request wants to be taken for; None where it says nothing of that. `may` tells whether the one who sends it may do
/// something.
///
/// # Errors
/// 400 for headers that name nobody, and whatever `may` answers.
pub fn impersonated(
    headers: &HeaderMap,
    may: impl Fn(&Attributes<'_>) -> Result<(), Status>,
) -> Result<Option<User>, Status> {
    let wanted: Vec<(&str, &str)> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("impersonate-"))
        .map(|(name, value)| Ok((name.as_str(), value.to_str().map_err(|_| not_readable(name.as_str()))?)))
        .collect::<Result<_, Status>>()?;
    if wanted.is_empty() {
        return Ok(None);
    }
    if wanted.len() > MOST {
        return Err(Status::bad_request(format!("at most {MOST} headers of impersonation are taken")));
    }
    let of = |header: &'static str| wanted.iter().filter(move |(name, _)| *name == header).map(|(_, value)| *value);
    let name = of(USER).next().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Status::bad_request("Impersonate-User must name who is to be impersonated"))?;
    let ask = |item: Item<'_>| may(&Attributes::resource("impersonate", item));

    let account = user::split_service_account_name(name);
    match account {
        Some((namespace, name)) => ask(Item { resource: "serviceaccounts", namespace, name, ..Item::default() })?,
        None => ask(Item { resource: "users", name, ..Item::default() })?,
    }
    let mut groups = Vec::new();
    for group in of(GROUP) {
        ask(Item { resource: "groups", name: group, ..Item::default() })?;
        groups.push(group.to_owned());
    }
    let authentication = Item { group: "authentication.k8s.io", ..Item::default() };
    let uid = of(UID).next().unwrap_or("");
    if !uid.is_empty() {
        ask(Item { resource: "uids", name: uid, ..authentication })?;
    }
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in &wanted {
        let Some(key) = header.strip_prefix(EXTRA) else { continue };
        let key = query::decode(key);
        ask(Item { resource: "userextras", subresource: &key, name: value, ..authentication })?;
        extra.entry(key).or_default().push((*value).to_owned());
    }

    if let Some((namespace, _)) = account.filter(|_| groups.is_empty()) {
        groups.extend(user::service_account_groups(namespace));
    }
    let mut user = match name {
        user::ANONYMOUS => User { groups: vec![user::UNAUTHENTICATED.to_owned()], ..User::anonymous() },
        name => User::named(name, groups),
    };
    user.uid = uid.to_owned();
    user.extra = extra;
    Ok(Some(user))
}

fn not_readable(name: &str) -> Status {
    Status::bad_request(format!("the header {name} cannot be read"))
}
