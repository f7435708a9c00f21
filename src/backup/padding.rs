//! Padding inside the ciphertext, so that the size of an object in the bucket tells only its class.
//! It reckons sizes and appends bytes; what is padded is its callers' affair.

/// The magic number of the skippable frame (RFC 8878, 3.1.2) that pads; any zstd passes over it.
pub const PADDING: u32 = 0x184D_2A51;
/// Magic number and length.
pub const FRAME_HEADER: usize = 8;

/// The class that a length belongs to: the Padmé rule of "Reducing Metadata Leakage from Encrypted Files
/// and Communication with PURBs" (Nikitin et al., PETS 2019).
///
/// A class keeps only as many leading bits of the length as the length of its length has, so that at
/// most 12 % are added, less the longer it is, and a length of up to 16 MiB tells about seven bits.
pub const fn padded_length(length: usize) -> usize {
    let Some(exponent) = length.checked_ilog2() else {
        return 0;
    };
    let Some(bits) = exponent.checked_ilog2() else {
        return length;
    };
    let granule = 1_usize << (exponent - bits - 1);
    length.div_ceil(granule) * granule
}

/// Appends a frame of padding after which `plain` and what `follows` it have the length of a class.
pub fn pad(plain: &mut Vec<u8>, follows: usize) {
    let length = plain.len() + FRAME_HEADER + follows;
    let fill = padded_length(length) - length;
    plain.extend_from_slice(&PADDING.to_le_bytes());
    plain.extend_from_slice(&u32::try_from(fill).unwrap_or(u32::MAX).to_le_bytes());
    plain.resize(plain.len() + fill, 0);
}

/// Whether `bytes` are one frame of padding and nothing else.
pub fn is_padding(bytes: &[u8]) -> bool {
    let Some((header, fill)) = bytes.split_first_chunk::<FRAME_HEADER>() else {
        return false;
    };
    let frame = (u64::from(PADDING) | ((fill.len() as u64) << 32)).to_le_bytes();
    *header == frame
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::backup::pack::{MAX_PACK, MAX_PLAIN};

    #[rstest]
    #[case(0, 0)]
    #[case(1, 1)]
    #[case(8, 8)]
    #[case(9, 10)]
    #[case(1000, 1024)]
    #[case(1025, 1088)]
    #[case(65_537, 67_584)]
    #[case(1_000_001, 1_015_808)]
    #[case(16_000_000, 16_252_928)]
    fn a_length_has_the_class_of_padme(#[case] length: usize, #[case] class: usize) {
        assert_eq!(padded_length(length), class);
    }

    proptest! {
        #[test]
        fn a_class_is_its_own_and_never_much_longer(length in 1_usize..MAX_PACK) {
            let class = padded_length(length);
            prop_assert!(class >= length);
            prop_assert_eq!(padded_length(class), class);
            prop_assert!((class - length) * 100 <= length * 12, "{} -> {}", length, class);
        }

        #[test]
        fn what_is_padded_has_the_length_of_a_class(length in 0_usize..100_000, follows in 0_usize..10_000) {
            let mut plain = vec![7; length];
            pad(&mut plain, follows);
            prop_assert_eq!(padded_length(plain.len() + follows), plain.len() + follows);
            prop_assert!(is_padding(&plain[length..]));
            prop_assert!(!is_padding(&plain[length..plain.len() - 1]));
        }
    }

    #[test]
    fn the_longest_pack_is_a_class_and_leaves_room_for_age() {
        assert_eq!(padded_length(MAX_PLAIN), MAX_PLAIN);
        let age = (MAX_PLAIN / (64 << 10) + 1) * 16 + 1024;
        assert!(MAX_PLAIN + age <= MAX_PACK);
    }

    #[test]
    fn sizes_up_to_a_full_pack_fall_into_few_classes() {
        let classes: BTreeSet<usize> = (1..=MAX_PLAIN).step_by(97).map(padded_length).collect();
        assert!(classes.len() < 450, "{}", classes.len());
        // What is added to packs of typical sizes, on average: in thousandths.
        for (from, to, permille) in [(4 << 10, 64 << 10, 19), (1 << 20, 15 << 20, 11)] {
            let sizes = (from..to).step_by(509);
            let (plain, padded) = sizes.fold((0, 0), |(plain, padded), size| {
                (plain + size, padded + padded_length(size))
            });
            let added = 1000 * (padded - plain) / plain;
            assert!(added < permille, "{from}..{to}: {added} ‰");
        }
    }

    #[test]
    fn a_zstd_stream_reads_the_same_with_padding() {
        let mut stream = zstd::bulk::compress(b"content", 3).unwrap();
        pad(&mut stream, 0);
        assert_eq!(zstd::decode_all(stream.as_slice()).unwrap(), b"content");
    }
}
