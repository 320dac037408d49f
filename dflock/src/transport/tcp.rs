//! The default connector: TCP that notices when its peer is gone.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::{BoxStream, Clock, Connecting, Connector};

/// TCP without delay, with keepalive and with an end to unanswered data.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    /// After this much silence the system asks whether the peer is still there.
    pub(crate) keepalive: Duration,
    /// Data that is unanswered for this long ends the connection (`TCP_USER_TIMEOUT`, where there is one).
    pub(crate) user_timeout: Duration,
}

impl Connector for Tcp {
    fn connect<'a>(&'a self, server: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect(server).await?;
            self.tune(&stream)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn clock(&self) -> Clock {
        Clock::Boottime
    }
}

impl Tcp {
    fn tune(&self, stream: &TcpStream) -> io::Result<()> {
        // the system counts both in whole seconds
        const SECOND: Duration = Duration::from_secs(1);
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        let probes = TcpKeepalive::new().with_time(self.keepalive.max(SECOND)).with_interval((self.user_timeout / 3).max(SECOND));
        socket.set_tcp_keepalive(&probes)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // T29, G15, N12
    #[tokio::test]
    async fn a_socket_does_not_delay_and_notices_when_its_peer_is_gone() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let tcp = Tcp { keepalive: Duration::from_secs(8), user_timeout: Duration::from_secs(15) };
        tcp.tune(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(
            (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap(), socket.tcp_user_timeout().unwrap()),
            (Duration::from_secs(8), Duration::from_secs(5), Some(Duration::from_secs(15)))
        );
    }
}
