//! Makes of an agent's request the one that its provider gets: a path that stays below the base URL, no header that is
//! between neighbours, no key but ours. Pure; the key itself comes in last.

use std::ops::Range;

use bytes::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName,
    HeaderValue, LOCATION, SET_COOKIE,
};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Uri};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::refused::Refused;
use crate::gateway::hop_by_hop::strip;
use crate::tenant::{KeyStyle, ResolvedEndpoint, Upstream};

/// Headers in which providers look for keys: what the agent has there is a placeholder, or somebody else's key.
const KEYS: [&str; 5] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
];

/// Longest path and query.
const PATH: usize = 8 * 1024;

/// How often a path may be encoded in itself; a server that decodes once more than that is not of this world.
const ENCODINGS: usize = 3;

/// The endpoint that a request is for, and the rest of its path with its query.
///
/// # Errors
/// It is for no endpoint's path, or its path leads elsewhere.
pub fn route<'a>(method: &Method, uri: &'a Uri) -> Result<(&'a str, &'a str), Refused> {
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Err(Refused::Method);
    }
    // A whole URL is for a proxy; whoever reads another host in it than we do must not be helped.
    if uri.authority().is_some() || uri.scheme().is_some() {
        return Err(Refused::WholeUrl);
    }
    let text = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let below = text.strip_prefix('/').ok_or(Refused::Path)?;
    if text.len() > PATH || !is_confined(uri.path()) {
        return Err(Refused::Path);
    }
    let end = below.find(['/', '?']).unwrap_or(below.len());
    Ok(below.split_at(end))
}

/// Whether no part of a path leads upwards, in whatever spelling.
fn is_confined(path: &str) -> bool {
    let mut path = path.to_owned();
    for _ in 0..=ENCODINGS {
        let mut parts = path.split(['/', '\\']);
        let is_bad = |part: &str| {
            // What follows a semicolon is a parameter to some servers, so `..;x` is `..` to them.
            let name = part.split(';').next().unwrap_or_default();
            matches!(name, "." | "..") || part.chars().any(char::is_control)
        };
        if parts.any(is_bad) {
            return false;
        }
        let decoded = percent_decode_str(&path).decode_utf8_lossy().into_owned();
        if decoded == path {
            return true;
        }
        path = decoded;
    }
    false
}

/// The URL at the provider.
///
/// # Errors
/// It is none, which a confined path never leads to.
pub fn target(upstream: &Upstream, rest: &str) -> Result<Uri, Refused> {
    let path = format!("{}{rest}", upstream.path);
    // A base URL without a path, and a query right behind the endpoint's name.
    let slash = if path.starts_with('/') { "" } else { "/" };
    Uri::builder()
        .scheme(upstream.scheme())
        .authority(upstream.authority())
        .path_and_query(format!("{slash}{path}"))
        .build()
        .map_err(|_| Refused::Path)
}

/// Whether a request asks for another protocol on its connection.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key("upgrade")
}

/// Makes the headers of a request those that the provider gets.
///
/// # Errors
/// The key is no value of a header.
pub fn prepare(
    headers: &mut HeaderMap,
    endpoint: &ResolvedEndpoint,
    key: Option<&SecretString>,
) -> Result<(), Refused> {
    strip(headers);
    for name in KEYS {
        headers.remove(name);
    }
    // The host is the URL's, the length the body's, and we have answered `100-continue` ourselves.
    for name in [HOST, CONTENT_LENGTH, EXPECT] {
        headers.remove(name);
    }
    // What is compressed could not be read.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for (name, value) in &endpoint.headers {
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) else {
            continue;
        };
        headers.entry(name).or_insert(value);
    }
    let Some(key) = key else { return Ok(()) };
    let key = key.expose_secret();
    let (name, value) = match &endpoint.auth {
        KeyStyle::None => return Ok(()),
        KeyStyle::Bearer => (
            AUTHORIZATION,
            HeaderValue::try_from(format!("Bearer {key}")),
        ),
        KeyStyle::Header(name) => (
            name.parse().map_err(|_| Refused::Key)?,
            HeaderValue::try_from(key),
        ),
    };
    let mut value = value.map_err(|_| Refused::Key)?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// Makes the headers of an answer those that the agent gets: its path for a place that is below the base URL, and any
/// other place as it is, to which the agent may go by itself and without the key.
pub fn prepare_answer(headers: &mut HeaderMap, name: &str, upstream: &Upstream) {
    strip(headers);
    // The session would be the key's.
    headers.remove(SET_COOKIE);
    let place = headers.get(LOCATION).and_then(|place| place.to_str().ok());
    let ours = place.and_then(|place| own_place(place, name, upstream));
    if let Some(Ok(ours)) = ours.map(HeaderValue::try_from) {
        headers.insert(LOCATION, ours);
    }
}

/// The path at the endpoint for a place at the provider, if it is below the base URL.
fn own_place(place: &str, name: &str, upstream: &Upstream) -> Option<String> {
    let origin = format!("{}://{}", upstream.scheme(), upstream.authority());
    let path = match place.strip_prefix(&origin) {
        Some(path) => path,
        None if place.starts_with("//") => return None,
        None => place,
    };
    let rest = path.strip_prefix(&upstream.path)?;
    let is_below = rest.is_empty() && !upstream.path.is_empty() || rest.starts_with('/');
    is_below.then(|| format!("/{name}{rest}"))
}

/// What is looked at in a request's body.
#[derive(Debug, Deserialize)]
struct Wish {
    stream: Option<bool>,
    stream_options: Option<Map<String, Value>>,
}

/// What `OpenAI`'s chat completions are asked for beside: without it, their streams say nothing of tokens.
const USAGE: &[u8] = br#""stream_options":{"include_usage":true},"#;

/// What a path at a provider is for, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It hands out keys, which the agent is never to see.
    Credentials,
    /// Its work is done later, or beside HTTP, where nobody counts.
    Uncounted,
    /// A chat, whose stream is asked for its usage.
    Chat,
    /// A response, which may be asked for in the background.
    Response,
    /// Counts of tokens, files and checks of contents, which providers do not charge.
    Free,
    /// Anything else.
    Other,
}

impl Purpose {
    /// The purpose of a request for this path at the provider, in whatever spelling.
    pub fn of(method: &Method, path: &str) -> Self {
        let path = decoded(path).to_ascii_lowercase();
        let parts: Vec<_> = path
            .split(['/', '\\'])
            .map(|part| part.split(';').next().unwrap_or_default())
            .filter(|part| !part.is_empty())
            .collect();
        let has = |names: &[&str]| parts.windows(names.len()).any(|parts| parts == names);
        // Client secrets of `OpenAI`'s realtime and ChatKit, ephemeral tokens of Gemini, keys of administrators.
        if has(&["client_secrets"])
            || has(&["realtime", "sessions"])
            || has(&["realtime", "transcription_sessions"])
            || has(&["chatkit", "sessions"])
            || has(&["auth_tokens"])
            || has(&["admin_api_keys"])
            || has(&["service_accounts"])
        {
            return Self::Credentials;
        }
        if *method != Method::POST {
            return Self::Other;
        }
        let last = parts.last().copied().unwrap_or_default();
        if has(&["batches"])
            || has(&["fine_tuning"])
            || has(&["realtime", "calls"])
            || last.ends_with(":batchgeneratecontent")
            || last.ends_with(":predictlongrunning")
        {
            return Self::Uncounted;
        }
        match parts.as_slice() {
            [
                ..,
                "count_tokens" | "input_tokens" | "moderations" | "files" | "uploads",
            ]
            | [.., "uploads", _, _] => Self::Free,
            [.., last] if last.ends_with(":counttokens") => Self::Free,
            [.., "chat", "completions"] => Self::Chat,
            _ if has(&["responses"]) => Self::Response,
            _ => Self::Other,
        }
    }
}

/// A confined path without its encodings.
fn decoded(path: &str) -> String {
    let mut path = path.to_owned();
    for _ in 0..=ENCODINGS {
        path = percent_decode_str(&path).decode_utf8_lossy().into_owned();
    }
    path
}

/// Whether a response is asked for in the background. What cannot be read is taken for one that is.
pub fn is_background(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Background {
        background: Option<bool>,
    }
    let read = serde_json::from_slice::<Background>(body);
    read.map_or(true, |read| read.background == Some(true))
}

/// A chat's request that asks for the usage of its stream too. One that does already, or that is no request for a
/// stream, stays byte for byte as it is; of others nothing else is changed.
pub fn with_usage(body: Bytes) -> Bytes {
    let Ok(Wish {
        stream: Some(true),
        stream_options,
    }) = serde_json::from_slice(&body)
    else {
        return body;
    };
    if let Some(place) = place_of("stream_options", &body) {
        let mut options = stream_options.unwrap_or_default();
        let asked = options.insert("include_usage".to_owned(), Value::Bool(true));
        if asked == Some(Value::Bool(true)) {
            return body;
        }
        let options = Value::Object(options).to_string();
        let (before, after) = (&body[..place.start], &body[place.end..]);
        return [before, options.as_bytes(), after].concat().into();
    }
    // It is an object, so its first brace opens it; and it has a field, so a comma may follow.
    let Some(brace) = body.iter().position(|byte| *byte == b'{') else {
        return body;
    };
    let (opening, fields) = body.split_at(brace + 1);
    [opening, USAGE, fields].concat().into()
}

/// Where the value of a field is in the text of a JSON object, which is known to be one.
fn place_of(name: &str, object: &[u8]) -> Option<Range<usize>> {
    let (mut depth, mut at) = (0_usize, 0);
    let (mut key, mut begin) = (None, None);
    while let Some(byte) = object.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'"' => {
                while let Some(byte) = object.get(at) {
                    at += if *byte == b'\\' { 2 } else { 1 };
                    if *byte == b'"' {
                        break;
                    }
                }
                if depth == 1 && begin.is_none() {
                    key = serde_json::from_slice::<String>(object.get(start..at)?).ok();
                }
            }
            b':' if depth == 1 && begin.is_none() => begin = Some(at),
            b',' | b'}' if depth == 1 => {
                if key.take().as_deref() == Some(name) {
                    return Some(begin?..start);
                }
                begin = None;
                depth -= usize::from(*byte == b'}');
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
