//! How long it takes; printed, not asserted. `cargo test -p dataplane --test kernel load -- --nocapture`

use std::time::Instant;

use dataplane::nftables::{Dirty, Table};

use crate::lab::{Namespace, with_rights};
use crate::plans::{Web, plan};

#[test]
fn full_load_and_one_change() {
    with_rights("load::full_load_and_one_change", || {
        let namespace = Namespace::new();
        namespace.run(|| {
            let pods: Vec<_> = (1..=10).map(|host| (2, host)).collect();
            let services: Vec<_> = (1..=1000).map(|n| Web::new(n, &pods)).collect();
            let mut plan = plan(1, &services);
            let mut table = Table::open().unwrap();
            let begin = Instant::now();
            let report = table.program(&plan, &Dirty::All).unwrap();
            println!("1,000 dual-stack Services x 2 ports x 10 endpoints: {:?}, {report:?}", begin.elapsed());
            let mut web = services[500].clone();
            web.pods.pop();
            plan.services.insert(web.key(), web.plan().into());
            plan.revision = 2;
            let begin = Instant::now();
            let report = table.program(&plan, &Dirty::Services([web.key()].into())).unwrap();
            println!("one pod less: {:?}, {report:?}", begin.elapsed());
        });
    });
}
