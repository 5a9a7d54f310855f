//! What a client needs that waits.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};
use zbus::{DBusError as _, OwnedVariant, Proxy, Variant};

/// Nothing here takes a tenth of it on a machine that is not overloaded.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until something is so.
pub async fn eventually<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < DEADLINE, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The name of the error that a call must have ended with.
pub fn error_name<T: std::fmt::Debug>(result: zbus::Result<T>) -> String {
    match result.expect_err("it is refused") {
        zbus::Error::MethodError(name, ..) => name.to_string(),
        zbus::Error::FDO(error) => error.name().to_string(),
        other => panic!("no answer from the service: {other}"),
    }
}

/// What `PropertiesChanged` says of an object.
pub struct Changes(zbus::proxy::SignalStream<'static>);

impl Changes {
    pub async fn of(object: &Proxy<'static>) -> Self {
        let properties = Proxy::new(
            object.connection(),
            object.destination().to_owned(),
            object.path().to_owned(),
            "org.freedesktop.DBus.Properties",
        );
        let properties = properties.await.expect("well formed");
        Self(
            properties
                .receive_signal("PropertiesChanged")
                .await
                .expect("signals"),
        )
    }

    /// The next announcement: its properties, as text.
    pub async fn next(&mut self) -> BTreeMap<String, String> {
        let signal = timeout(DEADLINE, self.0.next()).await;
        let signal = signal.expect("it is told in time").expect("connected");
        let body = signal.body();
        let (_, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) =
            body.deserialize().expect("as the specification says");
        let text = |value: OwnedVariant| match &*value {
            Variant::Str(text) => text.to_string(),
            Variant::U64(number) => number.to_string(),
            other => other.to_string(),
        };
        changed
            .into_iter()
            .map(|(name, value)| (name, text(value)))
            .collect()
    }

    /// Waits until a property is told to have this value; returns how many announcements that took.
    pub async fn until(&mut self, property: &str, value: &str) -> usize {
        let mut announcements = 1;
        while self.next().await.get(property).map(String::as_str) != Some(value) {
            announcements += 1;
        }
        announcements
    }
}
