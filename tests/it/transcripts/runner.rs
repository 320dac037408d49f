//! Runs a transcript against a server over real sockets.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::transcript::{Action, Expectation, Segment, Transcript, Word};

/// Timeout of a reply. The longest wait in a transcript is shorter.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);

/// The first step that did not match.
#[derive(Debug)]
pub(super) struct Failure {
    file: String,
    line: usize,
    expected: String,
    received: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: expected {}, received {}",
            self.file, self.line, self.expected, self.received
        )
    }
}

pub(super) async fn run(transcript: &Transcript, server: SocketAddr) -> Result<(), Failure> {
    let mut runner = Runner {
        server,
        connections: BTreeMap::new(),
        tokens: Tokens::default(),
    };
    for step in &transcript.steps {
        runner.run(&step.action).await.map_err(|received| Failure {
            file: transcript.file.clone(),
            line: step.line,
            expected: step.action.to_string(),
            received,
        })?;
    }
    Ok(())
}

struct Runner {
    server: SocketAddr,
    connections: BTreeMap<String, Connection>,
    tokens: Tokens,
}

impl Runner {
    /// Runs one step. The error describes what was received instead.
    async fn run(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Sleep(time) => sleep(*time).await,
            Action::Send { on, segments } => {
                let bytes = self.tokens.substitute(segments);
                self.connection(on)
                    .await?
                    .stream
                    .write_all(&bytes)
                    .await
                    .map_err(|error| error.to_string())?;
            }
            Action::Expect { on, expected } => {
                let limit = if let Expectation::Silence(time) = expected {
                    *time
                } else {
                    REPLY_TIMEOUT
                };
                let received = self.connection(on).await?.receive(limit).await;
                if !self.tokens.matches_reply(expected, &received) {
                    return Err(received.to_string());
                }
            }
            Action::Close { on } => drop(
                self.connections
                    .remove(on)
                    .ok_or("no open connection of that name")?,
            ),
        }
        Ok(())
    }

    async fn connection(&mut self, name: &str) -> Result<&mut Connection, String> {
        if !self.connections.contains_key(name) {
            let connection = Connection::open(self.server)
                .await
                .map_err(|error| format!("{error} from {}", self.server))?;
            self.connections.insert(name.to_owned(), connection);
        }
        self.connections
            .get_mut(name)
            .ok_or_else(|| format!("no open connection `{name}`"))
    }
}

struct Connection {
    stream: TcpStream,
    /// Bytes that were read and not yet consumed.
    buffer: Vec<u8>,
}

enum Received {
    Line(String),
    End,
    Silence(Duration),
}

impl Connection {
    async fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = timeout(REPLY_TIMEOUT, TcpStream::connect(server)).await??;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    async fn receive(&mut self, limit: Duration) -> Received {
        timeout(limit, self.next())
            .await
            .unwrap_or(Received::Silence(limit))
    }

    /// Returns the next line or the end of the connection. Cancel safe: the bytes read so far
    /// remain in the buffer.
    async fn next(&mut self) -> Received {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..=end);
                return Received::Line(line);
            }
            // A reset ends the connection as well.
            if matches!(self.stream.read_buf(&mut self.buffer).await, Ok(0) | Err(_)) {
                return Received::End;
            }
        }
    }
}

/// The received tokens by the names that the transcript gives them.
#[derive(Default)]
struct Tokens(BTreeMap<String, String>);

impl Tokens {
    fn substitute(&self, segments: &[Segment]) -> Vec<u8> {
        let bytes = |segment: &Segment| match segment {
            Segment::Bytes(bytes) => bytes.clone(),
            // The parser accepts a name only after a reply that binds it, and the run stops at the
            // first mismatch.
            Segment::Token(name) => self.0[name].clone().into_bytes(),
        };
        segments.iter().flat_map(bytes).collect()
    }

    fn matches_reply(&mut self, expected: &Expectation, received: &Received) -> bool {
        match (expected, received) {
            (Expectation::Line(words), Received::Line(line)) => {
                let received: Vec<&str> = line.split(' ').collect();
                words.len() == received.len()
                    && words
                        .iter()
                        .zip(received)
                        .all(|(word, received)| self.matches_word(word, received))
            }
            (Expectation::Start(start), Received::Line(line)) => line.starts_with(start),
            (Expectation::Silence(_), Received::Silence(_)) | (Expectation::End, Received::End) => {
                true
            }
            _ => false,
        }
    }

    /// Matches a word. The first use of a name binds it, and no token has two names.
    fn matches_word(&mut self, word: &Word, received: &str) -> bool {
        match word {
            Word::Text(text) => text == received,
            Word::Token(name) => {
                if is_token(received) && !self.0.values().any(|token| token == received) {
                    self.0
                        .entry(name.clone())
                        .or_insert_with(|| received.to_owned());
                }
                self.0.get(name).is_some_and(|token| token == received)
            }
        }
    }
}

fn is_token(word: &str) -> bool {
    word.len() == 32
        && word
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "{line:?}"),
            Self::End => write!(f, "the end"),
            Self::Silence(time) => write!(f, "silence for {time:?}"),
        }
    }
}

/// Formats the action for the words after `expected`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sleep(time) => write!(f, "to sleep for {time:?}"),
            Self::Send { on, .. } => write!(f, "to send on `{on}`"),
            Self::Expect { expected, .. } => write!(f, "{expected}"),
            Self::Close { on } => write!(f, "to close `{on}`"),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(words) => {
                let words = words.iter().map(|word| match word {
                    Word::Text(text) => text.clone(),
                    Word::Token(name) => format!("${name}"),
                });
                write!(f, "{:?}", words.collect::<Vec<_>>().join(" "))
            }
            Self::Start(start) => write!(f, "{:?}", format!("{start}..")),
            Self::Silence(time) => write!(f, "silence for {time:?}"),
            Self::End => write!(f, "the end"),
        }
    }
}
