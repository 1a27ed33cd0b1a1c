//! What of a body waits to be sent.

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use std::collections::VecDeque;

/// Data below this is joined with what comes after it.
const SMALL: usize = 1024;

/// Frames of a body. Small ones are joined, so that a body costs about what it holds however it was
/// cut into pieces.
#[derive(Debug, Default)]
pub struct Backlog {
    frames: VecDeque<Frame<Bytes>>,
    /// Small frames, behind all others.
    joined: BytesMut,
    bytes: usize,
}

impl Backlog {
    /// How much data waits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.joined.is_empty()
    }

    /// Add what comes next.
    pub fn push(&mut self, frame: Frame<Bytes>) {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => {
                self.close_joined();
                return self.frames.push_back(trailers);
            }
        };
        self.bytes += data.len();
        if data.len() >= SMALL {
            self.close_joined();
        } else if self.joins() {
            return self.joined.extend_from_slice(&data);
        }
        if !data.is_empty() {
            self.frames.push_back(Frame::data(data));
        }
    }

    /// Take what comes first.
    pub fn pop(&mut self) -> Option<Frame<Bytes>> {
        if self.frames.is_empty() {
            self.close_joined();
        }
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.data_ref().map_or(0, Bytes::len);
        Some(frame)
    }

    /// Whether a small frame has others before it that it can be joined with. A single one is never
    /// copied.
    fn joins(&mut self) -> bool {
        let last = self.frames.back().and_then(Frame::data_ref);
        if let Some(last) = last.filter(|last| self.joined.is_empty() && last.len() < SMALL) {
            self.joined.extend_from_slice(last);
            self.frames.pop_back();
        }
        !self.joined.is_empty()
    }

    fn close_joined(&mut self) {
        if !self.joined.is_empty() {
            let joined = std::mem::take(&mut self.joined);
            self.frames.push_back(Frame::data(joined.freeze()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use proptest::prelude::*;

    fn data(frame: Frame<Bytes>) -> Bytes {
        frame.into_data().unwrap_or_default()
    }

    #[test]
    fn what_is_small_is_joined_and_what_is_not_is_not_copied() {
        let mut backlog = Backlog::default();
        let large = Bytes::from(vec![1; SMALL]);
        let small = Bytes::from_static(b"a");
        backlog.push(Frame::data(small.clone()));
        backlog.push(Frame::data(large.clone()));
        for _ in 0..60_000 {
            backlog.push(Frame::data(small.clone()));
            backlog.push(Frame::data(Bytes::new()));
        }
        backlog.push(Frame::trailers(HeaderMap::new()));
        assert_eq!(backlog.bytes(), 1 + SMALL + 60_000);
        assert_eq!(data(backlog.pop().unwrap()).as_ptr(), small.as_ptr());
        assert_eq!(data(backlog.pop().unwrap()).as_ptr(), large.as_ptr());
        assert_eq!(data(backlog.pop().unwrap()), vec![b'a'; 60_000]);
        assert!(backlog.pop().unwrap().is_trailers());
        assert!(backlog.pop().is_none() && backlog.is_empty() && backlog.bytes() == 0);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_was_added(
            steps in prop::collection::vec((0_usize..2 * SMALL, any::<bool>(), any::<u8>()), 0..60),
        ) {
            let mut backlog = Backlog::default();
            let (mut added, mut taken) = (Vec::new(), Vec::new());
            for (length, takes, byte) in steps {
                let piece = vec![byte; length];
                added.extend_from_slice(&piece);
                backlog.push(Frame::data(piece.into()));
                if takes && let Some(frame) = backlog.pop() {
                    taken.extend_from_slice(&data(frame));
                }
                prop_assert_eq!(backlog.bytes(), added.len() - taken.len());
                prop_assert_eq!(backlog.is_empty(), backlog.bytes() == 0);
            }
            while let Some(frame) = backlog.pop() {
                taken.extend_from_slice(&data(frame));
            }
            prop_assert_eq!(added, taken);
        }
    }
}
