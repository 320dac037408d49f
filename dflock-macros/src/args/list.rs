//! The list of arguments, from which parsing, errors and suggestions are made.

use syn::{Expr, Ident, Path};

use super::{Args, OnLost, Value, WhenBusy};
use crate::kind::Kind;

/// All arguments, in the order in which errors and the documentation list them.
///
/// A new argument is an entry here, and a row in the documentation of the attributes
/// (`dflock/src/macros.rs`), which a test asks for.
pub(crate) static ARGUMENTS: [Argument; 13] = [
    Argument {
        name: "key",
        syntax: "needs a value",
        example: "key = \"report:{tenant}\"",
        is_required: true,
        refused_by_lock: None,
        setter: Setter::Option(Value::key),
    },
    Argument {
        name: "limit",
        syntax: "needs a value",
        example: "limit = 3",
        is_required: true,
        refused_by_lock: Some("it has one slot"),
        setter: Setter::Option(Value::limit),
    },
    Argument {
        name: "client",
        syntax: "needs a value",
        example: "client = self.locks",
        is_required: false,
        refused_by_lock: None,
        setter: Setter::Option(Value::client),
    },
    Argument {
        name: "acquire_timeout",
        syntax: "is text or a `Duration`",
        example: "acquire_timeout = \"2s\"",
        is_required: false,
        refused_by_lock: None,
        setter: Setter::Option(Value::acquire_timeout),
    },
    Argument {
        name: "lease_ttl",
        syntax: "is text or a `Duration`",
        example: "lease_ttl = \"30s\"",
        is_required: false,
        refused_by_lock: None,
        setter: Setter::Option(Value::lease_ttl),
    },
    Argument {
        name: "renew_ratio",
        syntax: "needs a value",
        example: "renew_ratio = 0.4",
        is_required: false,
        refused_by_lock: None,
        setter: Setter::Option(Value::renew_ratio),
    },
    Argument {
        name: "on_limit_mismatch",
        syntax: "is `fail` (the default), `wait_out` or `adopt`",
        example: "on_limit_mismatch = adopt",
        is_required: false,
        refused_by_lock: Some("it has one slot"),
        setter: Setter::Option(Value::on_limit_mismatch),
    },
    Argument {
        name: "max_hold",
        syntax: "is text or a `Duration`",
        example: "max_hold = \"1h\"",
        is_required: false,
        refused_by_lock: None,
        setter: Setter::Option(Value::bound_of_hold),
    },
    Argument {
        name: "min_hold",
        syntax: "is text or a `Duration`",
        example: "min_hold = \"1s\"",
        is_required: false,
        refused_by_lock: None,
        setter: Setter::Option(Value::bound_of_hold),
    },
    Argument {
        name: "on_lost",
        syntax: "is `cancel` (the default: stop the body) or `finish` (let it run)",
        example: "on_lost = finish",
        is_required: false,
        refused_by_lock: None,
        setter: Setter::Word(|args, word| {
            args.on_lost = OnLost::parse(word)?;
            Some(())
        }),
    },
    Argument {
        name: "when_busy",
        syntax: "is `error` (the default: wait for a slot) or `skip` (return `Ok` of the default)",
        example: "when_busy = skip",
        is_required: false,
        refused_by_lock: None,
        setter: Setter::Word(|args, word| {
            args.when_busy = WhenBusy::parse(word)?;
            Some(())
        }),
    },
    Argument {
        name: "slot",
        syntax: "is a name",
        example: "slot = held",
        is_required: false,
        refused_by_lock: None,
        setter: Setter::Name(|args, name| args.slot = Some(name)),
    },
    Argument {
        name: "crate",
        syntax: "is a path without quotes",
        example: "crate = ::my_reexport",
        is_required: false,
        refused_by_lock: None,
        setter: Setter::Path(|args, path| args.krate = Some(path)),
    },
];

/// An argument of the attributes.
pub(crate) struct Argument {
    pub(crate) name: &'static str,
    /// The allowed values, as the predicate of a sentence about the argument.
    syntax: &'static str,
    /// A valid use.
    example: &'static str,
    pub(crate) is_required: bool,
    /// The reason for which `#[lock]` has no such argument.
    refused_by_lock: Option<&'static str>,
    pub(super) setter: Setter,
}

/// Syntax of a value, and the function that validates or stores it.
#[derive(Clone, Copy)]
pub(super) enum Setter {
    /// Any expression. It is passed to the method of the builder that has the argument's name.
    Option(fn(Expr) -> syn::Result<Value>),
    /// One of a few words. The function returns `None` for any other word.
    Word(fn(&mut Args, &Ident) -> Option<()>),
    /// An identifier.
    Name(fn(&mut Args, Ident)),
    /// A path.
    Path(fn(&mut Args, Path)),
}

impl Argument {
    /// Returns the arguments of an attribute.
    pub(crate) fn all(kind: Kind) -> impl Iterator<Item = &'static Self> {
        ARGUMENTS
            .iter()
            .filter(move |argument| kind == Kind::Semaphore || argument.refused_by_lock.is_none())
    }

    /// Returns the error message for a value with another syntax.
    pub(super) fn syntax_error(&self) -> String {
        format!("`{}` {}, as in `{}`", self.name, self.syntax, self.example)
    }

    /// Returns the error message for a missing argument.
    pub(super) fn missing(&self, kind: Kind) -> String {
        format!(
            "`{}` is missing: `#[dflock::{}]` needs one, as in `{}`",
            self.name,
            kind.name(),
            self.example
        )
    }

    /// Returns the error message for an argument of `#[lock]` that only `#[semaphore]` has.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refused_by_lock.map(|why| {
            format!(
                "a lock has no `{}`, because {why}; use `#[dflock::semaphore]` for more",
                self.name
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    #[test]
    fn the_documentation_has_a_row_for_each_argument() {
        // Read when the test runs, because the file is not in the package of this crate.
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../dflock/src/macros.rs");
        let documentation = fs::read_to_string(path).unwrap();
        let documented: Vec<_> = documentation
            .lines()
            .filter_map(|line| line.strip_prefix("/// | `")?.split_once('`'))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            documented,
            ARGUMENTS.each_ref().map(|argument| argument.name)
        );
    }

    #[test]
    fn every_example_is_valid() {
        for argument in &ARGUMENTS {
            let mut errors = crate::errors::Errors::default();
            let args = Args::parse(
                Kind::Semaphore,
                argument.example.parse().unwrap(),
                &mut errors,
            );
            let missing = Argument::all(Kind::Semaphore)
                .filter(|other| other.is_required && other.name != argument.name)
                .map(|other| other.missing(Kind::Semaphore));
            assert_eq!(
                errors.messages(),
                missing.collect::<Vec<_>>(),
                "{}",
                argument.example
            );
            let is_option = matches!(argument.setter, Setter::Option(_));
            assert_eq!(
                args.options.len(),
                usize::from(is_option),
                "{}",
                argument.example
            );
        }
    }
}
