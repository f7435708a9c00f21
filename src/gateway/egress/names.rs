//! The tenant's name server: for each name that is allowed, an address that stands for it.
//! Nothing a tenant asks for leaves this host but the look-up of names that the policy allows.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::book::Book;
use super::door::Door;
use super::judge::Refusal;
use super::outside::Unreached;
use super::question::{Answer, Asked, MAX_QUESTION, read};
use crate::tenant::HostName;

/// Questions that are looked up at a time; further ones are dropped, and asked again.
const QUESTIONS: usize = 64;

/// Longest time between two questions over TCP (RFC 7766, section 6.2.3).
const TCP_IDLE: Duration = Duration::from_secs(10);

/// The name server of one tenant.
pub struct Names {
    door: Arc<Door>,
    book: Arc<Book>,
    /// When something was asked last.
    asked: Mutex<Instant>,
}

impl Names {
    /// The name server of a door's tenant.
    pub fn new(door: Arc<Door>, book: Arc<Book>) -> Self {
        Self {
            door,
            book,
            asked: Mutex::new(Instant::now()),
        }
    }

    /// When something was asked last; at the beginning, when the server was made.
    pub fn asked(&self) -> Instant {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers questions over UDP, without end.
    pub async fn serve_udp(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let places = Arc::new(Semaphore::new(QUESTIONS));
        let mut buffer = vec![0; MAX_QUESTION];
        loop {
            // An error is of one question: its asker has left (ECONNREFUSED).
            let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                continue;
            };
            let bytes = buffer[..length].to_vec();
            let (names, socket) = (Arc::clone(&self), Arc::clone(&socket));
            tokio::spawn(async move {
                let _place = place;
                if let Some(answer) = names.answer(&bytes).await {
                    // Who asked and left asks again or not.
                    let _ = socket.send_to(&answer, client).await;
                }
            });
        }
    }

    /// Answers the questions of one TCP connection.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn serve_tcp(&self, mut client: TcpStream) -> io::Result<()> {
        loop {
            let Ok(length) = timeout(TCP_IDLE, client.read_u16()).await else {
                return Ok(());
            };
            let length = usize::from(length?);
            if length > MAX_QUESTION {
                return Ok(());
            }
            let mut bytes = vec![0; length];
            let Ok(done) = timeout(TCP_IDLE, client.read_exact(&mut bytes)).await else {
                return Ok(());
            };
            done?;
            let Some(answer) = self.answer(&bytes).await else {
                return Ok(());
            };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            client
                .write_all(&[&length.to_be_bytes(), &answer[..]].concat())
                .await?;
        }
    }

    /// The bytes that answer a question; nothing for what deserves none.
    async fn answer(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let question = match read(bytes) {
            Ok(question) => question,
            Err(answer) => return answer,
        };
        let answer = match &question.asked {
            Asked::NoName => Answer::NoName,
            // What is not allowed is not told apart from what is not there, but for the code.
            Asked::Else(name) => match self.door.judge().lookup(name) {
                Ok(()) => Answer::NoData,
                Err(_) => Answer::Refused,
            },
            Asked::Address(name) => match self.door.look_up(name).await {
                Ok(()) => self.stand_in(name),
                Err(Unreached::Refused(Refusal::NoAddress)) => Answer::NoData,
                Err(Unreached::Refused(_)) => Answer::Refused,
                Err(Unreached::Lookup(error)) if is_no_such_name(&error) => Answer::NoName,
                Err(_) => Answer::Failed,
            },
        };
        question.answer(answer)
    }

    fn stand_in(&self, name: &HostName) -> Answer {
        match self.book.address_of(name) {
            Ok(address) => Answer::Address(address),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "{name} gets no address");
                Answer::Failed
            }
        }
    }
}

/// The standard library keeps the resolver's code to itself; its text is that of `gai_strerror(3)`.
fn is_no_such_name(error: &io::Error) -> bool {
    let text = error.to_string();
    text.contains("Name or service not known")
        || text.contains("No address associated with hostname")
}
