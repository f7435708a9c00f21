//! One chunk as one zstd frame: compressed, or stored as it is where compressing could only cost time.
//! Any decompressor reads both.

use std::io;

use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

/// zstd at its fastest looks for hardly anything, and stores what it does not find.
const STORE: i32 = -131_072;

/// Makes frames.
pub struct FrameWriter {
    compress: Compressor<'static>,
    store: Compressor<'static>,
}

impl FrameWriter {
    /// `level` is zstd's.
    ///
    /// # Errors
    /// zstd does not know the level.
    pub fn new(level: i32) -> io::Result<Self> {
        Ok(Self {
            compress: Compressor::new(level)?,
            store: Compressor::new(STORE)?,
        })
    }

    /// The longest frame of a chunk of `length` bytes.
    pub fn bound(length: usize) -> usize {
        compress_bound(length)
    }

    /// Appends the frame of a chunk, and gives its length.
    ///
    /// # Errors
    /// zstd's.
    pub fn append(&mut self, chunk: &[u8], to: &mut Vec<u8>) -> io::Result<usize> {
        let start = to.len();
        to.resize(start + Self::bound(chunk.len()), 0);
        let compressor = if is_noise(chunk) {
            &mut self.store
        } else {
            &mut self.compress
        };
        let length = compressor.compress_to_buffer(chunk, &mut to[start..])?;
        to.truncate(start + length);
        Ok(length)
    }
}

/// So many samples of a chunk are looked at, evenly spread …
const SAMPLES: usize = 4;
/// … each of so many bytes.
const SAMPLE: usize = 2048;

/// Whether all samples of a chunk have bytes of every value equally often, as what is compressed or encrypted
/// already has. That takes a hundredth of the time of finding out by compressing.
fn is_noise(chunk: &[u8]) -> bool {
    if chunk.len() < SAMPLES * SAMPLE {
        return false;
    }
    let step = (chunk.len() - SAMPLE) / (SAMPLES - 1);
    (0..SAMPLES).all(|sample| is_even(&chunk[sample * step..][..SAMPLE]))
}

/// Whether the squares of the counts of each value add up to what chance gives, and hardly more: for random bytes
/// that is `SAMPLE² / 256 + SAMPLE`, 18 432 with a standard deviation of 180.
fn is_even(sample: &[u8]) -> bool {
    let mut counts = [0_u32; 256];
    for byte in sample {
        counts[usize::from(*byte)] += 1;
    }
    counts.iter().map(|count| count * count).sum::<u32>() < 20_480
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    #[rstest]
    #[case::noise(noise(300_000), 1.01)]
    #[case::text(b"some text of an agent ".repeat(10_000), 0.01)]
    #[case::noise_and_then_text([noise(100_000), b"text ".repeat(20_000)].concat(), 0.6)]
    #[case::numbers((0..60_000_u32).flat_map(u32::to_le_bytes).collect(), 0.7)]
    #[case::little(noise(100), 1.3)]
    #[case::nothing(Vec::new(), 1.0)]
    fn only_what_does_not_compress_is_stored(#[case] chunk: Vec<u8>, #[case] most: f64) {
        let mut frames = FrameWriter::new(3).unwrap();
        let mut out = b"before".to_vec();
        let length = frames.append(&chunk, &mut out).unwrap();
        assert_eq!(out.len(), 6 + length);
        #[expect(clippy::cast_precision_loss, reason = "a few hundred thousand bytes")]
        let ratio = length as f64 / chunk.len().max(9) as f64;
        assert!(ratio <= most, "{ratio}");
        assert_eq!(zstd::decode_all(&out[6..]).unwrap(), chunk);
    }
}
