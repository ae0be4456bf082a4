//! What the kernel can answer without waiting for a disk, asked on the calling thread.
//!
//! Reading from the page cache takes microseconds, less than handing the job to another thread. `None` means only
//! that a blocking thread must ask again: it gives the final answer, errors included. That is also the answer of a
//! kernel, file system or sandbox without these calls.

use std::fs::File;

use crate::ObjectKey;

/// Opens `key` below `directory` if the path is in the kernel's cache.
#[cfg(target_os = "linux")]
pub(super) fn open(directory: &File, key: &ObjectKey) -> Option<File> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    openat2(
        directory,
        key.as_str(),
        flags,
        Mode::empty(),
        ResolveFlags::CACHED,
    )
    .ok()
    .map(File::from)
}

/// Reads what the page cache has at `offset`, at least one byte.
#[cfg(target_os = "linux")]
pub(super) fn read(file: &File, buffer: &mut [u8], offset: u64) -> Option<usize> {
    use std::io::IoSliceMut;

    use rustix::io::{ReadWriteFlags, preadv2};

    let read = preadv2(
        file,
        &mut [IoSliceMut::new(buffer)],
        offset,
        ReadWriteFlags::NOWAIT,
    )
    .ok()?;
    // Linux 5.9 and 5.10 answer 0 also where there is more; a blocking read knows a true end.
    (read > 0).then_some(read)
}

/// Asks the kernel to fetch `length` bytes from `offset` on. A hint: whether it is taken shows only in the time.
#[cfg(target_os = "linux")]
pub(super) fn fetch(file: &File, offset: u64, length: u64) {
    use rustix::fs::{Advice, fadvise};

    let _ = fadvise(
        file,
        offset,
        std::num::NonZeroU64::new(length),
        Advice::WillNeed,
    );
}

/// Other systems cannot be asked.
#[cfg(not(target_os = "linux"))]
pub(super) fn open(_: &File, _: &ObjectKey) -> Option<File> {
    None
}

/// Other systems cannot be asked.
#[cfg(not(target_os = "linux"))]
pub(super) fn read(_: &File, _: &mut [u8], _: u64) -> Option<usize> {
    None
}

/// Other systems read ahead as they like.
#[cfg(not(target_os = "linux"))]
pub(super) fn fetch(_: &File, _: u64, _: u64) {}
