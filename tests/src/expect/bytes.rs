//! Long byte streams that can be compared without being kept: every byte depends on its position
//! and on a seed, so that one lost, doubled or moved is found, and its place told.

use std::io::{self, Read, Write};

/// An endless stream of bytes, the same for the same seed.
#[derive(Debug, Clone)]
pub struct Pattern {
    random: fastrand::Rng,
}

impl Pattern {
    /// The stream of that seed, from its beginning.
    pub fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Writes the next `length` bytes in chunks of random size up to 64 KiB.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&mut self, writer: &mut impl Write, length: usize) -> io::Result<()> {
        // Sizes come from a generator of their own, or the bytes would depend on them.
        let mut sizes = fastrand::Rng::new();
        let mut left = length;
        while left > 0 {
            // Small chunks as often as big ones.
            let limit = 1 << sizes.u32(0..=16);
            let chunk = sizes.usize(1..=limit).min(left);
            let bytes: Vec<u8> = (0..chunk).map(|_| self.random.u8(..)).collect();
            writer.write_all(&bytes)?;
            left -= chunk;
        }
        Ok(())
    }

    /// Reads to the end of a stream and compares.
    ///
    /// # Errors
    /// What the reader says; or the first byte that is wrong, or too few or too many bytes.
    pub fn expect(&mut self, reader: &mut impl Read, length: usize) -> io::Result<()> {
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let mut buffer = vec![0; 64 * 1024];
        let mut position = 0;
        loop {
            let count = reader.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            for byte in &buffer[..count] {
                if position == length {
                    return Err(wrong(format!("more than {length} bytes arrived")));
                }
                if *byte != self.random.u8(..) {
                    return Err(wrong(format!(
                        "byte {position} of {length} is not the one that was sent"
                    )));
                }
                position += 1;
            }
        }
        if position < length {
            return Err(wrong(format!(
                "the stream ended after {position} of {length} bytes"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Vec<u8> {
        let mut bytes = Vec::new();
        Pattern::new(7).write(&mut bytes, 300_000).unwrap();
        bytes
    }

    fn verdict(bytes: &[u8]) -> String {
        match Pattern::new(7).expect(&mut &*bytes, 300_000) {
            Ok(()) => "equal".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_same_bytes_are_equal_however_they_were_chunked() {
        assert_eq!(verdict(&sent()), "equal");
    }

    #[test]
    fn a_lost_swapped_or_added_byte_is_told_with_its_place() {
        let mut swapped = sent();
        swapped[299_999] ^= 1;
        assert!(verdict(&swapped).contains("byte 299999 of 300000"));
        assert!(verdict(&sent()[..299_999]).contains("after 299999"));
        let mut more = sent();
        more.push(0);
        assert!(verdict(&more).contains("more than 300000"));
        let mut lost = sent();
        lost.remove(1000);
        assert!(verdict(&lost).contains("is not the one that was sent"));
    }
}
