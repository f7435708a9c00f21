//! How to read a pack of which only some frames are wanted: whole, or by ranges of its age file.
//! It decides and computes; who asks the store is `remote`, who decrypts is `seal`.

use std::ops::Range;

use super::pack::Place;

/// Plain bytes of one chunk of an age payload (<https://c2sp.org/age>, "Payload").
const PLAIN_CHUNK: u64 = 64 << 10;
/// As it is stored: with the 16 bytes of Poly1305 that make each chunk prove itself.
const SEALED_CHUNK: u64 = PLAIN_CHUNK + 16;
/// An age file's header and nonce for one recipient are shorter, whatever stanzas age adds to confuse readers. Where the
/// payload begins is not known before it is read, so this much more is asked for at the end of each range.
const HEADER: u64 = 4096;
/// What one more request costs, as bytes of a transfer: 40 ms at 100 Mbit/s, and what B2 asks for one request is what
/// it asks for 40 KiB of traffic.
const REQUEST: u64 = 512 << 10;

/// Neighbouring chunks of an age payload: what they give, and where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The bytes of the plain pack; they begin with a chunk of the payload.
    pub plain: Range<u64>,
    /// The bytes of the stored object that hold them.
    pub sealed: Range<u64>,
}

/// What to ask the store for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// The whole object.
    Whole,
    /// These spans, in order and apart from each other, and the header before them.
    Spans(Vec<Span>),
}

impl Access {
    /// The cheaper way to these places of a pack that takes `size` bytes in the store.
    pub fn plan(size: u64, places: impl IntoIterator<Item = Place>) -> Self {
        let mut wanted: Vec<Range<u64>> = places
            .into_iter()
            .map(|place| {
                let start = u64::from(place.offset);
                start..start + u64::from(place.stored.max(1))
            })
            .collect();
        wanted.sort_unstable_by_key(|range| range.start);
        let mut spans: Vec<Span> = Vec::new();
        for plain in wanted {
            let plain = plain.start / PLAIN_CHUNK * PLAIN_CHUNK..plain.end;
            let chunks = plain.start / PLAIN_CHUNK..plain.end.div_ceil(PLAIN_CHUNK);
            let sealed = chunks.start * SEALED_CHUNK..chunks.end * SEALED_CHUNK + HEADER;
            match spans.last_mut() {
                Some(last) if sealed.start <= last.sealed.end + REQUEST => {
                    last.plain.end = last.plain.end.max(plain.end);
                    last.sealed.end = last.sealed.end.max(sealed.end);
                }
                _ => spans.push(Span { plain, sealed }),
            }
        }
        if spans.iter().any(|span| span.sealed.start >= size) {
            // The tree says what cannot be; the whole pack shows it.
            return Self::Whole;
        }
        for span in &mut spans {
            span.sealed.end = span.sealed.end.min(size);
        }
        let access = Self::Spans(spans);
        let (bytes, requests) = access.cost(size);
        // It must be worth at least a request: what is read whole is proved by its digest.
        if bytes + requests * REQUEST <= size {
            access
        } else {
            Self::Whole
        }
    }

    /// The ranges of the stored object to ask for: the header, and each span.
    pub fn requests(&self) -> Vec<Range<u64>> {
        let Self::Spans(spans) = self else {
            return Vec::new();
        };
        let mut requests: Vec<Range<u64>> = spans.iter().map(|span| span.sealed.clone()).collect();
        match requests.first_mut() {
            Some(first) if first.start <= REQUEST => first.start = 0,
            _ => requests.insert(0, 0..HEADER),
        }
        requests
    }

    /// Bytes and requests that it takes, of a pack of `size` bytes.
    pub fn cost(&self, size: u64) -> (u64, u64) {
        match self {
            Self::Whole => (size, 1),
            Self::Spans(_) => {
                let requests = self.requests();
                let bytes = requests.iter().map(|range| range.end - range.start).sum();
                (bytes, requests.len() as u64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const PACK: u64 = 16 << 20;

    fn place((offset, stored): (u32, u32)) -> Place {
        Place {
            offset,
            stored,
            length: 1,
        }
    }

    fn requests(size: u64, places: &[(u32, u32)]) -> Vec<Range<u64>> {
        Access::plan(size, places.iter().copied().map(place)).requests()
    }

    #[rstest]
    #[case::one_at_the_start(PACK, &[(0, 100)], &[(0, 69_648)])]
    #[case::one_in_the_middle(PACK, &[(8 << 20, 100)], &[(0, 4096), (8_390_656, 8_460_304)])]
    #[case::over_a_border(PACK, &[(65_000, 1000)], &[(0, 135_200)])]
    #[case::the_last(1_000_000, &[(990_000, 100)], &[])]
    #[case::near_ones_are_one(PACK, &[(8 << 20, 100), ((8 << 20) + 400_000, 9)], &[(0, 4096), (8_390_656, 8_853_616)])]
    #[case::far_ones_are_two(PACK, &[(12 << 20, 100), (8 << 20, 100)], &[(0, 4096), (8_390_656, 8_460_304), (12_585_984, 12_655_632)])]
    #[case::a_small_pack_is_read_whole(600_000, &[(0, 100), (300_000, 9)], &[])]
    #[case::most_of_it(PACK, &[(0, 8 << 20), (9 << 20, 7 << 20)], &[])]
    #[case::many_far_apart(PACK, &[(0, 1), (1 << 20, 1), (2 << 20, 1), (3 << 20, 1), (4 << 20, 1), (5 << 20, 1), (6 << 20, 1), (7 << 20, 1), (8 << 20, 1), (9 << 20, 1), (10 << 20, 1), (11 << 20, 1), (12 << 20, 1), (13 << 20, 1), (14 << 20, 1), (15 << 20, 1)], &[(0, 69_648), (1_048_832, 1_118_480), (2_097_664, 2_167_312), (3_146_496, 3_216_144), (4_195_328, 4_264_976), (5_244_160, 5_313_808), (6_292_992, 6_362_640), (7_341_824, 7_411_472), (8_390_656, 8_460_304), (9_439_488, 9_509_136), (10_488_320, 10_557_968), (11_537_152, 11_606_800), (12_585_984, 12_655_632), (13_634_816, 13_704_464), (14_683_648, 14_753_296), (15_732_480, 15_802_128)])]
    #[case::outside(PACK, &[(u32::MAX, u32::MAX)], &[])]
    fn what_is_asked_for(
        #[case] size: u64,
        #[case] places: &[(u32, u32)],
        #[case] expected: &[(u64, u64)],
    ) {
        let found = requests(size, places);
        let found: Vec<(u64, u64)> = found.iter().map(|range| (range.start, range.end)).collect();
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn all_that_is_wanted_is_covered_and_it_never_costs_more(
            places in prop::collection::vec((0_u32..16_000_000, 1_u32..700_000), 1..40),
        ) {
            let access = Access::plan(PACK, places.iter().copied().map(place));
            let (bytes, count) = access.cost(PACK);
            prop_assert!(bytes + count * REQUEST <= PACK + REQUEST);
            if let Access::Spans(spans) = &access {
                for (offset, stored) in places {
                    let (start, end) = (u64::from(offset), u64::from(offset) + u64::from(stored));
                    let holds = |span: &&Span| span.plain.start <= start && end <= span.plain.end;
                    prop_assert!(spans.iter().any(|span| holds(&span)));
                }
                prop_assert!(spans.is_sorted_by(|a, b| a.plain.end <= b.plain.start));
                let requests = access.requests();
                prop_assert!(requests[0].start == 0);
                prop_assert!(requests.is_sorted_by(|a, b| a.end <= b.start));
            }
        }
    }
}
