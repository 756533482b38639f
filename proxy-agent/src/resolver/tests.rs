use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::plan::{Action, DELEGATE, DROP_IN, Entry, Host, Plan, RESOLV_CONF, SAVED};
use super::text::{Author, author};
use super::*;

const FORMER: &str = "# by hand\nsearch example.com\nnameserver 192.0.2.1\noptions timeout:2\n";
const STUB: &str = "nameserver 127.0.0.53\noptions edns0 trust-ad\n";

fn wanted() -> Wanted {
    Wanted {
        servers: vec!["10.96.0.10:53".parse().unwrap(), "[fd00:10:96::a]:53".parse().unwrap()],
        domains: vec!["cluster.local".into(), "96.10.in-addr.arpa".into()],
        search: Vec::new(),
    }
}

fn file(text: &str) -> Entry {
    Entry::File(text.to_owned())
}

/// What follows the two first lines.
fn body(text: &str) -> String {
    text.lines().skip(2).map(|line| format!("{line}\n")).collect()
}

#[test]
fn what_is_written() {
    let delegate = text::delegate(&wanted());
    assert_eq!(
        body(&delegate),
        "[Delegate]\nDNS=10.96.0.10 fd00:10:96::a\nDomains=~cluster.local ~96.10.in-addr.arpa\nDefaultRoute=no\n"
    );
    let mut other = wanted();
    other.servers = vec!["127.0.0.1:5353".parse().unwrap()];
    other.search = vec!["default.svc.cluster.local".into(), "svc.cluster.local".into(), "cluster.local".into()];
    assert_eq!(
        body(&text::drop_in(&other)),
        "[Resolve]\nDNS=127.0.0.1:5353\n\
         Domains=default.svc.cluster.local svc.cluster.local cluster.local ~96.10.in-addr.arpa\n"
    );
    assert_eq!(body(&text::resolv_conf(&wanted(), FORMER)), format!("nameserver 10.96.0.10\n{FORMER}"));
    other.servers = wanted().servers;
    assert_eq!(
        body(&text::resolv_conf(&other, &format!("nameserver 10.96.0.10\n{FORMER}"))),
        "nameserver 10.96.0.10\n# by hand\nnameserver 192.0.2.1\noptions timeout:2\n\
         search default.svc.cluster.local svc.cluster.local cluster.local example.com\n"
    );
    for text in [delegate.clone(), text::resolv_conf(&wanted(), "")] {
        assert_eq!(author(&text), Author::Us);
        assert_eq!(author(&format!("{text}# mine\n")), Author::Edited);
    }
    assert_eq!(author(FORMER), Author::Others);
    assert_eq!(author(&delegate.lines().take(1).collect::<String>()), Author::Others);
}

#[test]
fn every_host_and_what_is_done_about_it() {
    let (delegate, drop_in) = (text::delegate(&wanted()), text::drop_in(&wanted()));
    let first = text::resolv_conf(&wanted(), FORMER);
    let host = |resolved, resolv_conf: &Entry| Host { resolved, resolv_conf: resolv_conf.clone(), ..Host::default() };
    let stub = file(STUB);
    let link = Entry::Link("../run/systemd/resolve/stub-resolv.conf".into(), Some(STUB.to_owned()));
    let dangling = Entry::Link("nowhere".into(), None);
    let write = |path, text: &str| Action::Write(path, text.to_owned());
    let aside = || Action::Link(RESOLV_CONF, SAVED);
    let set = |resolv_conf: &Entry| Host { saved: file(FORMER), ..host(None, resolv_conf) };
    let delegated = || Host { delegate: file(&delegate), ..host(Some(258), &stub) };
    let edited = format!("{first}# mine\n");
    // (case, host, configure's actions, files that it leaves, restore's actions, files that it leaves)
    let table = [
        ("resolved", host(Some(258), &stub), vec![write(DELEGATE, &delegate), Action::Reload], 0, vec![], 0),
        ("its stub by a link", host(Some(260), &link), vec![write(DELEGATE, &delegate), Action::Reload], 0, vec![], 0),
        ("an older one", host(Some(257), &stub), vec![write(DROP_IN, &drop_in), Action::Reload], 0, vec![], 0),
        ("of no version", host(Some(0), &stub), vec![write(DROP_IN, &drop_in), Action::Reload], 0, vec![], 0),
        ("done already", delegated(), vec![], 0, vec![Action::Remove(DELEGATE), Action::Reload], 0),
        (
            "systemd became newer",
            Host { drop_in: file(&drop_in), ..host(Some(258), &stub) },
            vec![write(DELEGATE, &delegate), Action::Remove(DROP_IN), Action::Reload],
            0,
            vec![Action::Remove(DROP_IN), Action::Reload],
            0,
        ),
        (
            "resolved has ended since",
            Host { resolved: None, resolv_conf: file(FORMER), ..delegated() },
            vec![aside(), write(RESOLV_CONF, &first)],
            0,
            vec![Action::Remove(DELEGATE)],
            0,
        ),
        (
            "a delegate that was edited",
            Host { delegate: file(&format!("{delegate}#")), ..host(Some(258), &stub) },
            vec![],
            1,
            vec![],
            1,
        ),
        ("somebody else's", Host { delegate: file("[Delegate]\n"), ..host(Some(258), &stub) }, vec![], 1, vec![], 0),
        (
            "resolved that nobody asks",
            host(Some(258), &file(FORMER)),
            vec![aside(), write(RESOLV_CONF, &first)],
            0,
            vec![],
            0,
        ),
        ("no resolved", host(None, &file(FORMER)), vec![aside(), write(RESOLV_CONF, &first)], 0, vec![], 0),
        (
            "a link that leads nowhere",
            host(None, &dangling),
            vec![aside(), write(RESOLV_CONF, &text::resolv_conf(&wanted(), ""))],
            0,
            vec![],
            0,
        ),
        (
            "no resolv.conf",
            host(None, &Entry::Missing),
            vec![write(RESOLV_CONF, &text::resolv_conf(&wanted(), ""))],
            0,
            vec![],
            0,
        ),
        ("set up already", set(&file(&first)), vec![], 0, vec![Action::Rename(SAVED, RESOLV_CONF)], 0),
        (
            "the addresses are others now",
            set(&file(&text::resolv_conf(
                &Wanted { servers: vec!["10.0.0.10:53".parse().unwrap()], ..wanted() },
                FORMER,
            ))),
            vec![write(RESOLV_CONF, &first)],
            0,
            vec![Action::Rename(SAVED, RESOLV_CONF)],
            0,
        ),
        ("edited", set(&file(&edited)), vec![], 1, vec![], 1),
        (
            "NetworkManager wrote another",
            Host { saved: file("nameserver 192.0.2.9\n"), ..host(None, &file(FORMER)) },
            vec![aside(), write(RESOLV_CONF, &first)],
            0,
            vec![],
            1,
        ),
        (
            "put aside, no more",
            set(&file(FORMER)),
            vec![aside(), write(RESOLV_CONF, &first)],
            0,
            vec![Action::Remove(SAVED)],
            0,
        ),
        (
            "there was none before",
            host(None, &file(&text::resolv_conf(&wanted(), ""))),
            vec![],
            0,
            vec![Action::Remove(RESOLV_CONF)],
            0,
        ),
    ];
    for (case, host, configured, left, restored, kept) in table {
        let Plan { actions, left: said } = plan::configure(&host, &wanted());
        assert_eq!((actions, said.len()), (configured, left), "{case}");
        let Plan { actions, left: said } = plan::restore(&host);
        assert_eq!((actions, said.len()), (restored, kept), "{case}");
    }
    // resolv.conf has no ports.
    let other = Wanted { servers: vec!["127.0.0.1:10053".parse().unwrap()], ..wanted() };
    let Plan { actions, left } = plan::configure(&host(None, &file(FORMER)), &other);
    assert_eq!((actions, left.len()), (vec![], 1));
}

/// Every path of a tree: its inode, permissions, and text or target.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u64, u32, String)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let what = if meta.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if meta.is_dir() {
            found.extend(tree(&path));
            continue;
        } else {
            fs::read_to_string(&path).unwrap_or_default()
        };
        found.insert(path, (meta.ino(), meta.mode(), what));
    }
    found
}

fn host() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    root
}

#[test]
fn a_file_and_a_link_come_back_as_they_were() {
    for linked in [false, true] {
        let root = host();
        let path = root.path().join(RESOLV_CONF);
        if linked {
            fs::create_dir_all(root.path().join("run/nm")).unwrap();
            fs::write(root.path().join("run/nm/resolv.conf"), FORMER).unwrap();
            symlink("../run/nm/resolv.conf", &path).unwrap();
        } else {
            fs::write(&path, FORMER).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        }
        let before = tree(root.path());
        let done = configure(root.path(), &wanted()).unwrap();
        assert_eq!((done.changed.len(), done.left.len()), (2, 0));
        assert_eq!(fs::read_to_string(&path).unwrap(), text::resolv_conf(&wanted(), FORMER));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        let after = tree(root.path());
        assert_eq!(configure(root.path(), &wanted()).unwrap(), Done::default(), "twice");
        assert_eq!(tree(root.path()), after);
        assert_eq!(restore(root.path()).unwrap().changed, ["put /etc/resolv.conf back as it was"]);
        assert_eq!(tree(root.path()), before, "link: {linked}");
        assert_eq!(restore(root.path()).unwrap(), Done::default(), "twice");
    }
}

#[test]
fn what_others_wrote_since_stays() {
    let root = host();
    let path = root.path().join(RESOLV_CONF);
    fs::write(&path, "nameserver 192.0.2.9\n").unwrap();
    configure(root.path(), &wanted()).unwrap();
    // A DHCP client has been here: it is put aside in its turn.
    fs::write(&path, FORMER).unwrap();
    configure(root.path(), &wanted()).unwrap();
    assert_eq!(fs::read_to_string(root.path().join(SAVED)).unwrap(), FORMER);
    // And again, and then we are to go.
    fs::write(&path, "nameserver 192.0.2.7\n").unwrap();
    let done = restore(root.path()).unwrap();
    assert_eq!((done.changed.len(), done.left.len()), (0, 1), "{done:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "nameserver 192.0.2.7\n");
    // Interrupted between the two steps.
    fs::write(&path, FORMER).unwrap();
    assert_eq!(restore(root.path()).unwrap().changed, ["removed /etc/resolv.conf.portolan-saved"]);
    assert_eq!(tree(root.path()).len(), 1);
}

#[test]
fn resolved_is_asked_to_read_and_a_failure_is_done_again() {
    let root = host();
    fs::write(root.path().join(RESOLV_CONF), STUB).unwrap();
    fs::create_dir_all(root.path().join("run/systemd/resolve")).unwrap();
    let _runs = UnixListener::bind(root.path().join("run/systemd/resolve/io.systemd.Resolve")).unwrap();
    let seen = act::look(root.path()).unwrap();
    assert!(seen.resolved.is_some());
    let seen = Host { resolved: Some(258), ..seen };
    let refused = || Err(ResolverError::Reload("no".into()));
    assert!(act::act(root.path(), plan::configure(&seen, &wanted()), refused).is_err());
    assert!(!root.path().join(DELEGATE).exists());
    let done = act::act(root.path(), plan::configure(&seen, &wanted()), || Ok(())).unwrap();
    assert_eq!(done.changed[0], "wrote /etc/systemd/dns-delegate.d/portolan.dns-delegate");
    let seen = Host { resolved: Some(258), ..act::look(root.path()).unwrap() };
    assert_eq!(plan::configure(&seen, &wanted()), Plan::default());
    act::act(root.path(), plan::restore(&seen), || Ok(())).unwrap();
    assert!(!root.path().join(DELEGATE).exists());
}

#[test]
fn versions() {
    for (word, number) in [("257", 257), ("257.7-1", 257), ("260~rc1", 260), ("x", 0), ("", 0)] {
        assert_eq!(act::leading_number(word), number);
    }
}

#[test]
fn zones_of_ranges() {
    let reverse = |range: &str| zones::reverse(range.parse().unwrap());
    assert_eq!(reverse("10.96.0.0/16"), ["96.10.in-addr.arpa"]);
    let twelve = reverse("10.96.0.0/12");
    assert_eq!((twelve.len(), &*twelve[0], &*twelve[15]), (16, "96.10.in-addr.arpa", "111.10.in-addr.arpa"));
    assert_eq!(reverse("10.0.0.0/8"), ["10.in-addr.arpa"]);
    assert_eq!(reverse("192.0.2.64/28"), ["2.0.192.in-addr.arpa"]);
    assert_eq!(reverse("192.0.2.0/23").len(), 2);
    assert_eq!(reverse("0.0.0.0/0").len(), 128);
    assert_eq!(reverse("fd00:10:96::/112"), ["0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa"]);
    assert_eq!(reverse("fd00::/9").len(), 8);
    assert_eq!(reverse("fd00::1/128").len(), 1);
}

#[test]
fn what_a_node_wants_follows_from_what_it_knows() {
    let mut names = Names::new(dns::Zone::new("cluster.local").unwrap());
    assert_eq!(super::wanted(&names, None, None), None, "nothing is known");
    let service = serde_json::json!({
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:10:96::a"], "ports": [{"port": 53}]},
    });
    let service_cidrs = vec!["10.96.0.0/16".parse().unwrap()];
    let mut snapshot = model::snapshot::Snapshot { service_cidrs, ..Default::default() };
    names.load(&snapshot);
    assert_eq!(super::wanted(&names, None, None), None, "there is no such Service");
    let service = std::sync::Arc::new(serde_json::from_value(service).unwrap());
    snapshot.services.insert(model::Key::new("kube-system", "kube-dns"), service);
    names.load(&snapshot);
    assert_eq!(super::wanted(&names, None, None), Some(wanted()));
    let own = vec!["192.0.2.20:53".parse().unwrap()];
    let search = ["apps.svc.cluster.local", "svc.cluster.local", "cluster.local"].map(str::to_owned).to_vec();
    let other = Wanted { servers: own.clone(), search, ..wanted() };
    assert_eq!(super::wanted(&names, Some(&own), Some("apps")), Some(other));
}
