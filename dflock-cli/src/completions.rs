//! Shell completions and man pages, generated from the definition of the command line.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Args;
use crate::error::CliError;
use crate::output::print;

/// Prints the completions for `shell`.
pub(crate) fn completions(shell: Shell) -> Result<ExitCode, CliError> {
    // Generated in memory, because the generator panics if the output is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "dflock", &mut script);
    print(&script)
}

/// Prints the man page of `dflock`, or of one of its commands.
pub(crate) fn man(command: Option<&str>) -> Result<ExitCode, CliError> {
    let mut dflock = Args::command().disable_help_subcommand(true);
    // Sets the full name of each command, such as `dflock-run`.
    dflock.build();
    let page = match command {
        None => &dflock,
        Some(name) => dflock
            .find_subcommand(name)
            .ok_or_else(|| CliError::usage(format!("unknown command {name:?}; see --help")))?,
    };
    let mut roff = Vec::new();
    Man::new(page.clone())
        .render(&mut roff)
        .map_err(|error| CliError::system("cannot generate the man page", &error))?;
    print(&roff)
}
