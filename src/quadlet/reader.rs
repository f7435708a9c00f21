//! Reads what rendering wrote, by the rules of Quadlet and systemd; for tests.

use proptest::prelude::*;

/// Splits like Quadlet and systemd do: blanks separate, quotes group, backslashes escape.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                let escaped = match chars.next().expect("a backslash escapes something") {
                    't' => '\t',
                    c @ ('"' | '\'' | '\\') => c,
                    other => panic!("no escape is written as \\{other}"),
                };
                word.get_or_insert_default().push(escaped);
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ' | '\t' | '\n' | '\r', None) => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    assert_eq!(quote, None, "unbalanced quotes in {line:?}");
    words.extend(word);
    words
}

/// systemd's expansion, where only the doubled signs may occur.
pub fn expand(word: &str) -> String {
    let mut out = String::new();
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        if matches!(c, '%' | '$') {
            assert_eq!(chars.next(), Some(c), "a lone {c} in {word:?}");
        }
        out.push(c);
    }
    out
}

/// What survives resolving: no control characters but the tab.
pub fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::string::string_regex("[ \t%$\"'\\\\;{}a-z=#!@-]{0,12}").expect("a pattern"),
        any::<String>().prop_map(|text| {
            text.chars()
                .filter(|c| !c.is_control() || *c == '\t')
                .collect()
        }),
    ]
}
