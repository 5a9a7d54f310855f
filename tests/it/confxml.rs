//! The configuration file of a test, as an administrator would write it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A `confxml.xml` to be: what is in here is written, everything else is left to its default.
#[derive(Debug, Clone)]
pub struct Confxml {
    /// Where [`Confxml::write`] puts it.
    pub file: PathBuf,
    /// The `localpath` elements.
    pub mirrors: Vec<Localpath>,
    /// `commonParams`.
    pub params: String,
    /// User and password file.
    pub auth: Option<(String, PathBuf)>,
    /// The port of all daemons in the file.
    pub port: u16,
    /// `timeout`, in seconds.
    pub timeout: u32,
    /// Entries of the `inotify` element and their `start` values.
    pub switches: Vec<(&'static str, bool)>,
    /// The plugins that are started: their names, and what stands in their definitions.
    pub plugins: Vec<(&'static str, String)>,
    /// More elements of `sersync`, as they are to stand there.
    pub more: String,
    /// More elements of `<rsync>`.
    pub rsync: String,
    /// `scan` of every `<localpath>`.
    pub scan: Option<&'static str>,
    /// Expressions of the `filter`; it is off if there is nothing in it.
    pub excludes: Vec<&'static str>,
    /// More elements of `filter`, before these.
    pub rules: String,
}

/// One `localpath`: a source and where it goes.
#[derive(Debug, Clone)]
pub struct Localpath {
    pub watch: PathBuf,
    pub remotes: Vec<Remote>,
}

/// One `remote`.
#[derive(Debug, Clone)]
pub enum Remote {
    /// A module of the daemon at an address.
    Module { ip: &'static str, name: String },
    /// A directory of this machine.
    Local(PathBuf),
}

impl Remote {
    /// The module `name` of a daemon at 127.0.0.1.
    pub fn module(name: &str) -> Self {
        Self::Module {
            ip: "127.0.0.1",
            name: name.to_owned(),
        }
    }
}

impl Confxml {
    /// A file with one mirror, `-a`, and attribute changes followed.
    pub fn new(file: PathBuf, watch: &Path, remotes: Vec<Remote>, port: u16) -> Self {
        Self {
            file,
            mirrors: vec![Localpath {
                watch: watch.to_path_buf(),
                remotes,
            }],
            params: "-a".to_owned(),
            auth: None,
            port,
            timeout: 100,
            switches: vec![("attrib", true)],
            plugins: Vec::new(),
            more: String::new(),
            rsync: String::new(),
            scan: None,
            excludes: Vec::new(),
            rules: String::new(),
        }
    }

    /// Writes the file anew.
    pub fn write(&self) -> io::Result<()> {
        let mut xml =
            b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n<head version=\"2.5\">\n".to_vec();
        let is_on = !self.excludes.is_empty() || !self.rules.is_empty();
        let filter = format!("  <filter start=\"{is_on}\">\n{}", self.rules);
        xml.extend_from_slice(filter.as_bytes());
        for expression in &self.excludes {
            xml.extend_from_slice(b"    <exclude expression=");
            quoted(&mut xml, expression.as_bytes());
            xml.extend_from_slice(b"/>\n");
        }
        xml.extend_from_slice(b"  </filter>\n  <inotify>\n");
        for (name, start) in &self.switches {
            xml.extend_from_slice(format!("    <{name} start=\"{start}\"/>\n").as_bytes());
        }
        xml.extend_from_slice(b"  </inotify>\n  <sersync>\n");
        for mirror in &self.mirrors {
            mirror.write(self.scan, &mut xml);
        }
        xml.extend_from_slice(b"    <rsync>\n      <commonParams params=");
        quoted(&mut xml, self.params.as_bytes());
        xml.extend_from_slice(b"/>\n");
        if let Some((user, password_file)) = &self.auth {
            xml.extend_from_slice(b"      <auth start=\"true\" users=");
            quoted(&mut xml, user.as_bytes());
            xml.extend_from_slice(b" passwordfile=");
            quoted(&mut xml, password_file.as_os_str().as_bytes());
            xml.extend_from_slice(b"/>\n");
        }
        xml.extend_from_slice(self.rsync.as_bytes());
        let port = format!(
            "      <userDefinedPort start=\"true\" port=\"{}\"/>\n",
            self.port
        );
        xml.extend_from_slice(port.as_bytes());
        let timeout = format!(
            "      <timeout start=\"true\" time=\"{}\"/>\n    </rsync>\n",
            self.timeout
        );
        xml.extend_from_slice(timeout.as_bytes());
        for (name, _) in &self.plugins {
            let start = format!("    <plugin start=\"true\" name=\"{name}\"/>\n");
            xml.extend_from_slice(start.as_bytes());
        }
        xml.extend_from_slice(self.more.as_bytes());
        xml.extend_from_slice(b"  </sersync>\n");
        for (name, definition) in &self.plugins {
            let plugin = format!("  <plugin name=\"{name}\">{definition}</plugin>\n");
            xml.extend_from_slice(plugin.as_bytes());
        }
        xml.extend_from_slice(b"</head>\n");
        fs::write(&self.file, xml)
    }
}

impl Localpath {
    fn write(&self, scan: Option<&str>, xml: &mut Vec<u8>) {
        xml.extend_from_slice(b"    <localpath watch=");
        quoted(xml, self.watch.as_os_str().as_bytes());
        if let Some(scan) = scan {
            xml.extend_from_slice(b" scan=");
            quoted(xml, scan.as_bytes());
        }
        xml.extend_from_slice(b">\n");
        for remote in &self.remotes {
            match remote {
                Remote::Module { ip, name } => {
                    xml.extend_from_slice(b"      <remote ip=");
                    quoted(xml, ip.as_bytes());
                    xml.extend_from_slice(b" name=");
                    quoted(xml, name.as_bytes());
                }
                Remote::Local(path) => {
                    xml.extend_from_slice(b"      <remote path=");
                    quoted(xml, path.as_os_str().as_bytes());
                }
            }
            xml.extend_from_slice(b"/>\n");
        }
        xml.extend_from_slice(b"    </localpath>\n");
    }
}

/// Appends an attribute value with its quotes; what XML would take for markup is escaped.
fn quoted(xml: &mut Vec<u8>, value: &[u8]) {
    xml.push(b'"');
    for &byte in value {
        match byte {
            b'&' => xml.extend_from_slice(b"&amp;"),
            b'<' => xml.extend_from_slice(b"&lt;"),
            b'"' => xml.extend_from_slice(b"&quot;"),
            b'\n' => xml.extend_from_slice(b"&#10;"),
            b'\t' => xml.extend_from_slice(b"&#9;"),
            _ => xml.push(byte),
        }
    }
    xml.push(b'"');
}
