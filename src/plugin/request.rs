//! A connection, and one HTTP request over it, both within a time limit. The only user of the HTTP crates.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::outcome::Outcome;

pub(super) use hyper::header;
pub(super) use hyper::http::Error as HttpError;
pub(super) use hyper::{Method, Request, StatusCode, Version};

/// What is sent.
pub(super) type Body = Full<Bytes>;
/// What is answered; nobody reads its body.
pub(super) type Answer = hyper::Response<()>;

/// For the connection and the answer together.
const LIMIT: Duration = Duration::from_secs(10);
/// An address from which nothing comes leaves time for the next one.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// A name server that does not answer holds a thread for as long as it pleases, and the threads are shared with
/// mirroring: only so many of them.
static LOOKUPS: Semaphore = Semaphore::const_new(2);

/// Runs something on the network; what takes too long is nobody there.
pub(super) async fn within_limit<T>(
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, Outcome> {
    match timeout(LIMIT, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Outcome::Away(error.to_string())),
        Err(_) => Err(Outcome::Away(format!(
            "no answer within {} s",
            LIMIT.as_secs()
        ))),
    }
}

/// Connects to the first address of a host that takes a connection.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut refusal = io::Error::other(format!("{host} has no address"));
    for address in addresses(host, port).await? {
        match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => refusal = error,
            Err(_) => refusal = io::Error::other(format!("{address} does not answer")),
        }
    }
    Err(refusal)
}

async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let permit = LOOKUPS.acquire().await.map_err(io::Error::other)?;
    let host = host.to_owned();
    let lookup = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        Ok((host.as_str(), port).to_socket_addrs()?.collect())
    });
    lookup.await.map_err(io::Error::other)?
}

/// Sends a request over a connection of its own.
pub(super) async fn exchange(
    host: &str,
    port: u16,
    request: Request<Body>,
) -> Result<Answer, Outcome> {
    within_limit(async {
        let stream = connect(host, port).await?;
        // The API of a network from 2009 may go by the capitals of `Host`.
        let (mut sender, connection) = http1::Builder::new()
            .title_case_headers(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // It ends with the sender and the answer.
        tokio::spawn(connection);
        let answer = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        Ok(answer.map(drop))
    })
    .await
}

/// What a status says: a server that is overloaded or stands before one that is down is as good as away.
pub(super) fn judge(status: StatusCode) -> Outcome {
    match status {
        status if status.is_success() => Outcome::Done,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Outcome::Away(format!("the server answers {status}")),
        status => Outcome::Failed(format!("the server answers {status}")),
    }
}

/// `host:port` as it stands in a URL.
pub(super) fn authority(host: &str, port: u16) -> String {
    let port = if port == 80 {
        String::new()
    } else {
        format!(":{port}")
    };
    if host.contains(':') {
        format!("[{host}]{port}")
    } else {
        format!("{host}{port}")
    }
}

/// Bytes as a part of a URL or form; the slashes of paths stay, as the original sends them.
pub(super) fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(*byte));
            }
            byte => {
                // Writing to a String does not fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_bytes_cannot_leave_its_place_in_a_form_or_a_url() {
        assert_eq!(percent_encoded(b"/a-b_c~1.txt"), "/a-b_c~1.txt");
        assert_eq!(
            percent_encoded(b"a b&c=d%\r\n\xFF"),
            "a%20b%26c%3Dd%25%0D%0A%FF"
        );
    }

    #[test]
    fn a_server_that_cannot_answer_now_is_tried_again_and_one_that_refuses_is_not() {
        assert_eq!(judge(StatusCode::NO_CONTENT), Outcome::Done);
        assert!(matches!(
            judge(StatusCode::SERVICE_UNAVAILABLE),
            Outcome::Away(_)
        ));
        assert!(matches!(judge(StatusCode::NOT_FOUND), Outcome::Failed(_)));
        assert!(matches!(judge(StatusCode::FOUND), Outcome::Failed(_)));
    }

    #[test]
    fn an_address_of_ipv6_is_in_brackets() {
        assert_eq!(authority("::1", 8080), "[::1]:8080");
        assert_eq!(authority("cdn.example.com", 80), "cdn.example.com");
    }
}
