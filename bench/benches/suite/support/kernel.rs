//! When the kernel's tables change.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_NETFILTER};

/// What the kernel tells everybody of its tables.
fn socket() -> Socket {
    const NFNLGRP_NFTABLES: u32 = 7;
    let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
    socket.bind(&NetlinkAddr::new(0, 0)).unwrap();
    socket.add_membership(NFNLGRP_NFTABLES).unwrap();
    socket
}

/// The kernel's word that a new generation of tables is in force (NFNLGRP_NFTABLES), with the time it came.
pub struct Notifications(mpsc::Receiver<Instant>);

impl Notifications {
    pub fn open() -> Self {
        let (socket, (sender, receiver)) = (socket(), mpsc::channel());
        std::thread::spawn(move || {
            let mut buffer = vec![0u8; 1 << 16];
            while socket.recv(&mut &mut buffer[..], 0).is_ok() && sender.send(Instant::now()).is_ok() {}
        });
        Self(receiver)
    }

    /// Forgets what has come so far.
    pub fn drain(&self) {
        while self.0.try_recv().is_ok() {}
    }

    /// When the next generation was in force.
    pub fn next(&self) -> Instant {
        self.0.recv_timeout(Duration::from_secs(5)).expect("a Pod's change changes the kernel's tables within 5 s")
    }
}

/// The same with what has changed: in which generation an address appeared, or went.
pub struct Changes(mpsc::Receiver<(Instant, Vec<u8>)>);

impl Changes {
    pub fn open() -> Self {
        let (socket, (sender, receiver)) = (socket(), mpsc::channel());
        socket.set_rx_buf_sz(16i32 << 20).unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0u8; 1 << 16];
            while let Ok(length) = socket.recv(&mut &mut buffer[..], 0) {
                if sender.send((Instant::now(), buffer[..length].to_vec())).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// When each address was spoken of that begins with these octets, of what has come so far. An address is found by its
    /// bytes, wherever they stand.
    pub fn addresses(&self, prefix: [u8; 1]) -> HashMap<Ipv4Addr, Vec<Instant>> {
        let mut found: HashMap<Ipv4Addr, Vec<Instant>> = HashMap::new();
        for (at, bytes) in self.0.try_iter() {
            for four in bytes.windows(4).filter(|four| four.starts_with(&prefix)) {
                let address = Ipv4Addr::new(four[0], four[1], four[2], four[3]);
                found.entry(address).or_default().push(at);
            }
        }
        found
    }
}
