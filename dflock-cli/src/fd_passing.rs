//! Sends an open file to another process over a Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{FdFlags, fcntl_setfd, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Sends `file`, with one byte.
pub(crate) fn send(socket: impl AsFd, file: BorrowedFd<'_>) -> io::Result<()> {
    let files = [file];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    message.push(SendAncillaryMessage::ScmRights(&files));
    let byte = [IoSlice::new(b".")];
    retry_on_intr(|| sendmsg(&socket, &byte, &mut message, SendFlags::empty()))?;
    Ok(())
}

/// Waits for a file, and returns it. Reads no byte after that of [`send`].
pub(crate) fn receive(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    retry_on_intr(|| {
        let mut byte = [IoSliceMut::new(&mut byte)];
        recvmsg(&socket, &mut byte, &mut message, RecvFlags::empty())
    })?;
    let file = message.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let file = file.ok_or(io::ErrorKind::UnexpectedEof)?;
    // Otherwise the command would inherit a second copy of it.
    fcntl_setfd(&file, FdFlags::CLOEXEC)?;
    Ok(file)
}
