//! What this machine has, in a Node's words.
//!
//! The CPUs of a zone's Nodes decide how many endpoints are for it, where a Service asks for that
//! (`service.kubernetes.io/topology-mode`). Read once, when the Node is registered, as a kubelet does.

use std::num::NonZeroUsize;

use serde_json::{Value, json};

/// CPUs and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    pub cpus: NonZeroUsize,
    /// None where the kernel does not say.
    pub memory_kib: Option<u64>,
}

impl Resources {
    /// As in `status.capacity`.
    pub fn quantities(&self) -> Value {
        let mut quantities = json!({"cpu": self.cpus.to_string()});
        if let Some(memory) = self.memory_kib {
            quantities["memory"] = format!("{memory}Ki").into();
        }
        quantities
    }
}

/// What this process may use of the CPUs, and all memory.
pub fn read() -> Resources {
    Resources {
        cpus: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        memory_kib: std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_kib(&text)),
    }
}

/// `MemTotal:       16384000 kB`
fn memory_kib(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_the_kernels_words() {
        assert_eq!(memory_kib("MemTotal:       16384000 kB\nMemFree:  1 kB\n"), Some(16_384_000));
        assert_eq!(memory_kib("MemFree: 1 kB\n"), None);
        assert_eq!(memory_kib("MemTotal: much\n"), None);
    }

    #[test]
    fn quantities_are_kubernetes() {
        let two = NonZeroUsize::new(2).unwrap();
        let resources = Resources { cpus: two, memory_kib: Some(1024) };
        assert_eq!(resources.quantities(), json!({"cpu": "2", "memory": "1024Ki"}));
        assert_eq!(Resources { cpus: two, memory_kib: None }.quantities(), json!({"cpu": "2"}));
        assert!(read().memory_kib.is_some_and(|memory| memory > 0), "this machine has memory");
    }
}
