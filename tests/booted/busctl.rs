//! The bus side of an [`Instance`], through `busctl` as an administrator would use it.

use std::fmt::Display;
use std::time::Duration;

use serde_json::Value;

use crate::instance::Instance;
use crate::machine::Machine;
use crate::said::Said;
use crate::wait::{SOON, wait_for};

/// The object of an instance.
pub const MANAGER_PATH: &str = "/org/sersync1";
/// Its interface.
pub const MANAGER: &str = "org.sersync1.Manager";
/// The interface of a remote.
pub const REMOTE: &str = "org.sersync1.Remote";

impl Instance<'_> {
    /// `busctl call` of a method of the manager, with the signature and the arguments as busctl wants them.
    #[track_caller]
    pub fn call(&self, method: &str, arguments: &[&str]) -> Said {
        self.call_at(MANAGER_PATH, MANAGER, method, arguments)
    }

    /// The same at another object.
    #[track_caller]
    pub fn call_at(&self, path: &str, interface: &str, method: &str, arguments: &[&str]) -> Said {
        let name = self.bus_name();
        let mut command = vec![
            "busctl",
            "--json=short",
            "--timeout=60",
            "call",
            &name,
            path,
            interface,
            method,
        ];
        command.extend(arguments);
        self.machine.run(command)
    }

    /// The only value that a method of the manager answers with.
    #[track_caller]
    pub fn answer(&self, method: &str, arguments: &[&str]) -> Value {
        data(&self.call(method, arguments).succeeded())[0].take()
    }

    /// A property of the manager.
    #[track_caller]
    pub fn property(&self, name: &str) -> Value {
        property(self.machine, &self.bus_name(), MANAGER_PATH, MANAGER, name).unwrap()
    }

    /// A property of a remote.
    #[track_caller]
    pub fn remote_property(&self, path: &str, name: &str) -> Value {
        property(self.machine, &self.bus_name(), path, REMOTE, name).unwrap()
    }

    /// The objects of its remotes.
    #[track_caller]
    pub fn remotes(&self) -> Vec<String> {
        let remotes = self.property("Remotes");
        let paths = remotes.as_array().expect("Remotes is a list");
        paths
            .iter()
            .map(|path| path.as_str().expect("an object path").to_owned())
            .collect()
    }

    /// Waits until a property of the manager has a value.
    #[track_caller]
    pub fn wait_for_property(&self, name: &str, wanted: impl Into<Value>) {
        let wanted = wanted.into();
        self.wait_for_property_that(SOON, name, format!("is {wanted}"), |value| *value == wanted);
    }

    /// Waits until a property of the manager is as `is_wanted` wants it, and gives it.
    #[track_caller]
    pub fn wait_for_property_that(
        &self,
        within: Duration,
        name: &str,
        how: impl Display,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        wait_for(
            within,
            &format!("{name} of {} {how}", self.bus_name()),
            || match property(self.machine, &self.bus_name(), MANAGER_PATH, MANAGER, name) {
                Ok(value) if is_wanted(&value) => Ok(value),
                Ok(value) => Err(value.to_string()),
                Err(said) => Err(said),
            },
        )
    }

    /// Its name on the bus.
    pub fn bus_name(&self) -> String {
        format!("org.sersync1.{}", self.name())
    }
}

/// A property of any object, or what busctl said instead.
fn property(
    machine: &Machine,
    name: &str,
    path: &str,
    interface: &str,
    property: &str,
) -> Result<Value, String> {
    let said = machine.run([
        "busctl",
        "--json=short",
        "get-property",
        name,
        path,
        interface,
        property,
    ]);
    if said.code == 0 {
        Ok(data(&said.stdout))
    } else {
        Err(said.to_string())
    }
}

/// What is in an answer of `busctl --json=short`.
#[track_caller]
fn data(answer: &str) -> Value {
    let mut answer: Value = serde_json::from_str(answer)
        .unwrap_or_else(|error| panic!("busctl prints JSON, not `{answer}`: {error}"));
    answer["data"].take()
}

/// The text of an array of bytes.
pub fn text(bytes: &Value) -> String {
    let bytes: Vec<u8> = serde_json::from_value(bytes.clone()).expect("an array of bytes");
    String::from_utf8(bytes).expect("these tests have names in UTF-8")
}
