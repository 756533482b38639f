//! A small API server's memory for tests: objects, a log, live watches, and faults that strike by chance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{Asked, Fake, Reply};
use crate::lineage::IDENTITY;

/// How many kinds of fault there are.
pub const FAULTS: usize = 14;

/// Every collection behaves as the one of a real server, unless a fault strikes.
#[derive(Default)]
pub struct World {
    pub revision: u64,
    /// By the collection's path, then by namespace and name.
    collections: BTreeMap<String, BTreeMap<String, Value>>,
    log: Vec<Logged>,
    /// Watches from before this get 410.
    pub compacted: u64,
    watchers: Vec<Watcher>,
    /// Whether every second list and every watch goes wrong, each time in another way.
    pub faulty: bool,
    lists: u64,
    watches: u64,
    lines: u64,
    chance: u64,
    pub faults: BTreeMap<&'static str, u32>,
    /// Of the Namespace kube-system.
    uid: String,
}

/// What a server had at some time.
pub struct Backup {
    revision: u64,
    collections: BTreeMap<String, BTreeMap<String, Value>>,
}

struct Logged {
    revision: u64,
    collection: String,
    line: Vec<u8>,
}

struct Watcher {
    collection: String,
    sender: UnboundedSender<Vec<u8>>,
    /// After so many more lines it goes wrong.
    fault_after: Option<u64>,
}

pub type Shared = Arc<Mutex<World>>;

pub async fn serve(world: &Shared) -> Fake {
    let world = Arc::clone(world);
    Fake::start(move |asked| world.lock().unwrap().answer(asked)).await
}

impl World {
    pub fn new(seed: u64) -> Shared {
        Arc::new(Mutex::new(Self { chance: seed | 1, uid: "a".into(), ..Self::default() }))
    }

    /// As a server that comes back with another database: no objects, another uid, no history. Collections stay.
    pub fn become_another(&mut self, uid: &str) {
        self.hang_up();
        uid.clone_into(&mut self.uid);
        self.collections.values_mut().for_each(BTreeMap::clear);
        self.log.clear();
    }

    /// As a server that comes back with what it had at some time before.
    pub fn restore(&mut self, backup: &Backup) {
        self.hang_up();
        self.collections.clone_from(&backup.collections);
        self.revision = backup.revision;
        self.log.retain(|logged| logged.revision <= backup.revision);
    }

    pub fn backup(&self) -> Backup {
        Backup { revision: self.revision, collections: self.collections.clone() }
    }

    pub fn set(&mut self, collection: &str, key: &str, mut object: Value) -> u64 {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let name = key.rsplit('/').next().unwrap();
        object["metadata"]["name"] = json!(name);
        if let Some((namespace, _)) = key.split_once('/') {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let old = self.collections.entry(collection.into()).or_default().insert(key.into(), object.clone());
        self.publish(collection, if old.is_some() { "MODIFIED" } else { "ADDED" }, &object);
        self.revision
    }

    pub fn delete(&mut self, collection: &str, key: &str) {
        let Some(mut object) = self.collections.entry(collection.into()).or_default().remove(key) else { return };
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.publish(collection, "DELETED", &object);
    }

    pub fn objects(&self, collection: &str) -> BTreeMap<String, Value> {
        self.collections.get(collection).cloned().unwrap_or_default()
    }

    /// Ends every watch, as a server that restarts does.
    pub fn hang_up(&mut self) {
        for watcher in self.watchers.drain(..) {
            let _ = watcher.sender.send(Vec::new());
        }
    }

    /// A number below `limit`.
    pub fn random(&mut self, limit: u64) -> u64 {
        // xorshift64
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % limit
    }

    fn publish(&mut self, collection: &str, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object})).into_bytes();
        self.log.push(Logged { revision: self.revision, collection: collection.into(), line: line.clone() });
        let mut watchers = std::mem::take(&mut self.watchers);
        watchers.retain_mut(|watcher| watcher.collection != collection || self.deliver(watcher, &line));
        self.watchers = watchers;
    }

    /// Whether the watch goes on.
    fn deliver(&mut self, watcher: &mut Watcher, line: &[u8]) -> bool {
        match &mut watcher.fault_after {
            Some(0) => {
                let (name, parts): (_, Vec<Vec<u8>>) = match next(&mut self.lines) % 7 {
                    0 => ("cut line, connection closed", vec![line[..line.len() / 2].to_vec(), Vec::new()]),
                    1 => ("cut line, proper end", vec![line[..line.len() / 2].to_vec()]),
                    2 => ("garbage", vec![b"<html>oops</html>\n".to_vec()]),
                    3 => ("not an object", vec![b"{\"type\":\"ADDED\",\"object\":[1,2\n".to_vec()]),
                    4 => ("error expired", vec![error_line(410, "Expired")]),
                    5 => ("error internal", vec![error_line(500, "InternalError")]),
                    _ => ("endless line", std::iter::repeat_n(vec![b'x'; 1 << 20], 9).collect()),
                };
                *self.faults.entry(name).or_default() += 1;
                for part in parts {
                    let _ = watcher.sender.send(part);
                }
                return false;
            }
            Some(lines) => *lines -= 1,
            None => {}
        }
        watcher.sender.send(line.to_vec()).is_ok()
    }

    pub fn answer(&mut self, asked: &Asked) -> Reply {
        let path = asked.target.split('?').next().unwrap().to_owned();
        match (asked.method.as_str(), asked.is_watch()) {
            ("GET", false) if path == IDENTITY => Reply::json(200, &json!({"metadata": {"uid": self.uid}})),
            ("GET", true) => self.watch(asked, path),
            ("GET", false) if self.collections.contains_key(&path) => self.list(&path),
            ("GET", false) => match self.object(&path) {
                Some(object) => Reply::json(200, object),
                None => Reply::status(404, "NotFound", "not found"),
            },
            // Leases: nobody reads them here.
            _ => Reply::json(201, &asked.json()),
        }
    }

    fn object(&self, path: &str) -> Option<&Value> {
        let (collection, name) = path.rsplit_once('/')?;
        match collection.split_once("/namespaces/") {
            Some((root, rest)) => {
                let (namespace, plural) = rest.split_once('/')?;
                self.collections.get(&format!("{root}/{plural}"))?.get(&format!("{namespace}/{name}"))
            }
            None => self.collections.get(collection)?.get(name),
        }
    }

    fn list(&mut self, path: &str) -> Reply {
        let items: Vec<Value> = self.objects(path).into_values().collect();
        let list = json!({"kind": "List", "metadata": {"resourceVersion": self.revision.to_string()}, "items": items});
        let list = list.to_string().into_bytes();
        let turn = next(&mut self.lists);
        if !self.faulty || turn % 2 == 1 {
            return Reply::Whole(200, list);
        }
        let half = list[..list.len() / 2].to_vec();
        let (name, reply) = match turn / 2 % 5 {
            0 => ("list: 500", Reply::status(500, "InternalError", "no")),
            1 => ("list: cut, connection closed", Reply::Cut(vec![half])),
            2 => ("list: cut, proper end", Reply::Chunks(vec![half])),
            3 => ("list: garbage", Reply::Whole(200, b"<html></html>".to_vec())),
            _ => ("list: nothing", Reply::Nothing),
        };
        *self.faults.entry(name).or_default() += 1;
        reply
    }

    fn watch(&mut self, asked: &Asked, collection: String) -> Reply {
        let from: u64 = asked.query("resourceVersion").unwrap().parse().unwrap();
        assert_eq!(asked.query("allowWatchBookmarks"), Some("true"));
        if from > self.revision {
            return Reply::status(504, "Timeout", "Too large resource version");
        }
        if from < self.compacted {
            return Reply::status(410, "Expired", "too old resource version");
        }
        let mut fault_after = None;
        if self.faulty {
            match next(&mut self.watches) % 8 {
                3 => {
                    *self.faults.entry("watch: 503").or_default() += 1;
                    return Reply::status(503, "ServiceUnavailable", "starting");
                }
                6 => {
                    *self.faults.entry("watch: closed early").or_default() += 1;
                    return Reply::Chunks(Vec::new());
                }
                _ => fault_after = Some(self.random(6)),
            }
        }
        let (sender, receiver) = unbounded_channel();
        let mut watcher = Watcher { collection, sender, fault_after };
        let missed: Vec<Vec<u8>> = self
            .log
            .iter()
            .filter(|logged| logged.revision > from && logged.collection == watcher.collection)
            .map(|logged| logged.line.clone())
            .collect();
        if missed.iter().all(|line| self.deliver(&mut watcher, line)) {
            self.watchers.push(watcher);
        }
        Reply::Live(receiver)
    }
}

fn next(counter: &mut u64) -> u64 {
    *counter += 1;
    *counter - 1
}

fn error_line(code: u16, reason: &str) -> Vec<u8> {
    let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "no"});
    format!("{}\n", json!({"type": "ERROR", "object": status})).into_bytes()
}
