//! An answer on its way to the agent: it is read as it passes, and its request is charged with what it says.
//! Nothing of it is held back, kept or changed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::ledger::Charge;
use super::reading::{Form, Reading, Said, Used, guessed, is_media};
use super::refused::Body;

/// What is charged for a request, whatever becomes of its answer.
#[derive(Debug)]
pub struct Account {
    charge: Charge,
    /// Bytes of the request's body that have been sent.
    sent: Arc<AtomicU64>,
    received: u64,
    /// Its place among those that go on at a time.
    _place: OwnedSemaphorePermit,
    reading: Option<Reading>,
    /// Whether words may be asked for, and paid.
    has_words: bool,
    /// What the answer's length says, once it has begun.
    length: Option<Length>,
    is_whole: bool,
}

/// What the length of an answer says that cannot be read.
#[derive(Debug, Clone, Copy)]
enum Length {
    OfWords,
    /// Nothing of its tokens.
    OfMedia,
}

impl Account {
    /// An account of a request whose answer has not come yet.
    pub fn new(charge: Charge, place: OwnedSemaphorePermit, has_words: bool) -> Self {
        Self {
            charge,
            _place: place,
            sent: Arc::default(),
            received: 0,
            reading: None,
            has_words,
            length: None,
            is_whole: false,
        }
    }

    /// Counts what passes of the request's body.
    pub fn counted(&self, body: Body) -> Body {
        let sent = Arc::clone(&self.sent);
        Counted { body, sent }.boxed()
    }

    /// The answer has begun. One that says that nothing was done costs nothing.
    pub fn begin(&mut self, status: StatusCode, content_type: &str) {
        self.has_words &= status.is_success();
        self.length = Some(if is_media(content_type) {
            Length::OfMedia
        } else {
            Length::OfWords
        });
        self.reading = Form::of(content_type).map(Reading::new);
        self.settle();
    }

    /// Nothing was asked after all.
    pub fn cancel(mut self) {
        self.has_words = false;
        self.is_whole = true;
        self.settle();
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.received += bytes.len() as u64;
        if let Some(reading) = &mut self.reading {
            reading.feed(bytes);
        }
        self.settle();
    }

    fn end(&mut self) {
        if let Some(reading) = &mut self.reading {
            reading.end();
        }
        self.is_whole = true;
        self.settle();
    }

    fn settle(&self) {
        let sent = self.sent.load(Ordering::Relaxed);
        let said = self.reading.as_ref().map(Reading::said);
        let used = match (said, self.length) {
            _ if !self.has_words => Used::default(),
            (Some(said), _) => said.used((sent, self.received), self.is_whole),
            (None, Some(Length::OfWords)) => guessed(sent, self.received),
            (None, Some(Length::OfMedia)) => guessed(sent, 0),
            (None, None) => Said::default().used((sent, 0), false),
        };
        let model = said.and_then(|said| said.model.as_deref());
        self.charge
            .set(model, used, self.is_whole, (sent, self.received));
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // What broke off is charged as far as it came.
        if !self.is_whole {
            self.settle();
        }
    }
}

/// The body of a request, with its length: many servers do not take one in chunks.
struct Counted {
    body: Body,
    sent: Arc<AtomicU64>,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer.
pub struct Answer {
    body: Incoming,
    account: Account,
}

impl Answer {
    /// An answer that is charged to `account`.
    pub fn new(body: Incoming, mut account: Account) -> Self {
        // One without a body is asked for none.
        if body.is_end_stream() {
            account.end();
        }
        Self { body, account }
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.account.hear(data);
                }
                if self.body.is_end_stream() {
                    self.account.end();
                }
            }
            Poll::Ready(None) => self.account.end(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
