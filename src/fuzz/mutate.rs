//! Damages bytes as attackers and bad luck do: little by little, with numbers at the edges, and without respect for form.

/// Longer than this no input grows.
const MAX_INPUT: usize = 1 << 20;

const NUMBERS: [&str; 10] = [
    "0",
    "-1",
    "1e309",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "0.5",
    "99999999999999999999999999999999",
];

const WORDS: [&[u8]; 12] = [
    b"\n", b"\"", b"\\", b"%00", b"../", b"/", b"\0", b"null", b"{}", b"[]", b"\xff", b"&#x0;",
];

/// One of the seeds, damaged one to eight times.
pub fn mutated(dice: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[dice.usize(..seeds.len())].clone();
    for _ in 0..dice.usize(1..=8) {
        damage(dice, &mut bytes, seeds);
        bytes.truncate(MAX_INPUT);
    }
    bytes
}

fn damage(dice: &mut fastrand::Rng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = dice.usize(..=bytes.len());
    // Mostly short, seldom long.
    let most = 1 << dice.u32(..10);
    let length = dice.usize(..=most).min(bytes.len() - at);
    match dice.u8(..12) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << dice.u8(..8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = [0, 1, 0x7f, 0x80, 0xff][dice.usize(..5)];
            }
        }
        3 => drop(bytes.drain(at..at + length)),
        4 => {
            let noise: Vec<u8> = (0..dice.usize(1..40)).map(|_| dice.u8(..)).collect();
            bytes.splice(at..at, noise);
        }
        5 => {
            // A piece comes again, here or elsewhere, once or very often.
            let times = [1, 1, 2, 1000][dice.usize(..4)];
            let piece = bytes[at..at + length].repeat(times.min(MAX_INPUT / (length + 1)));
            let to = dice.usize(..=bytes.len());
            bytes.splice(to..to, piece);
        }
        6 => {
            let other = &seeds[dice.usize(..seeds.len())];
            let from = dice.usize(..=other.len());
            bytes.splice(at..at + length, other[from..].iter().copied());
        }
        7 => replace_number(dice, bytes, at),
        8 => {
            let number = [0, 1, u64::MAX, u64::MAX >> 1, 1 << 31, 1 << 32][dice.usize(..6)];
            let width = [1, 2, 4, 8][dice.usize(..4)];
            let to = (at + width).min(bytes.len());
            bytes.splice(at..to, number.to_le_bytes()[..width].iter().copied());
        }
        9 => bytes.truncate(at),
        10 => {
            let word = WORDS[dice.usize(..WORDS.len())];
            bytes.splice(at..at, word.iter().copied());
        }
        _ => {
            // Deeper than any stack.
            let open: &[u8] = [&b"["[..], b"{\"a\":", b"<a>"][dice.usize(..3)];
            bytes.splice(at..at, open.repeat(dice.usize(..20_000)));
        }
    }
}

/// Replaces the next number in digits by one at an edge.
fn replace_number(dice: &mut fastrand::Rng, bytes: &mut Vec<u8>, at: usize) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let Some(skip) = bytes[at..].iter().position(is_digit) else {
        return;
    };
    let start = at + skip;
    let length = bytes[start..]
        .iter()
        .take_while(|byte| is_digit(byte))
        .count();
    let number = NUMBERS[dice.usize(..NUMBERS.len())];
    bytes.splice(start..start + length, number.bytes());
}

#[test]
fn inputs_differ_from_their_seeds_and_are_the_same_for_the_same_seed() {
    let seeds = vec![b"{\"size\":123}".to_vec()];
    let draw = |seed| {
        let mut dice = fastrand::Rng::with_seed(seed);
        (0..100)
            .map(|_| mutated(&mut dice, &seeds))
            .collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    let changed = draw(1).iter().filter(|input| **input != seeds[0]).count();
    assert!(changed > 80, "{changed} of 100");
}
