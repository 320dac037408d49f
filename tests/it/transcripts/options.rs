//! Server options in a transcript's `@server` lines, attached as flags of dflockd.

use std::time::Duration;

/// Options of one server. The defaults are those of dflockd.
#[derive(Debug)]
pub(super) struct Options {
    /// The flags as attached, for an external program.
    pub(super) flags: Vec<String>,
    pub(super) default_lease: Duration,
    pub(super) read_timeout: Duration,
    pub(super) max_keys: usize,
    /// Limit of one key; 0 means unlimited.
    pub(super) max_waiters: usize,
    pub(super) auth_token: Option<String>,
    pub(super) auto_release: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flags: Vec::new(),
            default_lease: Duration::from_secs(33),
            read_timeout: Duration::from_secs(23),
            max_keys: 1024,
            max_waiters: 0,
            auth_token: None,
            auto_release: true,
        }
    }
}

impl Options {
    /// Adds the flags of one `@server` line. Flags are separated by white space and cannot be
    /// quoted.
    pub(super) fn add(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            self.flags.push(word.to_owned());
            let (flag, attached) = word
                .split_once('=')
                .map_or((word, None), |(flag, value)| (flag, Some(value)));
            let mut value = || {
                attached.map_or_else(
                    || {
                        words
                            .next()
                            .inspect(|next| self.flags.push((*next).to_owned()))
                            .ok_or(format!("`{flag}` needs a value"))
                    },
                    Ok,
                )
            };
            match flag {
                "--default-lease-ttl" => {
                    self.default_lease = Duration::from_secs(parse_number(flag, value()?)?);
                }
                "--read-timeout" => {
                    self.read_timeout = Duration::from_secs(parse_number(flag, value()?)?);
                }
                "--max-locks" => self.max_keys = parse_number(flag, value()?)?,
                "--max-waiters" => self.max_waiters = parse_number(flag, value()?)?,
                "--auth-token" => self.auth_token = Some(value()?.to_owned()),
                // Go flag syntax: a boolean takes its value only after `=`.
                "--auto-release-on-disconnect" => {
                    let value = attached.and_then(|value| value.parse().ok());
                    self.auto_release =
                        value.ok_or(format!("`{flag}` needs `=true` or `=false`"))?;
                }
                _ => return Err(format!("unknown server flag `{flag}`")),
            }
        }
        Ok(())
    }
}

fn parse_number<N: std::str::FromStr>(flag: &str, value: &str) -> Result<N, String> {
    value
        .parse()
        .map_err(|_| format!("`{flag}` cannot be `{value}`"))
}
