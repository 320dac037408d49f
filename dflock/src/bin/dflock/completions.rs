//! What shells and readers want: completions and man pages, made from the command line's own definition.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Args;
use crate::status::Failure;

pub(crate) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    // made in memory: the generator panics when the output is closed
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "dflock", &mut script);
    print(&script)
}

/// The page of `dflock`, or of one of its commands.
pub(crate) fn man(command: Option<&str>) -> Result<ExitCode, Failure> {
    let mut dflock = Args::command().disable_help_subcommand(true);
    // each command knows the name that it is called by
    dflock.build();
    let page = match command {
        None => &dflock,
        Some(name) => dflock
            .find_subcommand(name)
            .ok_or_else(|| Failure::usage(format!("there is no command {name:?}; see --help")))?,
    };
    let mut roff = Vec::new();
    Man::new(page.clone())
        .render(&mut roff)
        .map_err(|error| Failure::system("cannot write the page", &error))?;
    print(&roff)
}

fn print(text: &[u8]) -> Result<ExitCode, Failure> {
    match io::stdout().write_all(text) {
        // who reads only the beginning, such as `head`, has what he wants
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::system("cannot print", &error))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
