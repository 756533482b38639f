//! What a Pod that runs on this node says of itself, in kubelet's words: its `status` with conditions and container
//! statuses. Whoever runs Pods (the lab, or an agent for the processes of its machine) describes them as a
//! [`status::Standing`], and gets what to write.

pub mod conditions;
pub mod status;
#[cfg(test)]
mod tests;
