//! The network on a real kernel, in namespaces of this test's own. No root needed: the test runs itself again inside
//! a user namespace.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use super::*;

const INSIDE: &str = "LAB_TEST_INSIDE";

/// Runs the test `name` again in user and network namespaces of its own, and `body` there.
fn isolated(name: &str, body: impl Future<Output = ()>) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(body);
        return;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    // SAFETY: between fork and exec only system calls are made; the strings are made before.
    unsafe { again.pre_exec(crate::launch::enter_test_namespaces()) };
    let output = again.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "inside namespaces: {text}");
}

fn listen(netns: &Netns, address: IpAddr) -> TcpListener {
    netns.run(|| TcpListener::bind(SocketAddr::new(address, 8080))).unwrap()
}

/// The address that the listener sees, when `from` connects to it.
fn seen_by(listener: &TcpListener, from: &Netns) -> IpAddr {
    let to = listener.local_addr().unwrap();
    let mut client = from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2))).unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    server.write_all(b"hello").unwrap();
    drop(server);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    peer.ip()
}

#[test]
fn pods_reach_each_other_and_nothing_is_hidden() {
    isolated("network::tests::pods_reach_each_other_and_nothing_is_hidden", async {
        let network = Network::build(2, 1).await.unwrap();
        let [one, two] = &network.nodes[..] else { panic!("two nodes") };
        let a = add_pod(one, 2).await.unwrap();
        let b = add_pod(one, 3).await.unwrap();
        let c = add_pod(two, 2).await.unwrap();
        for family in [0, 1] {
            let of = |pair: addresses::Pair| pair.list()[family];
            for (to, from) in [(&a, &b), (&b, &a), (&a, &c), (&c, &b)] {
                let listener = listen(&to.netns, of(to.addresses));
                assert_eq!(seen_by(&listener, &from.netns), of(from.addresses));
            }
            let listener = listen(&c.netns, of(c.addresses));
            assert_eq!(seen_by(&listener, &one.netns), of(addresses::node(1)), "a node reaches pods elsewhere");
            drop(listener);
            let listener = listen(&two.netns, of(addresses::node(2)));
            assert_eq!(seen_by(&listener, &a.netns), of(a.addresses), "a pod reaches other nodes");
            assert_eq!(seen_by(&listener, &network.client), of(addresses::client()), "the client reaches nodes");
        }
    });
}

#[test]
fn the_client_learns_at_once_that_it_stands_outside() {
    isolated("network::tests::the_client_learns_at_once_that_it_stands_outside", async {
        let network = Network::build(1, 0).await.unwrap();
        let pod = add_pod(&network.nodes[0], 2).await.unwrap();
        for address in pod.addresses.list() {
            let to = SocketAddr::new(address, 8080);
            let error = network.client.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5))).unwrap_err();
            assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "{to}: {error}");
        }
    });
}

#[test]
fn a_removed_pod_leaves_room_for_the_next() {
    isolated("network::tests::a_removed_pod_leaves_room_for_the_next", async {
        let network = Network::build(1, 0).await.unwrap();
        let node = &network.nodes[0];
        for _ in 0..3 {
            let pod = add_pod(node, 2).await.unwrap();
            let listener = listen(&pod.netns, pod.addresses.v6.into());
            assert_eq!(seen_by(&listener, &node.netns), IpAddr::from(addresses::node(1).v6));
            node.remove_pod(pod).await.unwrap();
        }
        let pod = add_pod(node, 2).await.unwrap();
        assert!(add_pod(node, 2).await.is_err(), "two pods cannot have one address");
        drop(pod);
    });
}
