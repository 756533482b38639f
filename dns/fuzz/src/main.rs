//! Bytes as a client may send them, led by coverage, judged by the oracle that the tests have too. `scripts/fuzz` builds and runs it.

#![no_main]

use std::sync::OnceLock;

use dns::message::Transport;
use dns::{Access, Names};
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/shell/fixture.rs"]
mod fixture;
#[path = "../../tests/shell/oracle.rs"]
mod oracle;

struct State {
    names: Names,
    access: Access,
}

fuzz_target!(|bytes: &[u8]| {
    static STATE: OnceLock<State> = OnceLock::new();
    let state = STATE.get_or_init(|| State { names: fixture::names(), access: Access::default() });
    for transport in [Transport::Udp, Transport::Tcp] {
        oracle::check(&state.names, &state.access, transport, bytes);
    }
});
