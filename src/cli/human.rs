//! Ages, lengths of time and sizes as people read them.
//! Pure: the time now is given.

use std::time::Duration;

use jiff::Timestamp;

/// How long ago `then` was.
pub fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.as_second() - then.as_second();
    match seconds {
        ..=0 => "now".to_owned(),
        1..=59 => format!("{seconds} s ago"),
        60..=3599 => format!("{} min ago", seconds / 60),
        // Up to two days in hours: a backup of 30 hours ago is not one of yesterday.
        3600..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// A length of time.
pub fn length(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        // A pause of an agent is one of these.
        0 if length.as_millis() < 100 => format!("{} ms", length.as_millis()),
        0..=59 => format!("{:.1} s", length.as_secs_f64()),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// From one time to a later one.
pub fn between(from: Timestamp, to: Timestamp) -> String {
    length(Duration::try_from(to.duration_since(from)).unwrap_or_default())
}

/// A number of bytes.
pub fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// `word`, with an s unless there is exactly one.
pub fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(-5, "now")]
    #[case(0, "now")]
    #[case(59, "59 s ago")]
    #[case(60, "1 min ago")]
    #[case(3600, "1 h ago")]
    #[case(172_799, "47 h ago")]
    #[case(172_800, "2 days ago")]
    fn ages(#[case] seconds: i64, #[case] expected: &str) {
        let then = Timestamp::from_second(1_000_000).unwrap();
        let now = Timestamp::from_second(1_000_000 + seconds).unwrap();
        assert_eq!(age(now, then), expected);
    }

    #[rstest]
    #[case(0, "0 ms")]
    #[case(99, "99 ms")]
    #[case(340, "0.3 s")]
    #[case(59_000, "59.0 s")]
    #[case(61_000, "1 min 1 s")]
    #[case(3_720_000, "1 h 2 min")]
    fn lengths(#[case] milliseconds: u64, #[case] expected: &str) {
        assert_eq!(length(Duration::from_millis(milliseconds)), expected);
    }

    #[rstest]
    #[case(0, "0 B")]
    #[case(1536, "1.50 KiB")]
    #[case(3 << 20, "3.00 MiB")]
    fn sizes(#[case] count: u64, #[case] expected: &str) {
        assert_eq!(bytes(count), expected);
    }
}
