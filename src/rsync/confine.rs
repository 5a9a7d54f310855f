//! What a child may touch besides the source, whatever somebody makes of the source while it runs. Pure.
//!
//! rsync opens `dir/file` by its name. Whoever may write in a source can put a link in the place of `dir` between our
//! look and that, and so have any file sent that root can read. So the kernel is told what a run needs, and refuses the
//! rest: `sandbox` does that.
//!
//! Of `/etc` it is single files: all of it is what such a link would lead to. What is left in reach is what is no
//! secret on any machine: programs, libraries, how names are looked up.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::config::{Backup, RemoteConfig, Target};

/// What may be done at a place, and below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Read files and directories.
    Read,
    /// Also execute files.
    Run,
    /// Read and write what is there.
    Use,
    /// Everything.
    Change,
}

/// A place that may be touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where. What a link leads to is meant.
    pub path: Cow<'static, Path>,
    /// What for.
    pub right: Right,
    /// Whether a run must not be confined if it is not there, since rsync may make it. Others are left out.
    pub is_needed: bool,
}

/// Why a child is not confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unbounded {
    /// ssh reads what its configuration names, and starts the programs that it names.
    #[error("ssh may read and start what its own configuration says")]
    OverSsh,
    /// `-L` and the like.
    #[error("the params have rsync follow links out of the source")]
    FollowsLinks,
    /// `-K` to a directory of this machine.
    #[error("the params have rsync write through links in the target")]
    WritesThroughLinks,
}

/// What the places of a run are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Those that not every run has.
    own: Vec<Place>,
    writes: bool,
    sends_names: bool,
}

/// Programs with their libraries, also where a distribution keeps all of them in a place of its own.
const PROGRAMS: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
];

/// What says whose files are. They are replaced when somebody adds a user, and a rule stays with what it was made for.
pub const NAMES: &[&str] = &[
    NSSWITCH,
    "/etc/passwd",
    "/etc/group",
    "/var/lib/extrausers/passwd",
    "/var/lib/extrausers/group",
];

/// Says who is asked for names.
pub const NSSWITCH: &str = "/etc/nsswitch.conf";

/// What the C library, its sources of names, libcrypto and popt read, and nothing of it a secret.
const SETTINGS: &[&str] = &[
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/ld-musl-aarch64.path",
    "/etc/ld-musl-x86_64.path",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/machine-id",
    "/etc/mdns.allow",
    "/etc/networks",
    "/etc/pki/tls/openssl.cnf",
    "/etc/popt",
    "/etc/popt.d",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/openssl.cnf",
    "/etc/userdb",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/meminfo",
    "/proc/sys/crypto",
    "/proc/sys/kernel/ngroups_max",
    "/run/systemd/machines",
    "/run/systemd/userdb",
    "/run/userdb",
    "/sys/devices/system/cpu",
    "/var/lib/sss/mc",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
];

/// The sources of names that get by with these places, and with sockets, which are not forbidden.
const KNOWN_SERVICES: &[&str] = &[
    "altfiles",
    "compat",
    "dns",
    "extrausers",
    "files",
    "mdns",
    "mdns4",
    "mdns4_minimal",
    "mdns6",
    "mdns6_minimal",
    "mdns_minimal",
    "myhostname",
    "mymachines",
    "resolve",
    "sss",
    "systemd",
    "winbind",
];

impl Policy {
    /// What a run to a remote may touch besides the source.
    ///
    /// # Errors
    /// Why that has no bounds.
    pub fn of(remote: &RemoteConfig, program: &Path) -> Result<Self, Unbounded> {
        let params = &remote.params;
        if params.follows_links() {
            return Err(Unbounded::FollowsLinks);
        }
        let mut policy = Self::of_program(program);
        let read = params.files_read();
        policy.own.extend(read.map(|file| reading(file.into())));
        match &remote.target {
            Target::Ssh { .. } => return Err(Unbounded::OverSsh),
            Target::Local { .. } if params.writes_through_links() => {
                return Err(Unbounded::WritesThroughLinks);
            }
            Target::Local { path } => {
                policy.writes = true;
                let beside = remote.backup.as_ref().and_then(Backup::beside);
                let written = [Some(path.as_path()), beside, params.temp_dir()];
                let written = written.into_iter().flatten();
                policy.own.extend(written.map(|dir| Place {
                    path: Cow::Owned(dir.into()),
                    right: Right::Change,
                    is_needed: true,
                }));
            }
            Target::Daemon { password_file, .. } => {
                policy.sends_names = !params.numeric_ids();
                let password = password_file.iter().cloned();
                policy.own.extend(password.map(reading));
            }
        }
        Ok(policy)
    }

    /// What the program itself needs.
    #[must_use]
    pub fn of_program(program: &Path) -> Self {
        Self {
            own: vec![Place {
                path: Cow::Owned(program.into()),
                right: Right::Run,
                is_needed: true,
            }],
            writes: false,
            sends_names: false,
        }
    }

    /// All places.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let fixed = |right| {
            move |path: &&'static str| Place {
                path: Cow::Borrowed(Path::new(*path)),
                right,
                is_needed: false,
            }
        };
        let programs = PROGRAMS.iter().map(fixed(Right::Run));
        let read = NAMES.iter().chain(SETTINGS).map(fixed(Right::Read));
        let used = ["/dev/null"].iter().map(fixed(Right::Use));
        let own = self.own.iter().cloned();
        own.chain(programs).chain(read).chain(used)
    }

    /// Whether rsync is the receiver too. It links and renames between directories then.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.writes
    }

    /// Whether owners go to the receiver by their names. Where rsync can look none up it sends numbers, which the
    /// receiver may give to somebody else.
    #[must_use]
    pub fn sends_names(&self) -> bool {
        self.sends_names
    }
}

fn reading(path: PathBuf) -> Place {
    Place {
        path: Cow::Owned(path),
        right: Right::Read,
        is_needed: false,
    }
}

/// The first of the sources of names in an `nsswitch.conf` of which it is not known what they read.
#[must_use]
pub fn unknown_service(nsswitch: &str) -> Option<&str> {
    let lines = nsswitch.lines();
    let lines = lines.filter_map(|line| line.split('#').next()?.split_once(':'));
    lines
        .filter(|(kind, _)| matches!(kind.trim(), "passwd" | "group" | "hosts" | "initgroups"))
        .flat_map(|(_, services)| services.split(']'))
        // `dns [!UNAVAIL=return] files`
        .filter_map(|services| services.split('[').next())
        .flat_map(str::split_whitespace)
        .find(|service| !KNOWN_SERVICES.contains(service))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::SshOptions;

    fn remote(target: Target, params: &str) -> RemoteConfig {
        RemoteConfig {
            target,
            params: params.parse().expect("allowed options"),
            timeout: Duration::from_secs(1),
            max_delete: None,
            backup: None,
        }
    }

    fn daemon() -> Target {
        Target::Daemon {
            host: "h".into(),
            module: "m".into(),
            port: None,
            user: None,
            password_file: Some("/srv/secret".into()),
        }
    }

    fn local() -> Target {
        Target::Local {
            path: "/backup".into(),
        }
    }

    fn policy(remote: &RemoteConfig) -> Result<Policy, Unbounded> {
        Policy::of(remote, Path::new("/opt/rsync"))
    }

    fn with(policy: &Policy, right: Right) -> Vec<String> {
        let places = policy.places().filter(|place| place.right == right);
        places
            .map(|place| place.path.display().to_string())
            .collect()
    }

    #[test]
    fn a_sender_reads_what_it_is_given_and_writes_nowhere() {
        let policy = policy(&remote(
            daemon(),
            "-a --exclude-from=/srv/rules --include-from /srv/more",
        ));
        let policy = policy.expect("bounded");
        let read = with(&policy, Right::Read);
        for path in ["/srv/secret", "/srv/rules", "/srv/more", "/etc/passwd"] {
            assert!(read.iter().any(|place| place == path), "{path}");
        }
        assert!(with(&policy, Right::Run).contains(&"/opt/rsync".to_owned()));
        assert_eq!(with(&policy, Right::Use), ["/dev/null"]);
        assert!(with(&policy, Right::Change).is_empty());
        assert!(policy.sends_names() && !policy.writes());
    }

    #[test]
    fn nothing_that_holds_secrets_is_in_reach() {
        let policy = Policy::of_program(Path::new("/usr/bin/rsync"));
        for secret in [
            "/etc/shadow",
            "/etc/ssh/ssh_host_key",
            "/root/x",
            "/home/x",
            "/proc/1/environ",
            "/run/x",
        ] {
            let mut places = policy.places();
            let around = places.find(|place| Path::new(secret).starts_with(&place.path));
            assert_eq!(around, None, "{secret}");
        }
    }

    #[test]
    fn a_receiver_of_this_machine_writes_its_target_and_what_is_kept() {
        let mut remote = remote(local(), "-a --temp-dir=/scratch");
        remote.backup = Some(Backup::Beside("/kept".into()));
        let policy = policy(&remote).expect("bounded");
        assert_eq!(
            with(&policy, Right::Change),
            ["/backup", "/kept", "/scratch"]
        );
        assert!(policy.writes() && !policy.sends_names());
    }

    #[test]
    fn where_bounds_would_break_what_was_asked_for_there_are_none() {
        let ssh = Target::Ssh {
            host: "h".into(),
            path: "/x".into(),
            port: None,
            user: None,
            options: SshOptions::default(),
        };
        assert_eq!(policy(&remote(ssh, "-a")), Err(Unbounded::OverSsh));
        for params in ["-aL", "-ak", "-a --copy-unsafe-links"] {
            let refused = policy(&remote(daemon(), params));
            assert_eq!(refused, Err(Unbounded::FollowsLinks), "{params}");
        }
        let refused = policy(&remote(local(), "-aK"));
        assert_eq!(refused, Err(Unbounded::WritesThroughLinks));
        assert!(
            policy(&remote(daemon(), "-aK")).is_ok(),
            "the receiver's affair"
        );
        let numeric = policy(&remote(daemon(), "-a --numeric-ids"));
        assert!(numeric.is_ok_and(|policy| !policy.sends_names()));
    }

    #[test]
    fn a_source_of_names_that_is_not_known_is_found() {
        let known = "passwd: files systemd\nhosts: files mdns4_minimal [NOTFOUND=return] dns\nnetgroup: nis\n";
        assert_eq!(unknown_service(known), None);
        assert_eq!(unknown_service("# passwd: ldap\npasswd:files # ldap"), None);
        let unknown = "passwd: files [success=merge] ldap [x=y]\n";
        assert_eq!(unknown_service(unknown), Some("ldap"));
        assert_eq!(unknown_service("group: compat nis"), Some("nis"));
    }
}
