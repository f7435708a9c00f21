//! Carries a tenant's values through Quadlet and systemd unchanged.
//! Control characters have no place here: resolving refuses them.
//!
//! A value in `[Container]` is read twice. Quadlet splits and unquotes it
//! (`pkg/systemd/parser/split.go` of Podman 5.4) and quotes it anew into `ExecStart=`;
//! systemd unquotes that, and expands `%` and `$` (`systemd.service(5)`, "Command lines").

/// A word of `Exec=`, `Environment=` or `PodmanArgs=`; resolving refuses an empty one,
/// which Quadlet cannot carry.
pub fn word(value: &str) -> String {
    let doubled = expansions(value);
    let plain = |c: char| c.is_alphanumeric() || "%$+,-./:=@_^~".contains(c);
    if doubled.chars().all(plain) {
        return doubled;
    }
    let mut quoted = String::with_capacity(doubled.len() + 2);
    quoted.push('"');
    for c in doubled.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// The words of a command line, as the JSON list that `--entrypoint` takes.
///
/// Quadlet passes `Entrypoint=` on as one word without unquoting it; only the expansions
/// of systemd are left, and the brackets keep quotes from the ends, where Quadlet drops them.
pub fn json_words(words: &[String]) -> String {
    expansions(&serde_json::Value::from(words).to_string())
}

/// Keeps systemd from reading specifiers (`%h`) and variables (`$HOME`) in a command line.
fn expansions(value: &str) -> String {
    value.replace('%', "%%").replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reader::{expand, split, value};
    use super::*;

    proptest! {
        #[test]
        fn words_arrive_unchanged(values in prop::collection::vec(value(), 0..5)) {
            let values: Vec<_> = values.into_iter().filter(|v| !v.is_empty()).collect();
            let line = values.iter().map(|v| word(v)).collect::<Vec<_>>().join(" ");
            prop_assert!(!line.contains('\n'));
            let read: Vec<_> = split(&line).iter().map(|w| expand(w)).collect();
            prop_assert_eq!(read, values);
        }

        #[test]
        fn an_entry_point_arrives_unchanged(values in prop::collection::vec(value(), 1..5)) {
            let line = json_words(&values);
            // Quadlet trims blanks at the end and quotes at both ends of the raw value.
            prop_assert_eq!(line.trim_end().trim_matches('"'), line.as_str());
            let read: Vec<String> = serde_json::from_str(&expand(&line)).unwrap();
            prop_assert_eq!(read, values);
        }
    }

    #[test]
    fn plain_words_stay_readable() {
        assert_eq!(word("TZ=Europe/Berlin"), "TZ=Europe/Berlin");
        assert_eq!(word("a b"), "\"a b\"");
        assert_eq!(word("100% of $HOME"), "\"100%% of $$HOME\"");
        assert_eq!(word(r#"say "hi" \o/"#), r#""say \"hi\" \\o/""#);
    }
}
