//! What a process that stays keeps of the machine's memory: pages of the size that it asks for, and of files only what it uses.
//!
//! An agent runs on machines that are there for other work, and does nothing for most of its life. Two things make it look, and
//! be, bigger than it is: huge pages, of which an allocator gets some while it has asked for a few kilobytes, and the pages of
//! the program that the start and a load of Services went through, which stay mapped though nobody goes there again.
//!
//! Rejected: `MADV_PAGEOUT`, which passes over what other processes have mapped too; `MADV_RANDOM`, which leaves the kernel's
//! faulting in of neighbours ([`alone`]) as it is.

mod alone;

use std::ffi::c_void;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::mman::{MmapAdvise, madvise};
use nix::sys::prctl;
use tracing::debug;

use alone::Alone;

/// Mappings of which less is there are left alone.
const WORTH_KIB: usize = 64;

/// How it is with huge pages when this process begins, before any code of it but the loader's has run.
static BEGUN: AtomicBool = AtomicBool::new(false);

/// The heap has its first pages before `main`: for the names of the arguments alone it would be given four megabytes. So this
/// runs before the heap is there, and [`restore_pages`] makes it good where huge pages are wanted.
// SAFETY: the loader calls what this section lists once, in the order of the numbers and after the C library's own start; the
// standard library finds the arguments in the same way, with 99. The function needs no heap, no thread and no environment.
#[used]
#[unsafe(link_section = ".init_array.00098")]
static SMALL_PAGES: extern "C" fn() = small_pages;

/// Keeps the kernel from giving this process two megabytes where it asks for a page: each thread's heap would have some, and an
/// agent with a hundred Services needs less than that for all of them. What it has of them already it keeps, so this comes first.
extern "C" fn small_pages() {
    // A kernel that does not know it has no such pages either.
    BEGUN.store(prctl::get_thp_disable().unwrap_or(false), Ordering::Relaxed);
    let _ = prctl::set_thp_disable(true);
}

/// Lets the kernel give huge pages again, if it might when the process began: a large heap is faster with them, and what this
/// process starts inherits it.
pub fn restore_pages() {
    let _ = prctl::set_thp_disable(BEGUN.load(Ordering::Relaxed));
}

/// Gives back what is mapped of the program and its libraries. It stays in the kernel's cache of files, and what an idle agent
/// goes on using comes back by some nine hundred faults, a page by each: a millisecond or two for all of them.
pub fn give_back() {
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else { return };
    let alone = Alone::get();
    let mut bytes = 0;
    for Range { start, end } in clean_files(&smaps) {
        let Some(address) = NonNull::new(std::ptr::with_exposed_provenance_mut::<c_void>(start)) else { continue };
        // Before the first of its pages comes back.
        if let Some(Err(error)) = alone.map(|alone| alone.register(start..end)) {
            debug!(%error, "pages of a file come back with their neighbours");
        }
        // SAFETY: it is one mapping of a file, as the kernel has just said, which nobody can write to and no page of which
        // differs from the file: the next access finds in it what it had. Nothing else can have come to its place meanwhile,
        // since neither the program nor a library is unmapped before the end.
        if unsafe { madvise(address, end - start, MmapAdvise::MADV_DONTNEED) }.is_ok() {
            bytes += end - start;
        }
    }
    debug!(bytes, "mappings of files were given back");
}

/// The mappings of files that can be given back without loss, from what `/proc/PID/smaps` says: private, not writable, and
/// without a page of their own. What the loader has written to and protected afterwards has such pages.
fn clean_files(smaps: &str) -> Vec<Range<usize>> {
    let mut mappings = Vec::new();
    let mut current: Option<(Range<usize>, usize)> = None;
    for line in smaps.lines() {
        let Some((field, value)) = line.split_once(':').filter(|(field, _)| !field.contains([' ', '-'])) else {
            current = file(line).map(|range| (range, 0));
            continue;
        };
        let Some((range, resident)) = &mut current else { continue };
        let Some(kib) = value.split_whitespace().next().and_then(|number| number.parse::<usize>().ok()) else {
            continue;
        };
        match field {
            "Rss" => *resident = kib,
            "Anonymous" if kib == 0 && *resident >= WORTH_KIB => mappings.push(range.clone()),
            _ => {}
        }
    }
    mappings
}

/// The addresses of a mapping by its first line, where it is a file's that can be read or executed and nothing else:
/// `5578845f6000-557886458000 r-xp 00757000 fe:00 9978011 /usr/bin/portolan`.
fn file(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if !matches!(fields.next()?, "r--p" | "r-xp") {
        return None;
    }
    let inode: u64 = fields.nth(2)?.parse().ok()?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    (inode != 0).then_some(number(start)?..number(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
5578840000-5578850000 r--p 00000000 fe:00 9978011                    /usr/bin/portolan
Size:                 64 kB
Rss:                  64 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd 
5578850000-5578950000 r-xp 00010000 fe:00 9978011                    /usr/bin/portolan: a name
Rss:                 900 kB
Pss_Dirty:             0 kB
Anonymous:             0 kB
5578950000-5578a10000 r--p 00110000 fe:00 9978011                    /usr/bin/portolan
Rss:                 768 kB
Anonymous:           768 kB
5578a10000-5578a20000 rw-p 001d0000 fe:00 9978011                    /usr/bin/portolan
Rss:                  64 kB
Anonymous:             0 kB
599b0c00000-599f0c00000 r--p 00000000 00:00 0 
Rss:                3812 kB
Anonymous:             0 kB
7f6ef875d000-7f6ef88b3000 r-xp 00026000 fe:00 326269                 /usr/lib/libc.so.6
Rss:                 640 kB
Anonymous:             4 kB
7f6ef8a6c000-7f6ef8a7c000 r--s 00000000 fe:00 326591                 /usr/lib/libm.so.6
Rss:                  64 kB
Anonymous:             0 kB
7f6ef8b7e000-7f6ef8b80000 r-xp 00000000 00:00 0                      [vdso]
Rss:                   8 kB
Anonymous:             0 kB
7f6ef8c00000-7f6ef8c20000 r--p 00000000 fe:00 77                     /usr/lib/small.so
Rss:                  60 kB
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_a_files_and_unchanged_is_given_back() {
        assert_eq!(clean_files(SMAPS), [0x55_7884_0000..0x55_7885_0000, 0x55_7885_0000..0x55_7895_0000]);
        assert!(clean_files("nonsense\nAnonymous: 0 kB\n").is_empty());
    }

    #[test]
    fn a_process_goes_on_when_it_has_given_back() {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        assert!(!clean_files(&smaps).is_empty(), "{smaps}");
        give_back();
        assert_eq!("12".parse::<u8>().unwrap(), 12);
    }
}
