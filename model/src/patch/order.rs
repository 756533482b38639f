//! The order of a merged list.

use std::collections::HashMap;

use serde_json::Value;

/// Puts the items of a merged list in order. `keys` are theirs, item by item; `wanted` is the order that the
/// patch gives, `server` the order before the patch.
///
/// Items that the patch names stand in the patch's order. Items that it does not name keep their places among
/// each other, and stand before an item of the patch if they stood before it on the server.
pub(super) fn arrange(items: Vec<(String, Value)>, wanted: &[String], server: &[String]) -> Vec<Value> {
    let wanted = positions(wanted);
    let server = positions(server);
    let (mut named, unnamed): (Vec<_>, Vec<_>) = items.into_iter().partition(|(key, _)| wanted.contains_key(key));
    named.sort_by_key(|(key, _)| wanted.get(key).copied());
    let mut arranged = Vec::with_capacity(named.len() + unnamed.len());
    let mut unnamed = unnamed.into_iter().peekable();
    for (key, item) in named {
        let place = server.get(&key);
        // An item that the server did not know comes first, as upstream has it.
        while let Some((_, before)) = unnamed
            .next_if(|(other, _)| matches!((server.get(other), place), (Some(other), Some(place)) if other < place))
        {
            arranged.push(before);
        }
        arranged.push(item);
    }
    arranged.extend(unnamed.map(|(_, item)| item));
    arranged
}

/// Where each key stands first.
fn positions(keys: &[String]) -> HashMap<String, usize> {
    let mut positions = HashMap::with_capacity(keys.len());
    for (at, key) in keys.iter().enumerate() {
        positions.entry(key.clone()).or_insert(at);
    }
    positions
}
