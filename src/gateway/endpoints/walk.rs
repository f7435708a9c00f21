//! Walks through a JSON text byte by byte and tells of the few values that somebody asks for, by their paths.
//! Pure, and in memory that does not grow with the text; what is no JSON makes it tell nothing, or nonsense, but no harm.

/// Deepest nesting that is followed; values below it are passed over.
const DEPTH: usize = 64;

/// Longest key, number or text that is kept; of longer ones only the beginning is.
const WORD: usize = 128;

/// A value at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf<'a> {
    /// A whole number; others are not told.
    Count(u64),
    /// A text: its beginning, with escapes as they were written, and its length in bytes.
    Text(&'a [u8], u64),
}

/// Where in the text the walk is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Before a value.
    #[default]
    Value,
    /// Before a key or the end of an object.
    Key,
    InKey,
    /// Between a key and its colon.
    Colon,
    InText,
    /// In a number or a word such as `true`.
    InWord,
    /// After a value.
    After,
}

/// One object or array around the place of the walk.
#[derive(Debug, Clone, Default)]
struct Level<K> {
    is_object: bool,
    key: Option<K>,
}

/// The walk. `K` stands for the keys that matter; all others are passed over with what is below them.
#[derive(Debug, Clone)]
pub struct Walk<K> {
    levels: Vec<Level<K>>,
    /// Levels beyond [`DEPTH`].
    beyond: u64,
    state: State,
    escaped: bool,
    word: Vec<u8>,
    length: u64,
    /// The keys that matter around the place, outermost first; arrays are passed through.
    path: Vec<K>,
}

impl<K> Default for Walk<K> {
    fn default() -> Self {
        Self {
            levels: Vec::new(),
            beyond: 0,
            state: State::Value,
            escaped: false,
            word: Vec::new(),
            length: 0,
            path: Vec::new(),
        }
    }
}

impl<K: Copy> Walk<K> {
    /// Goes on through `bytes`. `known` tells which keys matter, `found` hears of values whose whole path does.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        known: impl Fn(&[u8]) -> Option<K>,
        mut found: impl FnMut(&[K], Leaf<'_>),
    ) {
        for byte in bytes {
            self.step(*byte, &known, &mut found);
        }
    }

    /// The text ends here: tells of a number that it ended with. The next text begins anew.
    pub fn end(&mut self, mut found: impl FnMut(&[K], Leaf<'_>)) {
        if self.state == State::InWord {
            self.tell(&mut found);
        }
        self.levels.clear();
        self.beyond = 0;
        self.state = State::Value;
        self.escaped = false;
        self.take_word();
    }

    fn step(
        &mut self,
        byte: u8,
        known: &impl Fn(&[u8]) -> Option<K>,
        found: &mut impl FnMut(&[K], Leaf<'_>),
    ) {
        match self.state {
            State::InKey | State::InText => self.in_quotes(byte, known, found),
            State::InWord if is_of_word(byte) => self.keep(byte),
            State::InWord => {
                self.tell(found);
                self.take_word();
                self.state = State::After;
                self.between(byte);
            }
            State::Value | State::Key | State::Colon | State::After => self.between(byte),
        }
    }

    fn in_quotes(
        &mut self,
        byte: u8,
        known: &impl Fn(&[u8]) -> Option<K>,
        found: &mut impl FnMut(&[K], Leaf<'_>),
    ) {
        if self.escaped || byte != b'"' {
            self.escaped = !self.escaped && byte == b'\\';
            return self.keep(byte);
        }
        if self.state == State::InKey {
            let key = known(&self.word);
            if let Some(level) = self.levels.last_mut().filter(|_| self.beyond == 0) {
                level.key = key;
            }
            self.state = State::Colon;
        } else {
            self.tell(found);
            self.state = State::After;
        }
        self.take_word();
    }

    /// Outside of keys and values.
    fn between(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (_, b' ' | b'\t' | b'\r' | b'\n') => return,
            (State::Key, b'"') => State::InKey,
            (_, b'"') => State::InText,
            (State::Colon, b':') => State::Value,
            (_, b'{') => self.enter(true),
            (_, b'[') => self.enter(false),
            (_, b'}' | b']') => self.leave(),
            (_, b',') => self.next(),
            (State::Value, _) => {
                self.keep(byte);
                State::InWord
            }
            (state, _) => state,
        };
    }

    fn enter(&mut self, is_object: bool) -> State {
        if self.levels.len() < DEPTH {
            self.levels.push(Level {
                is_object,
                key: None,
            });
        } else {
            self.beyond += 1;
        }
        // Beyond, texts may be taken for keys and keys for texts: both are passed over alike.
        if is_object { State::Key } else { State::Value }
    }

    fn leave(&mut self) -> State {
        if self.beyond > 0 {
            self.beyond -= 1;
        } else {
            self.levels.pop();
        }
        State::After
    }

    fn next(&mut self) -> State {
        let is_object = self.levels.last().is_some_and(|level| level.is_object);
        if is_object && self.beyond == 0 {
            State::Key
        } else {
            State::Value
        }
    }

    fn keep(&mut self, byte: u8) {
        self.length += 1;
        if self.word.len() < WORD {
            self.word.push(byte);
        }
    }

    fn take_word(&mut self) {
        self.word.clear();
        self.length = 0;
    }

    /// Tells of the value that has just ended, if every key around it matters.
    fn tell(&mut self, found: &mut impl FnMut(&[K], Leaf<'_>)) {
        if self.beyond > 0 {
            return;
        }
        self.path.clear();
        for level in self.levels.iter().filter(|level| level.is_object) {
            let Some(key) = level.key else { return };
            self.path.push(key);
        }
        if self.state == State::InText {
            return found(&self.path, Leaf::Text(&self.word, self.length));
        }
        let text = std::str::from_utf8(&self.word).ok();
        if let Some(count) = text.and_then(|text| text.parse().ok()) {
            found(&self.path, Leaf::Count(count));
        }
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// All that a walk tells of a text in pieces, where the keys `a`, `b` and `c` matter.
    fn told(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let known = |key: &[u8]| matches!(key, b"a" | b"b" | b"c").then(|| key[0]);
        let mut told = Vec::new();
        let mut found = |path: &[u8], leaf: Leaf<'_>| {
            let path = String::from_utf8(path.to_vec()).unwrap();
            told.push((
                path,
                match leaf {
                    Leaf::Count(count) => count.to_string(),
                    Leaf::Text(text, length) => {
                        format!("{}/{length}", String::from_utf8_lossy(text))
                    }
                },
            ));
        };
        let mut walk = Walk::default();
        for piece in pieces {
            walk.feed(piece, known, &mut found);
        }
        walk.end(&mut found);
        told
    }

    #[test]
    fn values_are_told_by_their_paths() {
        let text = br#" {"a": 1, "x": {"a": 2}, "b": {"c": [3, {"a": "t\"{"}], "a": -4}, "c": 5.5, "a": true, "b": 6} "#;
        let expected = [("a", "1"), ("bc", "3"), ("bca", "t\\\"{/4"), ("b", "6")];
        let expected = expected.map(|(path, value)| (path.to_owned(), value.to_owned()));
        assert_eq!(told(&[text]), expected);
        assert_eq!(told(&[b"7"]), [(String::new(), "7".to_owned())]);
    }

    #[test]
    fn a_text_of_any_length_is_told_by_its_beginning() {
        let text = format!("{{\"a\":\"{}\"}}", "x".repeat(1_000_000));
        let found = told(&[text.as_bytes()]);
        assert_eq!(
            found,
            [("a".to_owned(), format!("{}/1000000", "x".repeat(WORD)))]
        );
    }

    #[test]
    fn what_is_nested_too_deep_is_passed_over_and_what_follows_is_not() {
        let text = format!("{{\"a\":{}1{},\"b\":2}}", "[".repeat(500), "]".repeat(500));
        assert_eq!(told(&[text.as_bytes()]), [("b".to_owned(), "2".to_owned())]);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            "[a-c\\\\\"{}\\[\\],: ]{0,6}".prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(5, 60, 5, |inner| {
            let key = prop_oneof![Just("a"), Just("b"), Just("c"), Just("x"), Just("\"}")];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..5).prop_map(|fields| {
                    let fields = fields
                        .into_iter()
                        .map(|(key, value)| (key.to_owned(), value));
                    Value::Object(fields.collect())
                }),
            ]
        })
    }

    /// The counts that another parser finds.
    fn counts(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    if matches!(key.as_str(), "a" | "b" | "c") {
                        counts(value, &format!("{path}{key}"), found);
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| counts(value, path, found)),
            Value::Number(number) if number.is_u64() => {
                found.push((path.to_owned(), number.to_string()));
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_a_parser_finds(value in json()) {
            let mut expected = Vec::new();
            counts(&value, "", &mut expected);
            for text in [value.to_string(), format!("{value:#}")] {
                let mut found = told(&[text.as_bytes()]);
                found.retain(|(_, value)| !value.contains('/'));
                prop_assert_eq!(&found, &expected);
            }
        }

        #[test]
        fn a_split_at_any_byte_changes_nothing(value in json(), at in any::<prop::sample::Index>()) {
            let text = value.to_string();
            let (one, two) = text.as_bytes().split_at(at.index(text.len()));
            prop_assert_eq!(told(&[one, two]), told(&[text.as_bytes()]));
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\".to_vec())], 0..300)) {
            told(&[&bytes]);
        }
    }
}
