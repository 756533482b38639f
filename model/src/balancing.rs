//! Load balancing as pure rules: what a Service wants of a load balancer, who the backends of a listener are, and how edge
//! nodes say that they live.

pub mod lease;

mod annotations;
mod backends;
mod table;
mod wanted;

pub use annotations::{BACKEND_TYPE, PREFIXES, Problem};
pub use backends::{Backend, EXCLUDE_LABELS, TO_BE_DELETED, backends, relayed};
pub use table::{ROWS, Row, row};
pub use wanted::{CLASS, CLASS_ANNOTATION, Join, NLB_CLASS, Parting, Wanted, handles, parting, wanted};
