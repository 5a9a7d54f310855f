//! Writes the configuration file that a user of the old sersync would have: its stock form, with other values.

use std::fmt::Write as _;
use std::path::Path;

use super::receiver::{Receiver, USER};

/// One `<remote>`: an address and a module.
#[derive(Clone, Copy)]
pub struct Remote<'a> {
    /// Address of the daemon; the port is one for the whole file.
    pub ip: &'a str,
    /// Module at that daemon.
    pub module: &'a str,
}

/// The text of a `confxml.xml` that pushes `source` to `remotes`, with the port and the password of `receiver`.
///
/// The paths are those of temporary directories: nothing in them needs escaping.
pub fn confxml(source: &Path, remotes: &[Remote<'_>], receiver: &Receiver) -> String {
    let mut targets = String::new();
    for Remote { ip, module } in remotes {
        let _ = writeln!(
            targets,
            r#"            <remote ip="{ip}" name="{module}"/>"#
        );
    }
    format!(
        r#"<?xml version="1.0" encoding="ISO-8859-1"?>
<head version="2.5">
    <host hostip="localhost" port="8008"></host>
    <debug start="false"/>
    <fileSystem xfs="false"/>
    <filter start="false"/>
    <inotify>
        <delete start="true"/>
        <createFolder start="true"/>
        <createFile start="false"/>
        <closeWrite start="true"/>
        <moveFrom start="true"/>
        <moveTo start="true"/>
        <attrib start="false"/>
        <modify start="false"/>
    </inotify>
    <sersync>
        <localpath watch="{source}">
{targets}        </localpath>
        <rsync>
            <commonParams params="-a"/>
            <auth start="true" users="{USER}" passwordfile="{password_file}"/>
            <userDefinedPort start="true" port="{port}"/>
            <timeout start="true" time="100"/>
            <ssh start="false"/>
        </rsync>
    </sersync>
</head>
"#,
        source = source.display(),
        password_file = receiver.password_file().display(),
        port = receiver.port(),
    )
}
