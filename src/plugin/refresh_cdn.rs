//! The plugin `refreshCDN`: a content delivery network is told by a HEAD request to fetch a URL anew.
//!
//! ```text
//!  HEAD /index.jsp?user=U&pswd=P&ok=ok&urls=URL HTTP/1.0        a file
//!  HEAD /index.jsp?user=U&pswd=P&ok=ok&dirs=URL/ HTTP/1.0       a directory with all that is in it
//! ```
//!
//! The URL is the base and the path below the watched directory; or, with an expression, the base, the first thing it
//! captures in the whole path, and what is behind the match. A path it does not match is not told of.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::event::Event;
use super::outcome::Outcome;
use super::request::{
    Answer, Body, HttpError, Method, Request, Version, authority, exchange, header, judge,
    percent_encoded,
};
use crate::config::plugin::RefreshCdnPlugin;

/// The header in which the network says what came of it.
const VERDICT: &str = "whatsup";

/// See the module.
#[derive(Debug)]
pub(super) struct RefreshCdn {
    config: RefreshCdnPlugin,
}

impl RefreshCdn {
    pub(super) fn new(config: RefreshCdnPlugin) -> Self {
        Self { config }
    }

    pub(super) fn watch(&self) -> &Path {
        &self.config.watch
    }

    pub(super) fn place(&self) -> String {
        authority(&self.config.domain_name, self.config.port)
    }

    pub(super) fn wants(&self, path: &[u8]) -> bool {
        self.in_url(path).is_some()
    }

    pub(super) async fn refresh(&self, event: &Event) -> Outcome {
        let Some(in_url) = self.in_url(&event.path) else {
            return Outcome::Done;
        };
        let RefreshCdnPlugin {
            domain_name, port, ..
        } = &self.config;
        match self.request(&in_url, event.is_directory) {
            Ok(request) => match exchange(domain_name, *port, request).await {
                Ok(answer) => verdict(&answer),
                Err(outcome) => outcome,
            },
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    /// What of a path follows the base; `None` if there is no URL for it.
    fn in_url(&self, path: &[u8]) -> Option<Vec<u8>> {
        match &self.config.pattern {
            None => {
                let watch = self.config.watch.as_os_str().as_bytes();
                let watch = watch.strip_suffix(b"/").unwrap_or(watch);
                path.strip_prefix(watch).map(<[u8]>::to_vec)
            }
            Some(pattern) => {
                let found = pattern.regex().captures(path)?;
                let captured = found.get(1).map_or(&b""[..], |group| group.as_bytes());
                let end = found.get(0)?.end();
                Some([captured, &path[end..]].concat())
            }
        }
    }

    fn request(&self, in_url: &[u8], is_directory: bool) -> Result<Request<Body>, HttpError> {
        let RefreshCdnPlugin {
            user_name,
            password,
            base,
            domain_name,
            port,
            ..
        } = &self.config;
        let (what, end) = if is_directory {
            ("dirs", "/")
        } else {
            ("urls", "")
        };
        let resource = format!(
            "/index.jsp?user={}&pswd={}&ok=ok&{what}={}{}{end}",
            percent_encoded(user_name.as_bytes()),
            percent_encoded(password.reveal().as_bytes()),
            as_written(base),
            percent_encoded(in_url),
        );
        Request::builder()
            .method(Method::HEAD)
            .version(Version::HTTP_10)
            .uri(resource)
            .header(header::HOST, authority(domain_name, *port))
            .body(Body::default())
    }
}

/// The base as the file has it, but for what no request line can hold.
fn as_written(base: &str) -> String {
    let mut text = String::with_capacity(base.len());
    for byte in base.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'#' => text.push_str(&percent_encoded(&[byte])),
            byte if byte.is_ascii_graphic() => text.push(char::from(byte)),
            byte => text.push_str(&percent_encoded(&[byte])),
        }
    }
    text
}

/// The status, and the network's own word if it says one.
fn verdict(answer: &Answer) -> Outcome {
    let outcome = judge(answer.status());
    let word = answer.headers().get(VERDICT);
    match word.map(|word| String::from_utf8_lossy(word.as_bytes())) {
        Some(word) if outcome == Outcome::Done && !word.contains("succe") => {
            Outcome::Failed(format!("the network answers `{}`", word.escape_debug()))
        }
        _ => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_stays_as_it_is_written() {
        let base = "http://x.example.com/a?b=1&c=%20";
        assert_eq!(as_written(base), base);
        assert_eq!(as_written("http://x/ü #"), "http://x/%C3%BC%20%23");
    }
}
