//! From where a watch may go on after a break, and what must be shown for that.
//!
//! The server that answers again may have been given an older copy of its database, and its revisions may have overtaken
//! the position since: then there is nothing at the position that tells. So a watch goes on only from a place that is
//! proven to lie in the server's own past:
//!
//! - this node's Lease, which its keeper writes every ten seconds, is there at least as new as the server confirmed it: then
//!   everything up to that revision is shared. Whatever lies between it and the position were other resources' changes;
//!   they are passed once more, at no cost;
//! - or the newest object that was seen, if that is newer than the Lease, is there exactly as it was.
//!
//! Neither: list. So does a server that writes objects in another shape than the one before it did. A watch that follows its own
//! list needs no proof.

use bytes::Bytes;
use model::{Key, Resource, Revision};
use serde_json::Value;

use super::collection;
use crate::client::{Client, ClientError};
use crate::lineage::{Another, Confirmed, Epoch, Lineage, version};

/// The newest thing that was seen of a resource since it was listed, the list included.
#[derive(Clone, Debug)]
pub struct Newest {
    pub revision: Revision,
    /// `None` when there is no object to ask for: it was a list or a deletion.
    pub object: Option<(Key, Bytes)>,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Ground {
    Watch { from: Revision, proof: Proof },
    List,
}

/// What the server must show before anything of a watch counts.
#[derive(Debug, PartialEq, Eq)]
pub enum Proof {
    None,
    Lease(Confirmed),
    Object { path: String, revision: Revision, bytes: Bytes },
}

/// `position`: everything up to there was seen. `newest`: `None` straight after a list.
pub fn choose(resource: Resource, position: Revision, newest: Option<&Newest>, confirmed: Option<Confirmed>) -> Ground {
    match (newest, confirmed) {
        (None, _) => Ground::Watch { from: position, proof: Proof::None },
        (Some(newest), Some(lease)) if newest.revision <= lease.revision => {
            Ground::Watch { from: position.min(lease.revision), proof: Proof::Lease(lease) }
        }
        (Some(Newest { revision, object: Some((key, bytes)) }), _) => {
            let proof = Proof::Object { path: path(resource, key), revision: *revision, bytes: bytes.clone() };
            Ground::Watch { from: *revision, proof }
        }
        (Some(_), _) => Ground::List,
    }
}

/// Asks for the proof. Where the server has evidently gone back in time, the epoch ends.
///
/// # Errors
/// When there is no answer.
pub async fn prove(
    client: &Client,
    lineage: &Lineage,
    epoch: Epoch,
    proof: &Proof,
) -> Result<Result<(), Another>, ClientError> {
    let path = match proof {
        Proof::None => return Ok(Ok(())),
        Proof::Lease(lease) => &lease.path,
        Proof::Object { path, .. } => path,
    };
    let found = match client.get(path).await {
        Ok(found) => found,
        // It may have been deleted rightly: only a list can tell.
        Err(error) if error.code().is_some_and(|code| code == 403 || code == 404) => return Ok(Err(Another)),
        Err(error) => return Err(error),
    };
    Ok(match proof {
        Proof::None => Ok(()),
        Proof::Lease(lease) => lineage.has(epoch, lease, &found),
        Proof::Object { revision, bytes, .. } => {
            if version(&found).is_some_and(|(_, found)| found < *revision) {
                lineage.end(epoch, &format!("{path} is older than revision {revision}, which was seen"));
            }
            let seen = serde_json::from_slice::<Value>(bytes);
            if seen.is_ok_and(|seen| seen == found) { Ok(()) } else { Err(Another) }
        }
    })
}

fn path(resource: Resource, key: &Key) -> String {
    let collection = collection(resource);
    let Some((root, plural)) = collection.rsplit_once('/').filter(|_| !key.namespace.is_empty()) else {
        return format!("{collection}/{}", key.name);
    };
    format!("{root}/namespaces/{}/{plural}/{}", key.namespace, key.name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Fake, Reply};

    fn lease(revision: Revision) -> Confirmed {
        Confirmed { path: "/lease".into(), uid: "l-1".into(), revision }
    }

    fn object(revision: Revision) -> Value {
        json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": revision.to_string()}})
    }

    fn newest(revision: Revision) -> Newest {
        Newest { revision, object: Some((Key::new("shop", "web"), object(revision).to_string().into())) }
    }

    fn from(ground: &Ground) -> Option<(Revision, &Proof)> {
        match ground {
            Ground::Watch { from, proof } => Some((*from, proof)),
            Ground::List => None,
        }
    }

    #[test]
    fn a_watch_goes_on_from_what_can_be_proven() {
        let choose = |newest: Option<&Newest>, lease: Option<Confirmed>| choose(Resource::Services, 100, newest, lease);
        assert_eq!(from(&choose(None, None)), Some((100, &Proof::None)));
        let quiet = choose(Some(&newest(50)), Some(lease(90)));
        assert_eq!(from(&quiet), Some((90, &Proof::Lease(lease(90)))), "bookmarks after the Lease are given up");
        let behind = choose(Some(&newest(50)), Some(lease(120)));
        assert_eq!(from(&behind), Some((100, &Proof::Lease(lease(120)))), "but nothing is left out");
        for confirmed in [None, Some(lease(94))] {
            let busy = choose(Some(&newest(95)), confirmed);
            let Some((95, Proof::Object { path, revision: 95, .. })) = from(&busy) else { panic!("{busy:?}") };
            assert_eq!(path, "/api/v1/namespaces/shop/services/web");
        }
        let deleted = Newest { revision: 95, object: None };
        assert_eq!(choose(Some(&deleted), Some(lease(94))), Ground::List);
        assert!(from(&choose(Some(&deleted), Some(lease(95)))).is_some());
        assert_eq!(path(Resource::Nodes, &Key::new("", "node-1")), "/api/v1/nodes/node-1");
    }

    #[tokio::test]
    async fn the_server_must_show_it() {
        let lease_at = |revision: u64| {
            Reply::json(200, &json!({"metadata": {"uid": "l-1", "resourceVersion": revision.to_string()}}))
        };
        let mut later = object(95);
        later["metadata"]["labels"] = json!({"a": "b"});
        let fake = Fake::bare(vec![
            lease_at(90),
            lease_at(97),
            Reply::status(404, "NotFound", "no"),
            Reply::status(500, "InternalError", "no"),
            Reply::json(200, &object(95)),
            Reply::json(200, &object(96)),
            Reply::json(200, &later),
            Reply::json(200, &object(94)),
            lease_at(89),
        ])
        .await;
        let client = Client::new(&fake.url(), None, None).unwrap();
        let lineage = Lineage::default();
        let by_lease = Proof::Lease(lease(90));
        let Ground::Watch { proof: by_object, .. } = choose(Resource::Services, 100, Some(&newest(95)), None) else {
            panic!()
        };
        assert!(prove(&client, &lineage, 0, &by_lease).await.unwrap().is_ok());
        assert!(prove(&client, &lineage, 0, &by_lease).await.unwrap().is_ok());
        assert!(prove(&client, &lineage, 0, &by_lease).await.unwrap().is_err(), "deleted, perhaps");
        assert!(prove(&client, &lineage, 0, &by_lease).await.is_err(), "no answer");
        assert!(prove(&client, &lineage, 0, &by_object).await.unwrap().is_ok());
        assert!(prove(&client, &lineage, 0, &by_object).await.unwrap().is_err(), "changed since, perhaps");
        assert!(prove(&client, &lineage, 0, &by_object).await.unwrap().is_err(), "another one at the same revision");
        assert_eq!(lineage.epoch(), 0);
        assert!(prove(&client, &lineage, 0, &by_object).await.unwrap().is_err());
        assert_eq!(lineage.epoch(), 1, "an older one is evidence");
        assert!(prove(&client, &lineage, 1, &by_lease).await.unwrap().is_err());
        assert_eq!(lineage.epoch(), 2);
    }

    #[tokio::test]
    async fn an_object_is_compared_in_the_shape_in_which_it_came() {
        let slim =
            json!({"metadata": {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "95"}, "endpoints": []});
        let mut whole = slim.clone();
        whole["metadata"]["generation"] = json!(3);
        let fake = Fake::bare(vec![Reply::json(200, &slim), Reply::json(200, &whole)]).await;
        let client = Client::new(&fake.url(), None, None).unwrap().slim();
        let lineage = Lineage::default();
        let proof = Proof::Object { path: "/slice".into(), revision: 95, bytes: slim.to_string().into() };
        assert!(prove(&client, &lineage, 0, &proof).await.unwrap().is_ok());
        assert!(
            prove(&client, &lineage, 0, &proof).await.unwrap().is_err(),
            "by another server: listed, which is safe"
        );
        assert_eq!(lineage.epoch(), 0, "and tells nothing of another database");
    }
}
