//! Parser of transcripts: every line is a typed step, a comment or an error.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::options::Options;

/// The requests to a server and the expected replies.
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

/// A step of a transcript. The first step that names a connection opens it.
#[derive(Debug)]
pub(super) enum Action {
    /// `sleep 1.5`
    Sleep(Duration),
    /// `a > sl | key | 0 2 30`, or `a raw BYTES`. `a ~ ..` sends the same as `>` and tells the
    /// reader that no reply is due yet.
    Send { on: String, segments: Vec<Segment> },
    /// `a < ..`, `a <* ..`, `a <? ..`
    Expect { on: String, expected: Expectation },
    /// `a close`
    Close { on: String },
}

/// A part of the bytes to send.
#[derive(Debug)]
pub(super) enum Segment {
    Bytes(Vec<u8>),
    /// `$t1`: the token bound to this name.
    Token(String),
}

#[derive(Debug)]
pub(super) enum Expectation {
    /// `< ok $t1 30`: this line.
    Line(Vec<Word>),
    /// `<* ok {`: a line that starts with this.
    Start(String),
    /// `<? 0.2`: nothing for this long.
    Silence(Duration),
    /// `< EOF`: the server closes the connection.
    End,
}

/// An expected word of a reply.
#[derive(Debug)]
pub(super) enum Word {
    Text(String),
    /// `$t1`: any new token at its first use, afterwards the same token.
    Token(String),
}

/// Error of the transcript parser.
#[derive(Debug)]
pub(super) struct ParseError {
    file: String,
    line: usize,
    message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

impl Transcript {
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        let mut transcript = Self {
            file: file.to_owned(),
            options: Options::default(),
            steps: Vec::new(),
        };
        let mut bound = BTreeSet::new();
        for (line, text_line) in (1..).zip(text.lines()) {
            let content = text_line.split("  #").next().unwrap_or_default().trim_end();
            transcript
                .parse_line(line, content, &mut bound)
                .map_err(|message| ParseError {
                    file: file.to_owned(),
                    line,
                    message,
                })?;
        }
        Ok(transcript)
    }

    /// Parses one line. `bound` contains the tokens that earlier replies bind.
    fn parse_line(
        &mut self,
        line: usize,
        content: &str,
        bound: &mut BTreeSet<String>,
    ) -> Result<(), String> {
        if content.is_empty() || content.starts_with('#') {
            return Ok(());
        }
        let (first, rest) = content.split_once(' ').unwrap_or((content, ""));
        let action = match first {
            "@server" => return self.options.add(rest),
            // Names a feature that some servers lack. The embedded server has all of them.
            "@needs" => return Ok(()),
            word if word.starts_with('@') => return Err(format!("unknown word `{word}`")),
            "sleep" => Action::Sleep(parse_seconds(rest)?),
            name => Action::parse(name, rest, bound)?,
        };
        self.steps.push(Step { line, action });
        Ok(())
    }
}

impl Action {
    fn parse(name: &str, content: &str, bound: &mut BTreeSet<String>) -> Result<Self, String> {
        let on = name.to_owned();
        let (symbol, rest) = content.split_once(' ').unwrap_or((content, ""));
        Ok(match symbol {
            "" => {
                return Err(
                    "a step is `NAME ACTION ..`, `sleep SECONDS` or `@server FLAGS`".to_owned(),
                );
            }
            ">" | "~" => Self::Send {
                on,
                segments: parse_segments(&parse_request(rest)?, |text| Ok(text.into()), bound)?,
            },
            "raw" => Self::Send {
                on,
                segments: parse_segments(rest, unescape, bound)?,
            },
            "<" if rest == "EOF" => Self::Expect {
                on,
                expected: Expectation::End,
            },
            "<" => Self::Expect {
                on,
                expected: Expectation::Line(parse_words(rest, bound)?),
            },
            "<*" => Self::Expect {
                on,
                expected: Expectation::Start(rest.to_owned()),
            },
            "<?" => Self::Expect {
                on,
                expected: Expectation::Silence(parse_seconds(rest)?),
            },
            "close" => Self::Close { on },
            other => return Err(format!("unknown step `{other}`")),
        })
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let parsed = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    parsed.ok_or_else(|| format!("`{text}` is not a number of seconds"))
}

/// Converts `sl | key | 0 2 30` to the three lines of a request.
fn parse_request(text: &str) -> Result<String, String> {
    match text.split('|').map(str::trim).collect::<Vec<_>>()[..] {
        [command, key, arg] => Ok(format!("{command}\n{key}\n{arg}\n")),
        ref lines => Err(format!(
            "a request has 3 lines, this one has {}",
            lines.len()
        )),
    }
}

fn parse_words(text: &str, bound: &mut BTreeSet<String>) -> Result<Vec<Word>, String> {
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

/// Splits `text` at its `$names` and converts the parts between them to bytes.
fn parse_segments(
    text: &str,
    bytes: fn(&str) -> Result<Vec<u8>, String>,
    bound: &BTreeSet<String>,
) -> Result<Vec<Segment>, String> {
    let (start, named) = text
        .split_once('$')
        .map_or((text, None), |(start, named)| (start, Some(named)));
    let mut segments = vec![Segment::Bytes(bytes(start)?)];
    for text in named.into_iter().flat_map(|named| named.split('$')) {
        let (name, after) = text.split_at(
            text.find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(text.len()),
        );
        if !bound.contains(name) {
            return Err(format!("no earlier reply binds `${name}`"));
        }
        segments.extend([
            Segment::Token(name.to_owned()),
            Segment::Bytes(bytes(after)?),
        ]);
    }
    Ok(segments)
}

/// Decodes `\n \r \t \0 \\ \xNN`, and expands `x*300` to three hundred `x`.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == '\\' {
            bytes.push(take_escape(&mut rest)?);
            if take_repeat_count(&mut rest).is_some() {
                return Err("an escape cannot be repeated".to_owned());
            }
        } else {
            let times = take_repeat_count(&mut rest).unwrap_or(1);
            bytes.extend(c.to_string().repeat(times).bytes());
        }
    }
    Ok(bytes)
}

/// Takes an escape without its `\` off the start of `rest` and returns its byte.
fn take_escape(rest: &mut &str) -> Result<u8, String> {
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
        other => return Err(format!(r"unknown escape `\{other}`")),
    })
}

/// Takes a repeat count such as `*300` off the start of `rest`.
fn take_repeat_count(rest: &mut &str) -> Option<usize> {
    let after = rest.strip_prefix('*')?;
    let end = after
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(after.len());
    let times = after[..end].parse().ok()?;
    *rest = &after[end..];
    Some(times)
}
