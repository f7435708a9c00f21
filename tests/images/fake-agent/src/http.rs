//! As much HTTP/1.1 as the tests need: one request per connection, bodies by length.

use std::io::{self, BufRead, Read as _, Write};

/// No test sends more headers than this.
const HEAD_LIMIT: u64 = 64 * 1024;

/// A request.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// Reads one request; `None` when the other side closed without a word.
    pub fn read(stream: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = stream.by_ref().take(HEAD_LIMIT);
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_ascii_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(io::Error::other(format!("not a request: {line:?}")));
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(decode_pair)
                .collect(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let mut line = String::new();
            head.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            request
                .headers
                .push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = request
            .header("content-length")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0);
        stream.take(length).read_to_end(&mut request.body)?;
        Ok(Some(request))
    }

    /// A header's value, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    /// A query parameter, or nothing.
    pub fn query(&self, name: &str) -> &str {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    /// A query parameter read as a number.
    pub fn number(&self, name: &str, default: u64) -> Result<u64, String> {
        match self.query(name) {
            "" => Ok(default),
            text => text
                .parse()
                .map_err(|_| format!("{name}={text} is not a number")),
        }
    }
}

fn decode_pair((key, value): (&str, &str)) -> (String, String) {
    (decode(key), decode(value))
}

/// Undoes percent-encoding.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail
            .get(..2)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        match (
            first,
            hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes an answer with a body, and closes.
pub fn answer(stream: &mut impl Write, status: u16, body: &[u8]) -> io::Result<()> {
    let kind = if matches!(body.first(), Some(b'{' | b'[')) {
        "application/json"
    } else {
        "text/plain"
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} {}\r\ncontent-type: {kind}\r\n",
        reason(status)
    )?;
    write!(
        stream,
        "content-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    stream.write_all(body)?;
    stream.flush()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::Request;

    #[test]
    fn a_request_is_read_with_query_and_body() -> std::io::Result<()> {
        let text = "POST /write?name=a%20b%2Fc&x=1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcdef";
        let request = Request::read(&mut text.as_bytes())?.expect("a request");
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("POST", "/write")
        );
        assert_eq!(
            (
                request.query("name"),
                request.query("x"),
                request.query("y")
            ),
            ("a b/c", "1", "")
        );
        assert_eq!(request.body, b"abc");
        assert!(Request::read(&mut "".as_bytes())?.is_none());
        Ok(())
    }
}
