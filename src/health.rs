//! Asks the admin port of this host how the gateway is: the health check of an image without shell and curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Time for the whole question. Docker and Kubernetes wait longer by default, and a reason is worth more than a kill.
pub const WITHIN: Duration = Duration::from_secs(3);

/// The reasons of `/readyz` are a few lines.
const ANSWER_BYTES: usize = 16 * 1024;

/// The question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// `/livez`: does the process work?
    Alive,
    /// `/readyz`: should clients be sent here?
    Ready,
}

/// The gateway is not well, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// There is no port to ask.
    #[error(
        "admin.listen is off, so nobody can be asked; set it to an address such as 127.0.0.1:8080"
    )]
    Off,
    /// The name leads nowhere.
    #[error("{host} has no address")]
    Unknown {
        /// The name.
        host: String,
        /// The resolver's reason.
        #[source]
        source: std::io::Error,
    },
    /// Nobody listens, or it is not HTTP.
    #[error(
        "no answer from http://{address}{path}: is the gateway running with this admin.listen?"
    )]
    NoAnswer {
        /// Where it was asked.
        address: SocketAddr,
        /// The question.
        path: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It took longer than [`WITHIN`].
    #[error("no answer from http://{address}{path} within {} s", WITHIN.as_secs())]
    Late {
        /// Where it was asked.
        address: SocketAddr,
        /// The question.
        path: &'static str,
    },
    /// It answers that it is not well.
    #[error("http://{address}{path} answers {status}: {reason}")]
    Unwell {
        /// Where it was asked.
        address: SocketAddr,
        /// The question.
        path: &'static str,
        /// The HTTP status.
        status: u16,
        /// Its own words.
        reason: String,
    },
}

/// Asks the admin port at `listen`, which is `admin.listen` of the configuration, and returns its words.
pub async fn ask(listen: Option<SocketAddr>, question: Question) -> Result<String, HealthError> {
    ask_address(reachable(listen.ok_or(HealthError::Off)?), question).await
}

/// Asks the admin port of another host by its name or address, and returns its words.
pub async fn ask_at(host: &str, port: u16, question: Question) -> Result<String, HealthError> {
    let unknown = |source| HealthError::Unknown {
        host: host.to_owned(),
        source,
    };
    let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let found = tokio::time::timeout(WITHIN, tokio::net::lookup_host((host, port))).await;
    let mut found = found.map_err(|_| unknown(late()))?.map_err(unknown)?;
    let none = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let address = found.next().ok_or_else(|| unknown(none()))?;
    ask_address(address, question).await
}

async fn ask_address(address: SocketAddr, question: Question) -> Result<String, HealthError> {
    let path = question.path();
    let (status, words) = match tokio::time::timeout(WITHIN, get(address, path)).await {
        Ok(answer) => answer.map_err(|source| HealthError::NoAnswer {
            address,
            path,
            source,
        })?,
        Err(_) => return Err(HealthError::Late { address, path }),
    };
    let words = words.trim().replace('\n', "; ");
    if status == 200 {
        Ok(words)
    } else {
        Err(HealthError::Unwell {
            address,
            path,
            status,
            reason: words,
        })
    }
}

impl Question {
    fn path(self) -> &'static str {
        match self {
            Question::Alive => "/livez",
            Question::Ready => "/readyz",
        }
    }
}

/// A socket that is bound to every address is asked over loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        bound => bound,
    };
    SocketAddr::new(address, listen.port())
}

async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let stream = TcpStream::connect(address).await?;
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Body::empty())
        .map_err(std::io::Error::other)?;
    let exchange = async {
        let answer = client
            .send_request(request)
            .await
            .map_err(std::io::Error::other)?;
        let status = answer.status().as_u16();
        let body = to_bytes(Body::new(answer.into_body()), ANSWER_BYTES)
            .await
            .map_err(std::io::Error::other)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    // the connection moves the bytes; it ends with the exchange
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(std::io::Error::other(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_on_every_address_is_asked_over_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("127.0.0.3:9", "127.0.0.3:9"),
        ] {
            let listen: SocketAddr = listen.parse().expect("an address");
            assert_eq!(reachable(listen).to_string(), asked);
        }
    }
}
