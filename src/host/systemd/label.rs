//! Unit names as D-Bus object paths and back, as systemd's `bus_label_escape` does.
//! Pure text.

use std::fmt::Write;

/// Where systemd has its units on the bus.
pub(super) const UNITS: &str = "/org/freedesktop/systemd1/unit";

/// The object path of a unit.
pub(super) fn unit_path(unit: &str) -> String {
    let mut path = format!("{UNITS}/");
    for (i, byte) in unit.bytes().enumerate() {
        // A digit may not come first, and everything but ASCII letters and digits is escaped.
        if byte.is_ascii_alphabetic() || (i > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(path, "_{byte:02x}");
        }
    }
    path
}

/// The unit that an object path names, if it names one.
pub(super) fn unit_name(path: &str) -> Option<String> {
    let label = path.strip_prefix(UNITS)?.strip_prefix('/')?;
    let mut name = Vec::with_capacity(label.len());
    let mut bytes = label.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'_' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            name.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            name.push(byte);
        }
    }
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn writes_paths_as_systemd_does() {
        assert_eq!(
            unit_path(r"tenantd-net@foo\x2dbar.service"),
            "/org/freedesktop/systemd1/unit/tenantd_2dnet_40foo_5cx2dbar_2eservice"
        );
        assert_eq!(
            unit_path("0a.mount"),
            "/org/freedesktop/systemd1/unit/_30a_2emount"
        );
    }

    #[test]
    fn reads_no_name_from_a_foreign_or_broken_path() {
        for path in [
            "/org/freedesktop/systemd1",
            "/org/freedesktop/systemd1/unit/a_2",
        ] {
            assert_eq!(unit_name(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_path_leads_back_to_its_unit(unit in "[a-z0-9@.\\\\_-]{1,40}") {
            prop_assert_eq!(unit_name(&unit_path(&unit)), Some(unit));
        }
    }
}
