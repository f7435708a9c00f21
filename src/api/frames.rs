//! The frames of an `exec` connection, the same in the daemon and in the command line.
//!
//! After `POST /v1/tenants/{tenant}/exec` was answered with `101 Switching Protocols` and
//! `Upgrade: tenantd-exec`, both sides send frames until the daemon has sent [`Frame::Exit`]
//! or [`Frame::Problem`] and closes. A frame is one byte of kind, four bytes of length (big
//! endian) and as many bytes of content:
//!
//! | kind | sent by | content |
//! |---|---|---|
//! | 0 | client | bytes for standard input |
//! | 1 | client | none: standard input has ended |
//! | 2 | client | the terminal's size: rows, columns, each two bytes, big endian |
//! | 16 | daemon | bytes from standard output, or from the terminal |
//! | 17 | daemon | bytes from standard error |
//! | 18 | daemon | the exit code: four bytes, signed, big endian |
//! | 19 | daemon | a problem document as JSON: what broke on the way |

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::Problem;

/// The protocol's name in `Upgrade:`.
pub const PROTOCOL: &str = "tenantd-exec";

/// Longest content of a frame, in bytes.
pub const MAX_CONTENT: usize = 64 * 1024;

/// Kind and length.
const HEAD: usize = 5;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes for standard input.
    Stdin(Bytes),
    /// Standard input has ended.
    StdinEnd,
    /// The terminal has this size now.
    Resize {
        /// Its height, in characters.
        rows: u16,
        /// Its width, in characters.
        columns: u16,
    },
    /// Bytes from standard output, or from the terminal.
    Stdout(Bytes),
    /// Bytes from standard error.
    Stderr(Bytes),
    /// The command has ended with this code; nothing follows.
    Exit(i32),
    /// The daemon has lost the command; nothing follows.
    Problem(Box<Problem>),
}

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// A frame of a kind that this version does not know.
    #[error("a frame of unknown kind {0}; are both sides the same version?")]
    Kind(u8),
    /// A frame that is too long, or too short for its kind.
    #[error("a frame of kind {kind} with {length} bytes")]
    Length {
        /// The kind.
        kind: u8,
        /// The length.
        length: usize,
    },
    /// A problem document that is none.
    #[error("a frame with a broken problem document")]
    Problem(#[source] serde_json::Error),
}

/// Reads and writes frames.
#[derive(Debug, Clone, Copy, Default)]
pub struct Frames;

impl Encoder<Frame> for Frames {
    type Error = FrameError;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), FrameError> {
        let (kind, content) = match frame {
            Frame::Stdin(bytes) => (0, bytes),
            Frame::StdinEnd => (1, Bytes::new()),
            Frame::Resize { rows, columns } => {
                let [a, b] = rows.to_be_bytes();
                let [c, d] = columns.to_be_bytes();
                (2, Bytes::copy_from_slice(&[a, b, c, d]))
            }
            Frame::Stdout(bytes) => (16, bytes),
            Frame::Stderr(bytes) => (17, bytes),
            Frame::Exit(code) => (18, Bytes::copy_from_slice(&code.to_be_bytes())),
            Frame::Problem(problem) => {
                let json = serde_json::to_vec(&problem).map_err(FrameError::Problem)?;
                (19, json.into())
            }
        };
        let length = content.len();
        let too_long = FrameError::Length { kind, length };
        if length > MAX_CONTENT {
            return Err(too_long);
        }
        out.reserve(HEAD + length);
        out.put_u8(kind);
        out.put_u32(u32::try_from(length).map_err(|_| too_long)?);
        out.put(content);
        Ok(())
    }
}

impl Decoder for Frames {
    type Item = Frame;
    type Error = FrameError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some((head, _)) = input.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_CONTENT {
            return Err(FrameError::Length { kind, length });
        }
        if input.len() < HEAD + length {
            input.reserve(HEAD + length - input.len());
            return Ok(None);
        }
        input.advance(HEAD);
        let content = input.split_to(length).freeze();
        Frame::of(kind, content).map(Some)
    }
}

impl Frame {
    fn of(kind: u8, content: Bytes) -> Result<Self, FrameError> {
        let length = content.len();
        let wrong = move |_| FrameError::Length { kind, length };
        match kind {
            0 => Ok(Self::Stdin(content)),
            1 if length == 0 => Ok(Self::StdinEnd),
            2 => {
                let [a, b, c, d] = <[u8; 4]>::try_from(&*content).map_err(wrong)?;
                Ok(Self::Resize {
                    rows: u16::from_be_bytes([a, b]),
                    columns: u16::from_be_bytes([c, d]),
                })
            }
            16 => Ok(Self::Stdout(content)),
            17 => Ok(Self::Stderr(content)),
            18 => Ok(Self::Exit(i32::from_be_bytes(
                (&*content).try_into().map_err(wrong)?,
            ))),
            19 => Ok(Self::Problem(Box::new(
                serde_json::from_slice(&content).map_err(FrameError::Problem)?,
            ))),
            1 => Err(FrameError::Length { kind, length }),
            _ => Err(FrameError::Kind(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let content = || proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop_oneof![
            content().prop_map(Frame::Stdin),
            Just(Frame::StdinEnd),
            any::<(u16, u16)>().prop_map(|(rows, columns)| Frame::Resize { rows, columns }),
            content().prop_map(Frame::Stdout),
            content().prop_map(Frame::Stderr),
            any::<i32>().prop_map(Frame::Exit),
            ".*".prop_map(|title| {
                let problem = Problem::new("internal", StatusCode::INTERNAL_SERVER_ERROR, title);
                Frame::Problem(Box::new(problem))
            }),
        ]
    }

    proptest! {
        /// However the bytes are cut on their way.
        #[test]
        fn what_is_sent_arrives(
            sent in proptest::collection::vec(frames(), 0..8),
            piece in 1..50_usize,
        ) {
            let mut wire = BytesMut::new();
            for frame in sent.clone() {
                Frames.encode(frame, &mut wire).unwrap();
            }
            let mut received = Vec::new();
            let mut buffer = BytesMut::new();
            for piece in wire.chunks(piece) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = Frames.decode(&mut buffer).unwrap() {
                    received.push(frame);
                }
            }
            prop_assert_eq!(received, sent);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn noise_is_refused_or_waited_for_and_never_panics(
            noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut buffer = BytesMut::from(&*noise);
            while let Ok(Some(_)) = Frames.decode(&mut buffer) {}
        }
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_head() {
        let mut buffer = BytesMut::from(&[0, 0xff, 0xff, 0xff, 0xff][..]);
        let error = Frames.decode(&mut buffer).unwrap_err();
        insta::assert_snapshot!(error, @"a frame of kind 0 with 4294967295 bytes");
        let long = Frame::Stdin(Bytes::from(vec![0; MAX_CONTENT + 1]));
        assert!(Frames.encode(long, &mut BytesMut::new()).is_err());
    }

    #[test]
    fn the_bytes_are_those_of_the_table() {
        let mut wire = BytesMut::new();
        let size = Frame::Resize {
            rows: 24,
            columns: 300,
        };
        Frames.encode(size, &mut wire).unwrap();
        Frames.encode(Frame::Exit(-1), &mut wire).unwrap();
        assert_eq!(
            &wire[..],
            [
                2, 0, 0, 0, 4, 0, 24, 1, 44, 18, 0, 0, 0, 4, 255, 255, 255, 255
            ]
        );
    }
}
