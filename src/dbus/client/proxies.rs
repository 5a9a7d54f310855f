//! The names of the bus API, and proxies for what is read and heard. What acts is called with flags that depend on the
//! caller's terminal, which a generated method cannot take: see [`Instance`](super::Instance).

pub(super) const MANAGER: &str = "org.sersync1.Manager";
pub(super) const REMOTE: &str = "org.sersync1.Remote";
pub(super) const LOG_CONTROL: &str = "org.freedesktop.LogControl1";

const REMOTE_PREFIX: &str = "/org/sersync1/remote/";

/// The object of the remote with this number.
pub(super) fn remote_path(number: u32) -> String {
    format!("{REMOTE_PREFIX}{number}")
}

/// The number of the remote that this object is, if it is one.
pub(super) fn remote_number(path: &str) -> Option<u32> {
    path.strip_prefix(REMOTE_PREFIX)?.parse().ok()
}

#[zbus::proxy(interface = "org.sersync1.Manager", default_path = "/org/sersync1")]
pub(super) trait Manager {
    #[zbus(property(emits_changed_signal = "const"))]
    fn instance(&self) -> zbus::Result<String>;

    #[zbus(property)]
    fn percent(&self) -> zbus::Result<u32>;

    #[zbus(signal)]
    fn run_finished(&self, id: u64, ok: bool, detail: &str) -> zbus::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_is_known_by_its_object() {
        assert_eq!(remote_number(&remote_path(7)), Some(7));
        assert_eq!(remote_number("/org/sersync1"), None);
        assert_eq!(remote_number("/org/sersync1/remote/x"), None);
    }
}
