use std::path::PathBuf;

use super::*;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn all(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| at(text)).collect()
}

fn host(folder: &Path) -> Upstream {
    Upstream::Host { resolv_conf: folder.join("resolv.conf"), behind_stub: folder.join("behind.conf") }
}

#[test]
fn resolv_conf_as_glibc_reads_it() {
    let text = "# a comment\nsearch example.com\noptions ndots:5\nnameserver 192.0.2.1\n  nameserver\t2001:db8::1  # why\n\
                nameserver fe80::1%7\nnameserver nonsense\nnameserver\n;nameserver 192.0.2.9\nnameserver 192.0.2.1\n";
    assert_eq!(nameservers(text), all(&["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%7]:53"]));
    assert_eq!(nameservers(""), []);
}

#[test]
fn systemd_resolveds_stub_is_not_asked_if_it_can_be_helped() {
    let (stub, behind) = (all(&["127.0.0.53:53"]), all(&["192.0.2.1:53"]));
    assert_eq!(of_host(&stub, || behind.clone()), behind);
    assert_eq!(of_host(&stub, Vec::new), stub);
    let both = all(&["127.0.0.54:53", "192.0.2.2:53"]);
    assert_eq!(of_host(&both, || behind.clone()), all(&["192.0.2.2:53"]));
    assert_eq!(of_host(&[], || behind.clone()), []);
}

#[test]
fn servers_in_turn() {
    let two = all(&["192.0.2.1:53", "192.0.2.2:53"]);
    assert_eq!(in_turn(&two, |_| false), [two[0], two[1], two[0]]);
    assert_eq!(in_turn(&two, |server| *server == two[0]), [two[1], two[0], two[1]]);
    assert_eq!(in_turn(&two[..1], |_| true), [two[0]; 3]);
    assert_eq!(in_turn(&[], |_| false), []);
}

#[test]
fn nobody_is_their_own_upstream() {
    let own = all(&["10.96.0.10:53", "192.0.2.1:10053"]);
    let refused = Servers::new(Upstream::Servers(all(&["192.0.2.2:53", "10.96.0.10:53"])), own.clone()).err().unwrap();
    assert!(refused.to_string().starts_with("10.96.0.10:53 is an address that this DNS itself answers on"));
    assert!(Servers::new(Upstream::Servers(all(&["192.0.2.1:53"])), own.clone()).is_ok());
    assert!(is_own(&at("[::ffff:10.96.0.10]:53"), &own) && !is_own(&at("10.96.0.10:54"), &own));
    // One that is learned later is left out.
    let servers = Servers::new(Upstream::Servers(all(&["10.0.0.10:53", "192.0.2.2:53"])), own).unwrap();
    servers.answers_on(all(&["10.0.0.10:53"]));
    assert_eq!(servers.in_turn(Instant::now()), all(&["192.0.2.2:53"; 3]));
}

#[test]
fn more_servers_than_are_used_are_refused() {
    let refused = Servers::new(Upstream::Servers(vec![at("192.0.2.1:53"); 16]), Vec::new()).err().unwrap();
    assert_eq!(refused.to_string(), "16 upstream servers; no more than 15 are used");
}

#[tokio::test(start_paused = true)]
async fn the_hosts_file_is_read_again_when_it_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("resolv.conf");
    let servers = Servers::new(host(folder.path()), all(&["10.96.0.10:53"])).unwrap();
    assert_eq!(servers.in_turn(Instant::now()), []);
    fs::write(&file, "nameserver 10.96.0.10\nnameserver 192.0.2.1\n").unwrap();
    assert_eq!(servers.in_turn(Instant::now()), [], "looked at a moment ago");
    tokio::time::advance(LOOK).await;
    assert_eq!(servers.in_turn(Instant::now()), all(&["192.0.2.1:53"; 3]));
    // As whoever replaces it does.
    fs::write(folder.path().join("new"), "nameserver 192.0.2.2\n").unwrap();
    fs::rename(folder.path().join("new"), &file).unwrap();
    tokio::time::advance(LOOK).await;
    assert_eq!(servers.in_turn(Instant::now()), all(&["192.0.2.2:53"; 3]));
    fs::write(&file, "nameserver 127.0.0.53\n").unwrap();
    fs::write(folder.path().join("behind.conf"), "nameserver 192.0.2.3\n").unwrap();
    tokio::time::advance(LOOK).await;
    assert_eq!(servers.in_turn(Instant::now()), all(&["192.0.2.3:53"; 3]));
}

#[tokio::test(start_paused = true)]
async fn who_has_failed_comes_last_for_ten_seconds() {
    let two = all(&["192.0.2.1:53", "192.0.2.2:53"]);
    let servers = Servers::new(Upstream::Servers(two.clone()), Vec::new()).unwrap();
    servers.heard(two[0], false, Instant::now());
    assert_eq!(servers.in_turn(Instant::now())[0], two[1]);
    tokio::time::advance(SHUNNED).await;
    assert_eq!(servers.in_turn(Instant::now())[0], two[0]);
    servers.heard(two[0], false, Instant::now());
    servers.heard(two[0], true, Instant::now());
    assert_eq!(servers.in_turn(Instant::now())[0], two[0]);
}
