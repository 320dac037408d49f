//! Every bar of docs/PERFORMANCE.md.

use std::process::ExitCode;

use crate::Result;
use crate::flags::Flags;

pub(crate) fn run(_flags: &Flags) -> Result<ExitCode> {
    Err("not yet".into())
}
