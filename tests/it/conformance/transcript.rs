//! A transcript, parsed: every line that says something is a typed step, and every other line is a mistake.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::options::Options;

/// What is said to a server, and what it must answer.
#[derive(Debug)]
pub(super) struct Transcript {
    pub(super) file: String,
    pub(super) options: Options,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) action: Action,
}

/// Connections go by their name; one is opened by the first step that speaks or listens on it.
#[derive(Debug)]
pub(super) enum Action {
    /// `sleep 1.5`
    Sleep(Duration),
    /// `a > sl | key | 0 2 30`; `a ~ ..` says the same and tells the reader that no reply is due yet; `a raw BYTES`
    Send { on: String, pieces: Vec<Piece> },
    /// `a < ..`, `a <* ..`, `a <? ..`
    Hear { on: String, want: Want },
    /// `a close`
    Close { on: String },
}

/// A part of what is sent.
#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// `$t1`: the token bound to this name.
    Token(String),
}

#[derive(Debug)]
pub(super) enum Want {
    /// `< ok $t1 30`: this line.
    Line(Vec<Word>),
    /// `<* ok {`: a line that starts with this.
    Start(String),
    /// `<? 0.2`: nothing for this long.
    Silence(Duration),
    /// `< EOF`: the server closes the connection.
    End,
}

/// A word of a reply.
#[derive(Debug)]
pub(super) enum Word {
    Text(String),
    /// `$t1`: at its first use any token that has no name yet, afterwards the same token.
    Token(String),
}

/// Why a transcript does not parse.
#[derive(Debug)]
pub(super) struct Mistake {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

impl Transcript {
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, Mistake> {
        let mut transcript = Self {
            file: file.to_owned(),
            options: Options::default(),
            steps: Vec::new(),
        };
        let mut bound = BTreeSet::new();
        for (line, written) in (1..).zip(text.lines()) {
            let said = written.split("  #").next().unwrap_or_default().trim_end();
            transcript
                .take(line, said, &mut bound)
                .map_err(|what| Mistake {
                    file: file.to_owned(),
                    line,
                    what,
                })?;
        }
        Ok(transcript)
    }

    /// Takes in one line; `bound` are the tokens that the replies before it name.
    fn take(
        &mut self,
        line: usize,
        said: &str,
        bound: &mut BTreeSet<String>,
    ) -> Result<(), String> {
        if said.is_empty() || said.starts_with('#') {
            return Ok(());
        }
        let (first, rest) = said.split_once(' ').unwrap_or((said, ""));
        let action = match first {
            "@server" => return self.options.add(rest),
            // a feature that not every server has; the embedded server has them all
            "@needs" => return Ok(()),
            word if word.starts_with('@') => return Err(format!("unknown word `{word}`")),
            "sleep" => Action::Sleep(seconds(rest)?),
            name => Action::parse(name, rest, bound)?,
        };
        self.steps.push(Step { line, action });
        Ok(())
    }
}

impl Action {
    fn parse(name: &str, said: &str, bound: &mut BTreeSet<String>) -> Result<Self, String> {
        let on = name.to_owned();
        let (what, rest) = said.split_once(' ').unwrap_or((said, ""));
        Ok(match what {
            "" => {
                return Err(
                    "a step is `NAME WHAT ..`, `sleep SECONDS` or `@server FLAGS`".to_owned(),
                );
            }
            ">" | "~" => Self::Send {
                on,
                pieces: pieces(&request(rest)?, |text| Ok(text.into()), bound)?,
            },
            "raw" => Self::Send {
                on,
                pieces: pieces(rest, unescape, bound)?,
            },
            "<" if rest == "EOF" => Self::Hear {
                on,
                want: Want::End,
            },
            "<" => Self::Hear {
                on,
                want: Want::Line(words(rest, bound)?),
            },
            "<*" => Self::Hear {
                on,
                want: Want::Start(rest.to_owned()),
            },
            "<?" => Self::Hear {
                on,
                want: Want::Silence(seconds(rest)?),
            },
            "close" => Self::Close { on },
            unknown => return Err(format!("unknown step `{unknown}`")),
        })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let parsed = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    parsed.ok_or_else(|| format!("`{text}` is no number of seconds"))
}

/// `sl | key | 0 2 30` as the three lines that it stands for.
fn request(text: &str) -> Result<String, String> {
    match text.split('|').map(str::trim).collect::<Vec<_>>()[..] {
        [command, key, arg] => Ok(format!("{command}\n{key}\n{arg}\n")),
        ref lines => Err(format!(
            "a request has 3 lines, this one has {}",
            lines.len()
        )),
    }
}

fn words(text: &str, bound: &mut BTreeSet<String>) -> Result<Vec<Word>, String> {
    let word = |word: &str| match word.strip_prefix('$') {
        None => Ok(Word::Text(word.to_owned())),
        Some("") => Err("a token needs a name after its `$`".to_owned()),
        Some(name) => {
            bound.insert(name.to_owned());
            Ok(Word::Token(name.to_owned()))
        }
    };
    text.split(' ').map(word).collect()
}

/// Cuts `text` at its `$names`, and makes bytes of what is between them.
fn pieces(
    text: &str,
    bytes: fn(&str) -> Result<Vec<u8>, String>,
    bound: &BTreeSet<String>,
) -> Result<Vec<Piece>, String> {
    let (start, named) = text
        .split_once('$')
        .map_or((text, None), |(start, named)| (start, Some(named)));
    let mut pieces = vec![Piece::Bytes(bytes(start)?)];
    for text in named.into_iter().flat_map(|named| named.split('$')) {
        let (name, after) = text.split_at(
            text.find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(text.len()),
        );
        if !bound.contains(name) {
            return Err(format!("no earlier reply binds `${name}`"));
        }
        pieces.extend([Piece::Token(name.to_owned()), Piece::Bytes(bytes(after)?)]);
    }
    Ok(pieces)
}

/// `\n \r \t \0 \\ \xNN`, and `x*300` for three hundred `x`.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == '\\' {
            bytes.push(escape(&mut rest)?);
            if repeat(&mut rest).is_some() {
                return Err("an escape cannot be repeated".to_owned());
            }
        } else {
            let times = repeat(&mut rest).unwrap_or(1);
            bytes.extend(c.to_string().repeat(times).bytes());
        }
    }
    Ok(bytes)
}

/// The byte that an escape stands for, taken off the start of `rest` behind its `\`.
fn escape(rest: &mut &str) -> Result<u8, String> {
    let c = rest.chars().next().unwrap_or(' ');
    *rest = rest.get(c.len_utf8()..).unwrap_or_default();
    Ok(match c {
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        '0' => 0,
        '\\' => b'\\',
        'x' => {
            let digits = rest
                .get(..2)
                .and_then(|digits| u8::from_str_radix(digits, 16).ok());
            let byte = digits.ok_or(r"`\x` needs two hex digits")?;
            *rest = &rest[2..];
            byte
        }
        unknown => return Err(format!(r"unknown escape `\{unknown}`")),
    })
}

/// The number of a `*300`, taken off the start of `rest`.
fn repeat(rest: &mut &str) -> Option<usize> {
    let behind = rest.strip_prefix('*')?;
    let end = behind
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(behind.len());
    let times = behind[..end].parse().ok()?;
    *rest = &behind[end..];
    Some(times)
}
