//! Reads from a provider's answer, while it passes, what it counted: a JSON document or a stream of events.
//! Pure; it keeps no part of the answer but the model's name, and changes none.
//!
//! Counts are at fixed places that no model's words can reach: `usage` at the top (Anthropic's messages, `OpenAI`'s
//! chat completions and embeddings), in `message` (Anthropic's `message_start`) and in `response` (`OpenAI`'s
//! `response.completed`). They only grow while a stream goes on, so the greatest is the last.

use super::walk::{Leaf, Walk};
use crate::tenant::Tokens;

/// Longest name of a model.
const MODEL: usize = 128;

/// Bytes of text that count as one token where nobody counted: providers' own rule of thumb for English.
const BYTES_PER_TOKEN: u64 = 4;

/// The keys that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Usage,
    Message,
    Response,
    Model,
    Input,
    Output,
    CacheRead,
    CacheWrite,
    InputDetails,
    Cached,
    /// Around words of the model.
    Around,
    /// Words of the model.
    Words,
    /// Both: an event has its words in `delta`, or below it.
    Delta,
    Content,
}

fn known(key: &[u8]) -> Option<Key> {
    Some(match key {
        b"usage" => Key::Usage,
        b"message" => Key::Message,
        b"response" => Key::Response,
        b"model" => Key::Model,
        b"input_tokens" | b"prompt_tokens" => Key::Input,
        b"output_tokens" | b"completion_tokens" => Key::Output,
        b"cache_read_input_tokens" => Key::CacheRead,
        b"cache_creation_input_tokens" => Key::CacheWrite,
        b"prompt_tokens_details" | b"input_tokens_details" => Key::InputDetails,
        b"cached_tokens" => Key::Cached,
        b"choices" | b"content_block" | b"tool_calls" | b"function" | b"output" => Key::Around,
        b"text" | b"partial_json" | b"thinking" | b"arguments" | b"reasoning_content" => Key::Words,
        b"delta" => Key::Delta,
        b"content" => Key::Content,
        _ => return None,
    })
}

/// What an answer has said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// The model, where it is named.
    pub model: Option<String>,
    counted: Option<Counted>,
    /// Bytes of the model's words.
    words: u64,
}

/// The counts as they are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counted {
    tokens: Tokens,
    /// Those of the cache that `OpenAI` counts among the input.
    cached: u64,
    has_output: bool,
}

/// What a request has used, and how that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// The tokens.
    pub tokens: Tokens,
    /// Whether some of them are a guess.
    pub is_estimate: bool,
}

impl Said {
    fn hear(&mut self, path: &[Key], leaf: Leaf<'_>) {
        use Key::{Cached, Content, Delta, InputDetails, Message, Model, Response, Usage, Words};
        match (path, leaf) {
            ([Model] | [Message | Response, Model], Leaf::Text(name, length)) => {
                let is_name = length <= MODEL as u64 && name.iter().all(u8::is_ascii_graphic);
                if is_name && length > 0 {
                    self.model = std::str::from_utf8(name).ok().map(str::to_owned);
                }
            }
            ([Usage, place @ ..] | [Message | Response, Usage, place @ ..], Leaf::Count(count)) => {
                let counted = self.counted.get_or_insert_default();
                let place = match place {
                    [Key::Input] => &mut counted.tokens.input,
                    [Key::Output] => &mut counted.tokens.output,
                    [Key::CacheRead] => &mut counted.tokens.cache_read,
                    [Key::CacheWrite] => &mut counted.tokens.cache_write,
                    [InputDetails, Cached] => &mut counted.cached,
                    _ => return,
                };
                *place = count.max(*place);
            }
            ([.., Words | Delta | Content], Leaf::Text(_, length)) if path[0] != Response => {
                self.words = self.words.saturating_add(length);
            }
            _ => {}
        }
    }

    /// What the request has used. `sent` and `received` are the lengths of its own body and its answer's in bytes;
    /// `is_whole` says whether the answer came to its end. What was not counted by then is guessed from the words that
    /// were seen, and where a whole answer had none that can be read, from its length.
    pub fn used(&self, (sent, received): (u64, u64), is_whole: bool) -> Used {
        let words = self.words.div_ceil(BYTES_PER_TOKEN);
        match self.counted {
            Some(counted) => {
                let cached = counted.cached.min(counted.tokens.input);
                let mut tokens = counted.tokens;
                tokens.input -= cached;
                tokens.cache_read = tokens.cache_read.saturating_add(cached);
                // The last count of a stream that broke off was made before its last words.
                let is_short = !is_whole && tokens.output < words;
                tokens.output = if is_short { words } else { tokens.output };
                Used {
                    tokens,
                    is_estimate: is_short,
                }
            }
            None if is_whole && self.words == 0 => guessed(sent, received),
            None => Used {
                tokens: Tokens {
                    input: guess(sent),
                    output: words,
                    ..Tokens::default()
                },
                is_estimate: true,
            },
        }
    }
}

/// Tokens that a request of so many bytes may have.
pub fn guess(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// What a request has used whose answer cannot be read, by the bytes of both.
pub fn guessed(sent: u64, received: u64) -> Used {
    let tokens = Tokens {
        input: guess(sent),
        output: guess(received),
        ..Tokens::default()
    };
    Used {
        tokens,
        is_estimate: tokens.total() > 0,
    }
}

/// Whether the length of an answer says nothing of its tokens: sounds, pictures, films.
pub fn is_media(content_type: &str) -> bool {
    let kind = content_type.trim_start().split('/').next();
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    matches!(kind.as_str(), "audio" | "image" | "video")
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON document.
    Json,
    /// Events (WHATWG HTML, "Server-sent events") with a JSON document each.
    Events,
}

impl Form {
    /// The form that a content type tells; none where there is nothing to be read.
    pub fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "text/event-stream" => Some(Self::Events),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Reads one answer.
#[derive(Debug, Clone)]
pub struct Reading {
    walk: Walk<Key>,
    said: Said,
    line: Option<Line>,
}

/// Where in a line of an event stream the reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// So many bytes of `data:` were there, and nothing else.
    Name(usize),
    /// In the value.
    Data,
    /// In a line that is none of data.
    Other,
    /// Behind a CR, which is a line's end with or without the LF that may follow.
    AfterReturn,
}

/// What a line of data begins with.
const DATA: &[u8] = b"data:";

impl Reading {
    /// A reading of an answer of this form.
    pub fn new(form: Form) -> Self {
        Self {
            walk: Walk::default(),
            said: Said::default(),
            line: (form == Form::Events).then_some(Line::Name(0)),
        }
    }

    /// Reads on.
    pub fn feed(&mut self, bytes: &[u8]) {
        let said = &mut self.said;
        let Some(mut line) = self.line else {
            return self
                .walk
                .feed(bytes, known, |path, leaf| said.hear(path, leaf));
        };
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            line = match (line, *byte) {
                (Line::AfterReturn, b'\n') => {
                    rest = after;
                    Line::Name(0)
                }
                (Line::AfterReturn, _) => Line::Name(0),
                (line, byte @ (b'\r' | b'\n')) => {
                    if line == Line::Name(0) {
                        // An empty line ends the event.
                        self.walk.end(|path, leaf| said.hear(path, leaf));
                    } else {
                        // Several lines of data are one text with breaks, which may stand where spaces may.
                        self.walk
                            .feed(b"\n", known, |path, leaf| said.hear(path, leaf));
                    }
                    rest = after;
                    if byte == b'\r' {
                        Line::AfterReturn
                    } else {
                        Line::Name(0)
                    }
                }
                (Line::Data, _) => {
                    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
                    let (data, after) = rest.split_at(end.unwrap_or(rest.len()));
                    self.walk
                        .feed(data, known, |path, leaf| said.hear(path, leaf));
                    rest = after;
                    Line::Data
                }
                (Line::Name(read), byte) => {
                    rest = after;
                    match (DATA.get(read) == Some(&byte), read + 1 == DATA.len()) {
                        (true, true) => Line::Data,
                        (true, false) => Line::Name(read + 1),
                        (false, _) => Line::Other,
                    }
                }
                (Line::Other, _) => {
                    rest = after;
                    Line::Other
                }
            };
        }
        self.line = Some(line);
    }

    /// The answer ends here.
    pub fn end(&mut self) {
        let said = &mut self.said;
        self.walk.end(|path, leaf| said.hear(path, leaf));
    }

    /// What it has said so far.
    pub const fn said(&self) -> &Said {
        &self.said
    }
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
