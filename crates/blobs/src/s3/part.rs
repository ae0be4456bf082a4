//! A part in memory: gathered from pieces, summed on the way, sent as it lies.

use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use http_body::{Body, Frame, SizeHint};

use super::budget::{Buffer, Grant, Hold, Share, blocks};

const MIB: u64 = 1024 * 1024;

/// The size at which part `number` is sent. It grows so that 10,000 parts hold more than 100 GiB.
pub(super) fn full_size(number: u32, largest: u64) -> u64 {
    (8 * MIB * (1 + u64::from(number) / 1000)).min(largest)
}

/// The size from which on part `number` may be sent: servers take no smaller ones, except as the last.
pub(super) fn least_size(number: u32, largest: u64) -> u64 {
    (5 * MIB * (1 + u64::from(number) / 1000)).min(largest)
}

/// A part that is being gathered.
pub(super) struct Gathering {
    hold: Hold,
    pieces: Vec<Bytes>,
    open: Option<Buffer>,
    length: u64,
    crc: Digest,
}

impl Gathering {
    /// An empty part.
    pub(super) fn new(share: &Share) -> Self {
        Self {
            hold: share.part(),
            pieces: Vec::new(),
            open: None,
            length: 0,
            crc: Digest::new(CrcAlgorithm::Crc32Iscsi),
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Counts a block for bytes that are in memory already.
    pub(super) fn count(&mut self, grant: Grant) {
        self.hold.add(grant);
    }

    /// Blocks that are counted.
    pub(super) fn counted(&self) -> usize {
        self.hold.blocks()
    }

    /// Begins with bytes that were gathered before; their blocks are counted.
    pub(super) fn begin(&mut self, tail: Bytes) {
        self.crc.update(&tail);
        self.length += tail.len() as u64;
        self.pieces.push(tail);
    }

    pub(super) fn has_room(&self) -> bool {
        self.open.is_some()
    }

    /// Makes room for a block's bytes.
    pub(super) fn add_room(&mut self, share: &Share, grant: Grant) {
        self.hold.add(grant);
        self.open = Some(share.budget().buffer());
    }

    /// Copies in the beginning of `bytes` as far as there is room, and says how much that was.
    ///
    /// A copy, because small pieces would each hold on to the network buffer they were cut from.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        let Some(open) = &mut self.open else {
            return 0;
        };
        let taken = open.fill(bytes);
        self.crc.update(&bytes[..taken]);
        self.length += taken as u64;
        if open.is_full() {
            self.close();
        }
        taken
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take().filter(|open| !open.as_ref().is_empty()) {
            self.pieces.push(Bytes::from_owner(open));
        }
    }

    /// All bytes in one piece.
    pub(super) fn tail(&mut self) -> Bytes {
        self.close();
        let tail = match self.pieces.as_slice() {
            [] => Bytes::new(),
            [tail] => tail.clone(),
            pieces => {
                let mut tail = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
                for piece in pieces {
                    tail.extend_from_slice(piece);
                }
                tail.freeze()
            }
        };
        self.pieces.clear();
        if !tail.is_empty() {
            self.pieces.push(tail.clone());
        }
        self.hold.keep(blocks(tail.len() as u64));
        tail
    }

    /// Ends the part.
    pub(super) fn seal(mut self) -> Part {
        self.close();
        self.hold.sent();
        Part {
            pieces: mem::take(&mut self.pieces),
            length: self.length,
            crc: self.crc.finalize() as u32,
            _hold: self.hold,
        }
    }
}

/// A part as it is sent.
pub(super) struct Part {
    pieces: Vec<Bytes>,
    length: u64,
    crc: u32,
    _hold: Hold,
}

impl Part {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn crc(&self) -> u32 {
        self.crc
    }

    /// The bytes as the body of a request that can be tried again.
    pub(super) fn body(&self) -> ByteStream {
        let (pieces, length) = (self.pieces.clone(), self.length);
        ByteStream::new(SdkBody::retryable(move || {
            SdkBody::from_body_1_x(Pieces {
                pieces: pieces.clone().into_iter(),
                left: length,
            })
        }))
    }
}

struct Pieces {
    pieces: vec::IntoIter<Bytes>,
    left: u64,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.next();
        if let Some(piece) = &piece {
            self.left -= piece.len() as u64;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_hold_a_hundred_gibibytes() {
        let sum = |size: fn(u32, u64) -> u64| (1..=10_000).map(|n| size(n, 16 * MIB)).sum::<u64>();
        assert!(sum(full_size) > 100 << 30);
        assert!(sum(least_size) > 100 << 30);
    }

    #[test]
    fn no_part_is_smaller_than_servers_take() {
        for number in [1, 999, 1000, 9999, 10_000] {
            assert!(least_size(number, 16 * MIB) >= 5 * MIB);
            assert!(least_size(number, 16 * MIB) <= full_size(number, 16 * MIB));
        }
    }
}
