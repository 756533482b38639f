//! When the kernel's tables change.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_NETFILTER};

/// The kernel's word that a new generation of tables is in force (NFNLGRP_NFTABLES), with the time it came.
pub struct Notifications(mpsc::Receiver<Instant>);

impl Notifications {
    pub fn open() -> Self {
        const NFNLGRP_NFTABLES: u32 = 7;
        let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
        socket.bind(&NetlinkAddr::new(0, 0)).unwrap();
        socket.add_membership(NFNLGRP_NFTABLES).unwrap();
        let (sender, receiver) = mpsc::channel();
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
