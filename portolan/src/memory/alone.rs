//! Pages of files that come alone.
//!
//! Whoever touches one page of a file has the fifteen round it mapped as well, where the kernel's cache has them. A start is
//! faster for it. But an idle agent goes on using some nine hundred pages that lie scattered over the program, 3.5 MiB, and
//! 13 MiB would come back with them; and what is mapped, the kernel is slower to give to others.
//!
//! No advice turns that off. What does is that somebody could want to hear of single pages: a mapping that is registered with a
//! userfaultfd for write protection. Nothing is ever protected here, so nobody is told anything and no access ever waits: the
//! mode is the asynchronous one, in which the kernel (since Linux 6.7) takes any mapping, and settles everything by itself.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use nix::libc;

/// `UFFD_API`.
const API: u64 = 0xaa;

/// `UFFD_USER_MODE_ONLY`: what needs no privilege.
const USER_MODE_ONLY: libc::c_int = 1;

/// `UFFD_FEATURE_WP_ASYNC`.
const ASYNCHRONOUS: u64 = 1 << 15;

/// `UFFDIO_REGISTER_MODE_WP`.
const WRITE_PROTECTION: u64 = 1 << 1;

/// `struct uffdio_api`.
#[repr(C)]
struct Handshake {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct Registration {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

nix::ioctl_readwrite!(handshake, API, 0x3f, Handshake);
nix::ioctl_readwrite!(register, API, 0x00, Registration);

/// The descriptor that mappings are registered with. It holds for this process alone, and as long as it is open.
pub struct Alone(OwnedFd);

impl Alone {
    /// The one of this process; None where the kernel does not have it.
    pub fn get() -> Option<&'static Self> {
        static ALONE: OnceLock<Option<Alone>> = OnceLock::new();
        ALONE.get_or_init(|| Self::open().ok()).as_ref()
    }

    fn open() -> io::Result<Self> {
        // SAFETY: the call takes flags and returns a descriptor, or -1.
        let descriptor = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) };
        let descriptor = RawFd::try_from(descriptor).ok().filter(|it| *it >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: it is new, and nobody else's.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let mut request = Handshake { api: API, features: ASYNCHRONOUS, ioctls: 0 };
        // SAFETY: the kernel reads and writes one structure of this layout.
        unsafe { handshake(descriptor.as_raw_fd(), &raw mut request) }?;
        Ok(Self(descriptor))
    }

    /// From now on each page of this mapping comes by a fault of its own. The addresses are those of one mapping, or of some
    /// that adjoin.
    ///
    /// # Errors
    /// When there is no such mapping, or another userfaultfd has it.
    pub fn register(&self, addresses: Range<usize>) -> io::Result<()> {
        let (start, len) = (addresses.start as u64, addresses.len() as u64);
        let mut request = Registration { start, len, mode: WRITE_PROTECTION, ioctls: 0 };
        // SAFETY: the kernel reads and writes one structure of this layout. What can be read at these addresses stays the same.
        unsafe { register(self.0.as_raw_fd(), &raw mut request) }?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::num::NonZeroUsize;

    use nix::sys::mman::{MapFlags, ProtFlags, mmap};

    use super::*;

    const PAGE: usize = 4096;
    const PAGES: usize = 64;

    /// A file of so many pages, all of them in the kernel's cache, where it is mapped: shared, so that no other test gives it
    /// back.
    fn mapped() -> usize {
        let mut file: File = tempfile::tempfile().unwrap();
        file.write_all(&[1; PAGES * PAGE]).unwrap();
        let length = NonZeroUsize::new(PAGES * PAGE).unwrap();
        // SAFETY: the kernel chooses the place, and the mapping stays until the process ends.
        let address = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, &file, 0) }.unwrap();
        address.expose_provenance().get()
    }

    /// The pages that are there after one was touched.
    fn there_after_a_touch(mapping: usize) -> usize {
        let middle = std::ptr::with_exposed_provenance::<u8>(mapping + PAGES / 2 * PAGE);
        // SAFETY: it lies in the middle of the mapping.
        assert_eq!(unsafe { middle.read_volatile() }, 1);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (_, here) = smaps.split_once(&format!("\n{mapping:x}-")).unwrap();
        let resident = here.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        let kib: usize = resident.split_whitespace().next().unwrap().parse().unwrap();
        kib * 1024 / PAGE
    }

    #[test]
    fn a_registered_page_comes_without_its_neighbours_and_others_with_them() {
        let others = there_after_a_touch(mapped());
        assert!(others > 1, "{others}");
        let mapping = mapped();
        let Some(alone) = Alone::get() else { return eprintln!("not tested: this kernel is older than 6.7") };
        alone.register(mapping..mapping + PAGES * PAGE).unwrap();
        assert_eq!(there_after_a_touch(mapping), 1);
        assert!(alone.register(0..PAGE).is_err(), "nothing is mapped there");
    }
}
