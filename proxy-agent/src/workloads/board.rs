//! Which mirror Pods are to be there, from everybody who wants some. Pure.
//!
//! A name has one holder. Who has it keeps it until it is given back; what another file wants under that name is told
//! and left, and a registration of it is refused. A file that has become unreadable keeps what it had, also after a
//! restart of the agent ([`Board::keeps`]): a slip of the pen takes nothing out of service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::manifest::{Origin, PodName, Wanted};

/// Mirror Pods of one node at most.
pub const MAX_PODS: usize = 512;

/// What a folder holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scan {
    /// By name: the Pods of each file, or what is wrong with it.
    pub files: BTreeMap<String, Result<Vec<Arc<Wanted>>, String>>,
}

/// Who wants a Pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    File(String),
    /// By its number.
    Session(u64),
}

/// Something that somebody must be told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    pub file: String,
    pub message: String,
}

/// Everybody's wishes.
#[derive(Debug, Default)]
pub struct Board {
    /// As they were when they were good last.
    files: BTreeMap<String, Vec<Arc<Wanted>>>,
    /// Those that cannot be read as they are now.
    bad: BTreeMap<String, String>,
    sessions: BTreeMap<u64, Vec<Arc<Wanted>>>,
    held: BTreeMap<PodName, (Holder, Arc<Wanted>)>,
    /// What has been told, and is still so.
    told: BTreeSet<Complaint>,
}

impl Board {
    /// The folder holds this now. What is wrong and was not before is given back.
    pub fn scanned(&mut self, scan: Scan) -> Vec<Complaint> {
        self.files.retain(|name, _| scan.files.contains_key(name));
        self.bad.clear();
        for (name, content) in scan.files {
            match content {
                Ok(pods) => {
                    self.files.insert(name, pods);
                }
                Err(message) => {
                    self.bad.insert(name, message);
                }
            }
        }
        self.settle()
    }

    /// Whether these Pods can be registered.
    ///
    /// # Errors
    /// Why not, for whoever asks.
    pub fn check(&self, session: u64, pods: &[Arc<Wanted>]) -> Result<(), String> {
        let new = pods.iter().filter(|pod| !self.held.contains_key(&pod.name)).count();
        if self.held.len() + new > MAX_PODS {
            return Err(format!("there are {} Pods on this node already, and {MAX_PODS} can be", self.held.len()));
        }
        for pod in pods {
            match self.held.get(&pod.name) {
                Some((Holder::File(file), _)) => {
                    return Err(format!("the Pod {} is that of the file {file}", pod.name));
                }
                Some((Holder::Session(other), _)) if *other != session => {
                    return Err(format!("the Pod {} is registered by another process", pod.name));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A session wants these Pods, after [`Board::check`].
    pub fn registered(&mut self, session: u64, pods: Vec<Arc<Wanted>>) -> Vec<Complaint> {
        self.sessions.insert(session, pods);
        self.settle()
    }

    /// A session wants none any more. A file may have waited for one of their names.
    pub fn released(&mut self, session: u64) -> Vec<Complaint> {
        self.sessions.remove(&session);
        self.settle()
    }

    /// What is to be there, by name.
    pub fn held(&self) -> &BTreeMap<PodName, (Holder, Arc<Wanted>)> {
        &self.held
    }

    /// Whether a mirror Pod that nobody asks for stays: it is of a file that cannot be read now, and nothing was read
    /// of it since this agent began.
    pub fn keeps(&self, origin: &Origin) -> bool {
        match origin {
            Origin::File(file) => self.bad.contains_key(file) && !self.files.contains_key(file),
            Origin::Socket => false,
        }
    }

    fn settle(&mut self) -> Vec<Complaint> {
        let files = self.files.iter().map(|(name, pods)| (Holder::File(name.clone()), pods));
        let sessions = self.sessions.iter().map(|(number, pods)| (Holder::Session(*number), pods));
        let mut claims: BTreeMap<PodName, Vec<(Holder, Arc<Wanted>)>> = BTreeMap::new();
        for (holder, pods) in files.chain(sessions) {
            for pod in pods {
                claims.entry(pod.name.clone()).or_default().push((holder.clone(), Arc::clone(pod)));
            }
        }
        let bad = self.bad.iter().map(|(file, message)| Complaint { file: file.clone(), message: message.clone() });
        let mut now: BTreeSet<Complaint> = bad.collect();
        let before = std::mem::take(&mut self.held);
        // Who has a name comes before who wants one, or the bound would put somebody out.
        let (known, new): (Vec<_>, Vec<_>) = claims.into_iter().partition(|(name, _)| before.contains_key(name));
        for (name, claims) in known.into_iter().chain(new) {
            let holder = before.get(&name).map(|(holder, _)| holder);
            let chosen = claims.iter().position(|(by, _)| Some(by) == holder).unwrap_or(0);
            let full = self.held.len() >= MAX_PODS && !before.contains_key(&name);
            let of = claims.get(chosen).map(|(by, _)| by.clone());
            for (index, (by, pod)) in claims.into_iter().enumerate() {
                if index == chosen && !full {
                    self.held.insert(name.clone(), (by, pod));
                } else if let Holder::File(file) = by {
                    let message = match &of {
                        _ if full => format!("the Pod {name} is one too many: {MAX_PODS} can be on a node"),
                        Some(Holder::File(other)) => format!("the Pod {name} is that of the file {other}"),
                        _ => format!("the Pod {name} is registered by a process"),
                    };
                    now.insert(Complaint { file, message });
                }
            }
        }
        let news = now.difference(&self.told).cloned().collect();
        self.told = now;
        news
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::manifest;
    use super::*;

    fn pod(name: &str, label: &str, origin: &Origin) -> Arc<Wanted> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"v": label}},
            "spec": {"containers": [{"name": "a"}]},
        });
        Arc::new(manifest::wanted(&pod, "vm", origin).unwrap())
    }

    fn scan(files: &[(&str, Result<&[&str], &str>)]) -> Scan {
        let read = |(file, pods): &(&str, Result<&[&str], &str>)| {
            let origin = Origin::File((*file).to_owned());
            let pods = pods.map(|pods| pods.iter().map(|name| pod(name, file, &origin)).collect());
            ((*file).to_owned(), pods.map_err(str::to_owned))
        };
        Scan { files: files.iter().map(read).collect() }
    }

    fn held(board: &Board) -> String {
        let line = |(name, (by, _)): (&PodName, &(Holder, Arc<Wanted>))| match by {
            Holder::File(file) => format!("{} {file}", name.name),
            Holder::Session(number) => format!("{} #{number}", name.name),
        };
        board.held().iter().map(line).collect::<Vec<_>>().join(", ")
    }

    fn said(complaints: &[Complaint]) -> Vec<String> {
        complaints.iter().map(|c| format!("{}: {}", c.file, c.message)).collect()
    }

    #[test]
    fn a_name_stays_with_who_has_it() {
        let mut board = Board::default();
        assert!(board.scanned(scan(&[("b", Ok(&["web"]))])).is_empty());
        let told = board.scanned(scan(&[("a", Ok(&["web", "api"])), ("b", Ok(&["web"]))]));
        assert_eq!(said(&told), ["a: the Pod default/web-vm is that of the file b"]);
        assert_eq!(held(&board), "api-vm a, web-vm b");
        assert!(board.scanned(scan(&[("a", Ok(&["web", "api"])), ("b", Ok(&["web"]))])).is_empty(), "told once");
        assert!(board.scanned(scan(&[("a", Ok(&["web", "api"]))])).is_empty());
        assert_eq!(held(&board), "api-vm a, web-vm a");
    }

    #[test]
    fn a_bad_file_keeps_what_it_had() {
        let mut board = Board::default();
        board.scanned(scan(&[("a", Ok(&["web"]))]));
        let told = board.scanned(scan(&[("a", Err("line 3")), ("new", Err("line 1"))]));
        assert_eq!(said(&told), ["a: line 3", "new: line 1"]);
        assert_eq!(held(&board), "web-vm a");
        assert!(!board.keeps(&Origin::File("a".into())), "it is known what it had");
        assert!(board.keeps(&Origin::File("new".into())));
        assert!(!board.keeps(&Origin::File("gone".into())) && !board.keeps(&Origin::Socket));
        assert_eq!(said(&board.scanned(scan(&[("a", Err("line 4"))]))), ["a: line 4"]);
        board.scanned(scan(&[]));
        assert_eq!(held(&board), "");
    }

    #[test]
    fn processes_and_files_do_not_take_each_others() {
        let mut board = Board::default();
        board.scanned(scan(&[("a", Ok(&["web"]))]));
        let wanted = |name: &str| vec![pod(name, "", &Origin::Socket)];
        assert_eq!(board.check(1, &wanted("web")), Err("the Pod default/web-vm is that of the file a".into()));
        assert_eq!(board.check(1, &wanted("api")), Ok(()));
        assert!(board.registered(1, wanted("api")).is_empty());
        assert_eq!(board.check(1, &wanted("api")), Ok(()), "it may say so again");
        assert_eq!(
            board.check(2, &wanted("api")),
            Err("the Pod default/api-vm is registered by another process".into())
        );
        let told = board.scanned(scan(&[("a", Ok(&["web"])), ("b", Ok(&["api"]))]));
        assert_eq!(said(&told), ["b: the Pod default/api-vm is registered by a process"]);
        assert_eq!(held(&board), "api-vm #1, web-vm a");
        board.released(1);
        assert_eq!(held(&board), "api-vm b, web-vm a");
    }

    #[test]
    fn there_is_a_bound() {
        let names: Vec<String> = (0..MAX_PODS + 1).map(|n| format!("p{n:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut board = Board::default();
        let told = board.scanned(scan(&[("a", Ok(&names))]));
        assert_eq!(said(&told), ["a: the Pod default/p0512-vm is one too many: 512 can be on a node"]);
        assert_eq!(board.held().len(), MAX_PODS);
        assert!(board.check(1, &[pod("x", "", &Origin::Socket)]).is_err());
    }
}
