//! The plugin `http`: each path is posted as a form, or many of them as one JSON document (a webhook).
//!
//! ```text
//!  watchroot=/data&isdir=0&inotifyPath=/data/a.txt&mask=8
//!  {"watchroot":"/data","paths":[{"path":"/data/a.txt","isdir":false,"deleted":false,"mask":8}]}
//! ```
//!
//! In both a name is escaped as the format wants it. In JSON, one that is not UTF-8 has its bytes beside it as
//! `path_bytes`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::event::Event;
use super::outcome::Outcome;
use super::request::{
    Body, HttpError, Method, Request, authority, exchange, header, judge, percent_encoded,
};
use crate::config::plugin::{HttpDestination, HttpFormat};

/// See the module.
#[derive(Debug)]
pub(super) struct Http {
    watch: PathBuf,
    server: HttpDestination,
}

impl Http {
    pub(super) fn new(watch: &Path, server: &HttpDestination) -> Self {
        Self {
            watch: watch.to_owned(),
            server: server.clone(),
        }
    }

    pub(super) fn watch(&self) -> &Path {
        &self.watch
    }

    /// Without its path and query, which may hold a secret.
    pub(super) fn place(&self) -> String {
        let authority = authority(&self.server.host, self.server.port);
        format!("http://{authority}")
    }

    pub(super) fn takes_many(&self) -> bool {
        self.server.format == HttpFormat::Json
    }

    /// One post; of one path if it is a form.
    pub(super) async fn post(&self, events: &[Event]) -> Outcome {
        let HttpDestination { host, port, .. } = &self.server;
        match self.request(events) {
            Ok(request) => match exchange(host, *port, request).await {
                Ok(answer) => judge(answer.status()),
                Err(outcome) => outcome,
            },
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn request(&self, events: &[Event]) -> Result<Request<Body>, HttpError> {
        let (kind, content) = match self.server.format {
            HttpFormat::Form => {
                let forms = events.iter().map(|event| form(&self.watch, event));
                let form = forms.collect::<Vec<_>>().join("&");
                ("application/x-www-form-urlencoded", form)
            }
            HttpFormat::Json => (
                "application/json",
                document(&self.watch, events).to_string(),
            ),
        };
        let HttpDestination {
            host,
            port,
            resource,
            ..
        } = &self.server;
        Request::builder()
            .method(Method::POST)
            .uri(resource)
            .header(header::HOST, authority(host, *port))
            .header(
                header::USER_AGENT,
                concat!("sersync/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::CONTENT_TYPE, kind)
            .header(header::CONNECTION, "close")
            .body(content.into())
    }
}

fn form(watch: &Path, event: &Event) -> String {
    format!(
        "watchroot={}&isdir={}&inotifyPath={}&mask={}",
        percent_encoded(watch.as_os_str().as_bytes()),
        u8::from(event.is_directory),
        percent_encoded(&event.path),
        event.mask()
    )
}

fn document(watch: &Path, events: &[Event]) -> Value {
    let paths: Vec<Value> = events
        .iter()
        .map(|event| {
            let mut path = json!({
                "path": String::from_utf8_lossy(&event.path),
                "isdir": event.is_directory,
                "deleted": event.is_gone,
                "mask": event.mask(),
            });
            if std::str::from_utf8(&event.path).is_err() {
                path["path_bytes"] = json!(event.path);
            }
            path
        })
        .collect();
    json!({ "watchroot": watch.to_string_lossy(), "paths": paths })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(path: &[u8]) -> Event {
        Event {
            path: path.to_vec(),
            is_directory: false,
            is_gone: false,
        }
    }

    #[test]
    fn a_form_has_the_fields_of_the_original() {
        assert_eq!(
            form(Path::new("/data"), &event(b"/data/a&b.txt")),
            "watchroot=/data&isdir=0&inotifyPath=/data/a%26b.txt&mask=8"
        );
    }

    #[test]
    fn a_document_has_every_name_whatever_its_bytes() {
        let document = document(
            Path::new("/data"),
            &[event(b"/data/\"x\""), event(b"/data/\xFF")],
        );
        let paths = &document["paths"];
        assert_eq!(paths[0]["path"], "/data/\"x\"");
        assert_eq!(paths[0]["path_bytes"], Value::Null);
        assert_eq!(paths[1]["path_bytes"], json!(b"/data/\xFF"));
    }
}
