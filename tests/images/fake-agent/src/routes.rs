//! What the agent answers.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | 200, or 503 while the mode says so |
//! | `POST /healthy?set=true\|false` | overrides the mode from now on |
//! | `POST /write?name=…` | writes the body to the state directory, synced |
//! | `GET /read?name=…`, `POST /remove?name=…` | the file's bytes; removes it |
//! | `GET /counter` | a counter kept in the state, raised by one |
//! | `GET /starts` | how often the agent has been started on this state |
//! | `GET /ticks` | milliseconds since the first such request, and 10-ms ticks it was awake for: fewer when it was frozen |
//! | `GET /env`, `GET /status`, `GET /headers` | its environment; `/proc/self/status`; the request's headers |
//! | `GET /connect?to=HOST:PORT&ms=1000` | tries a TCP connection and says what happened |
//! | `GET /slow?ms=…` | answers after that time |
//! | `GET /bytes?n=…`, `POST /sink` | that many bytes; how many came |
//! | `GET /echo` with `Upgrade` | 101, then returns every byte |
//! | `POST /flood?lines=…` | writes so many lines to its log |
//! | `POST /hog?mib=…`, `POST /spread?threads=…` | holds so much memory; starts so many busy threads, and says how many it got |
//! | `POST /exit?code=…`, `POST /crash` | ends, cleanly or not |

use std::{
    env, fs,
    io::{self, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream, ToSocketAddrs as _},
    process,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    http::{self, Request},
    mode::Mode,
    noise,
    state::State,
};

const TICK: Duration = Duration::from_millis(10);

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    mode: Mode,
    state: State,
    started: Instant,
    /// Runs once it is asked for: a hundred agents that tick keep a host busy.
    clock: OnceLock<Clock>,
    /// 0: as the mode says, 1: healthy, 2: not.
    health: AtomicU8,
}

impl Agent {
    /// An agent that has just started.
    pub fn new(mode: Mode, state: State) -> Self {
        Self {
            mode,
            state,
            started: Instant::now(),
            clock: OnceLock::new(),
            health: AtomicU8::new(0),
        }
    }

    /// Whether SIGTERM does nothing.
    pub fn ignores_term(&self) -> bool {
        self.mode == Mode::IgnoreTerm
    }

    /// Records a clean end; how many there have been.
    pub fn shut_down(&self) -> u64 {
        self.state.bump("last-shutdown").unwrap_or(0)
    }

    /// Answers the one request of a connection.
    pub fn serve(&self, stream: TcpStream) {
        // Whoever hangs up early has made his choice.
        drop(self.exchange(stream));
    }

    fn exchange(&self, stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        let Some(request) = Request::read(&mut reader)? else {
            return Ok(());
        };
        if request.path == "/echo" && request.header("upgrade").is_some() {
            return echo(reader, writer);
        }
        let (status, body) = self.answer(&request);
        http::answer(&mut writer, status, &body)
    }

    fn answer(&self, request: &Request) -> (u16, Vec<u8>) {
        match self.route(request) {
            Ok(answer) => answer,
            Err(Failure::Asked(message)) => (400, message.into_bytes()),
            Err(Failure::Io(error)) => {
                let status = match error.kind() {
                    io::ErrorKind::NotFound => 404,
                    io::ErrorKind::InvalidInput => 400,
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => 507,
                    _ => 500,
                };
                (status, error.to_string().into_bytes())
            }
        }
    }

    fn route(&self, request: &Request) -> Result<(u16, Vec<u8>), Failure> {
        let name = request.query("name");
        let text = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/healthz") if self.healthy() => "ok\n".to_owned(),
            ("GET", "/healthz") => return Ok((503, b"not healthy\n".to_vec())),
            ("POST", "/healthy") => {
                self.health.store(
                    if request.query("set") == "false" {
                        2
                    } else {
                        1
                    },
                    Ordering::Relaxed,
                );
                "ok\n".to_owned()
            }
            ("POST", "/write") => {
                self.state.write(name, &request.body)?;
                format!("{}\n", request.body.len())
            }
            ("GET", "/read") => return Ok((200, self.state.read(name)?)),
            ("POST", "/remove") => {
                self.state.remove(name)?;
                "ok\n".to_owned()
            }
            ("GET", "/counter") => format!("{}\n", self.state.bump("counter")?),
            ("GET", "/starts") => return Ok((200, self.state.read("starts")?)),
            ("GET", "/ticks") => {
                let clock = self.clock.get_or_init(Clock::start);
                let (ms, ticks) = (
                    clock.started.elapsed().as_millis(),
                    clock.ticks.load(Ordering::Relaxed),
                );
                format!("{{\"ms\":{ms},\"ticks\":{ticks}}}\n")
            }
            ("GET", "/env") => env::vars()
                .map(|(key, value)| format!("{key}={value}\n"))
                .collect::<Vec<_>>()
                .concat(),
            ("GET", "/status") => fs::read_to_string("/proc/self/status")?,
            ("GET", "/headers") => request
                .headers
                .iter()
                .map(|(key, value)| format!("{key}: {value}\n"))
                .collect::<Vec<_>>()
                .concat(),
            ("GET", "/connect") => {
                let limit =
                    Duration::from_millis(request.number("ms", 1000).map_err(Failure::Asked)?);
                format!("{}\n", connect(request.query("to"), limit))
            }
            ("GET", "/slow") => {
                thread::sleep(Duration::from_millis(
                    request.number("ms", 1000).map_err(Failure::Asked)?,
                ));
                "ok\n".to_owned()
            }
            ("GET", "/bytes") => {
                let length = request.number("n", 1024).map_err(Failure::Asked)?;
                let length =
                    usize::try_from(length).map_err(|error| Failure::Asked(error.to_string()))?;
                return Ok((200, vec![b'x'; length]));
            }
            ("POST", "/sink") => format!("{}\n", request.body.len()),
            ("POST", "/flood") => {
                noise::flood(request.number("lines", 1000).map_err(Failure::Asked)?)?
            }
            ("POST", "/hog") => {
                let mib = request.number("mib", 64).map_err(Failure::Asked)?;
                noise::hog(usize::try_from(mib).map_err(|error| Failure::Asked(error.to_string()))?)
            }
            ("POST", "/spread") => {
                noise::spread(request.number("threads", 64).map_err(Failure::Asked)?)
            }
            ("POST", "/crash") => process::abort(),
            ("POST", "/exit") => {
                let code = request.number("code", 0).map_err(Failure::Asked)?;
                process::exit(i32::try_from(code).unwrap_or(1))
            }
            _ => return Ok((404, b"no such route\n".to_vec())),
        };
        Ok((200, text.into_bytes()))
    }

    fn healthy(&self) -> bool {
        match self.health.load(Ordering::Relaxed) {
            0 => self.mode.healthy(self.started),
            overridden => overridden == 1,
        }
    }
}

/// Counts the ticks for which this process was awake.
#[derive(Debug)]
struct Clock {
    started: Instant,
    ticks: Arc<AtomicU64>,
}

impl Clock {
    fn start() -> Self {
        let ticks = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&ticks);
        thread::spawn(move || {
            loop {
                thread::sleep(TICK);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            started: Instant::now(),
            ticks,
        }
    }
}

enum Failure {
    Asked(String),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// One word and, after a colon, the system's own: `connected`, `refused`, `unreachable`, `timeout`, `unknown-name`, `error`.
fn connect(to: &str, limit: Duration) -> String {
    let addresses = match to.to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return format!("unknown-name: {error}"),
    };
    let mut last = "unknown-name: no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(_) => return format!("connected: {address}"),
            Err(error) => {
                let word = match error.kind() {
                    io::ErrorKind::ConnectionRefused => "refused",
                    io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                        "unreachable"
                    }
                    io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "timeout",
                    _ => "error",
                };
                last = format!("{word}: {error}");
            }
        }
    }
    last
}

/// Switches the protocol and returns every byte until the other side has no more.
fn echo(mut reader: BufReader<TcpStream>, mut writer: TcpStream) -> io::Result<()> {
    writer.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
    )?;
    let mut buffer = [0; 16 * 1024];
    loop {
        match reader.read(&mut buffer)? {
            0 => return writer.shutdown(Shutdown::Write),
            count => writer.write_all(&buffer[..count])?,
        }
    }
}
