//! Attributes of a process that decide what happens to its descendants. Only Linux has them; on
//! other systems these functions do nothing.

use std::io;

use rustix::process::Signal;

/// Requests `signal` for this process when the thread that spawned it ends. `parent` is the pid of
/// the parent.
///
/// # Errors
///
/// The parent has died already.
#[cfg(target_os = "linux")]
pub(crate) fn request_death_signal(signal: Signal, parent: i32) -> io::Result<()> {
    use rustix::process::{Pid, getppid, set_parent_process_death_signal};

    set_parent_process_death_signal(Some(signal))?;
    // The parent may have died before the request.
    if Pid::as_raw(getppid()) == parent {
        Ok(())
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn request_death_signal(_signal: Signal, _parent: i32) -> io::Result<()> {
    Ok(())
}

/// Makes this process the subreaper of its descendants: one that loses its parent becomes a child
/// of this process, and not of PID 1.
#[cfg(target_os = "linux")]
pub(crate) fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn become_subreaper() -> io::Result<()> {
    Ok(())
}
