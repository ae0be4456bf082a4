//! Read buffers, used again and again.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

/// Bytes of one piece of a read.
pub(super) const PIECE: usize = 128 * 1024;

/// Most buffers kept for later: 32 MiB. More downloads than that at once get fresh ones.
const KEPT: usize = 256;

/// Buffers waiting to be used. They are zeroed once, when they are made, and carry old bytes afterwards: a reader
/// gives out only what it has just filled.
#[derive(Default)]
pub(super) struct Buffers {
    free: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer that goes back when dropped.
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let kept = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let bytes = kept.unwrap_or_else(|| vec![0; PIECE].into_boxed_slice());
        Buffer {
            bytes,
            filled: 0,
            home: Arc::clone(self),
        }
    }
}

impl Buffer {
    /// Room for a piece of `length` bytes, or for as many as there are.
    pub(super) fn room(&mut self, length: u64) -> &mut [u8] {
        let length = usize::try_from(length).unwrap_or(PIECE).min(PIECE);
        &mut self.bytes[..length]
    }

    /// The first `filled` bytes, shared without a copy.
    pub(super) fn share(mut self, filled: usize) -> Bytes {
        self.filled = filled;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self
            .home
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_bytes_go() {
        let buffers = Arc::new(Buffers::default());
        let mut buffer = buffers.take();
        buffer.room(3).copy_from_slice(b"abc");
        let bytes = buffer.share(3);
        let part = bytes.slice(1..);
        drop(bytes);
        assert_eq!(buffers.free.lock().unwrap().len(), 0);
        assert_eq!(part, "bc");
        drop(part);
        assert_eq!(buffers.free.lock().unwrap().len(), 1);
        drop(buffers.take());
        assert_eq!(buffers.free.lock().unwrap().len(), 1);
    }

    #[test]
    fn room_is_never_more_than_asked_for() {
        let mut buffer = Arc::new(Buffers::default()).take();
        assert_eq!(buffer.room(1).len(), 1);
        assert_eq!(buffer.room(u64::MAX).len(), PIECE);
    }
}
