//! One `<remote>`: the `<rsync>` element's settings, overridden by the remote's own attributes.

use std::path::PathBuf;
use std::time::Duration;

use super::RemoteConfig;
use super::backup::Backup;
use super::params::{Params, Remark};
use super::problem::{Problems, Severity};
use super::ssh::SshOptions;
use super::target::{Login, Target, not_default, user};
use super::values::{boolean, count, module, path, path_over_ssh, port, seconds};
use super::xml::{AuthXml, ParamsXml, RemoteXml, RsyncXml};

/// `commonParams` of the stock file.
const STOCK_PARAMS: &str = "-artuz";

/// `--timeout` where the file sets none: rsync would wait for ever for a receiver that is gone without a word.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// The `<rsync>` element.
#[derive(Debug)]
pub(super) struct RsyncSettings {
    params: Params,
    auth: Option<Auth>,
    port: Option<u16>,
    timeout: Duration,
    ssh: bool,
    ssh_options: SshOptions,
    max_delete: Option<u64>,
    backup: Option<Backup>,
}

#[derive(Debug, Clone)]
struct Auth {
    user: Option<String>,
    password_file: Option<PathBuf>,
}

impl RsyncSettings {
    pub(super) fn validate(rsync: Option<&RsyncXml>, problems: &mut Problems<'_>) -> Self {
        let ssh_xml = rsync.and_then(|rsync| rsync.ssh.as_ref());
        let ssh = ssh_xml.is_some_and(|ssh| problems.start(&ssh.switch));
        Self {
            ssh_options: ssh_xml.map_or_else(SshOptions::default, |ssh| {
                SshOptions::validate(ssh, problems)
            }),
            params: common_params(rsync, problems),
            auth: rsync.and_then(|rsync| auth(rsync.auth.as_ref()?, ssh, problems)),
            port: rsync.and_then(|rsync| {
                let element = rsync.port.as_ref()?;
                let on = problems.start(&element.switch);
                let port = problems.check_if_on(on, |problems| {
                    problems.required(
                        element.switch.at,
                        "port",
                        element.port.as_ref(),
                        "874",
                        port,
                    )
                });
                port.filter(|_| on)
            }),
            timeout: rsync
                .and_then(|rsync| {
                    let element = rsync.timeout.as_ref()?;
                    let on = problems.start(&element.switch);
                    let time = problems.check_if_on(on, |problems| {
                        problems.required(
                            element.switch.at,
                            "time",
                            element.time.as_ref(),
                            "100",
                            seconds,
                        )
                    });
                    time.filter(|_| on)
                })
                .unwrap_or(DEFAULT_TIMEOUT),
            ssh,
            max_delete: rsync.and_then(|rsync| {
                let element = rsync.max_delete.as_ref()?;
                let on = problems.start(&element.switch);
                let at = element.switch.at;
                let most = problems.check_if_on(on, |problems| {
                    problems.required(at, "count", element.count.as_ref(), "1000", count)
                });
                most.filter(|_| on)
            }),
            backup: rsync.and_then(|rsync| {
                let element = rsync.backup.as_ref()?;
                let on = problems.start(&element.switch);
                let at = element.switch.at;
                let dir = element.dir.as_ref();
                let backup = problems.check_if_on(on, |problems| {
                    problems.required(at, "dir", dir, ".replaced", Backup::parse)
                });
                backup.filter(|_| on)
            }),
        }
    }
}

fn common_params(rsync: Option<&RsyncXml>, problems: &mut Problems<'_>) -> Params {
    let Some(element) = rsync.and_then(|rsync| rsync.common_params.as_ref()) else {
        return Params::check(STOCK_PARAMS, false).params;
    };
    let params = own_params(&element.params, problems);
    if params.is_none() {
        problems.error(
            element.at,
            format!("missing attribute `params`; write params=\"{STOCK_PARAMS}\""),
        );
    }
    params.unwrap_or_default()
}

/// `params` and `keepUpdate`, wherever they stand; `None` if there is no `params`.
fn own_params(xml: &ParamsXml, problems: &mut Problems<'_>) -> Option<Params> {
    let keep_update = xml.keep_update.as_ref();
    let keep_update = keep_update.and_then(|keep_update| problems.value(keep_update, boolean));
    let Some(attribute) = &xml.params else {
        if let Some(keep_update) = &xml.keep_update {
            problems.error(
                keep_update.at,
                "`keepUpdate` belongs to `params`, which is missing here",
            );
        }
        return None;
    };
    let checked = Params::check(&attribute.value, keep_update.unwrap_or(false));
    for Remark { severity, text } in checked.remarks {
        match severity {
            Severity::Error => problems.error(attribute.at, text),
            Severity::Warning => problems.warning(attribute.at, text),
            Severity::Note => problems.note(attribute.at, text),
        }
    }
    Some(checked.params)
}

fn auth(element: &AuthXml, ssh: bool, problems: &mut Problems<'_>) -> Option<Auth> {
    let on = problems.start(&element.switch);
    let at = element.switch.at;
    let (user, password_file) = problems.check_if_on(on, |problems| {
        (
            problems.required(at, "users", element.users.as_ref(), "rsync_backup", user),
            problems.required(
                at,
                "passwordfile",
                element.password_file.as_ref(),
                "/etc/rsync.password",
                path,
            ),
        )
    });
    if on && ssh {
        problems.warning(
            at,
            "`auth` has no effect with ssh, which has its own keys and users: ip=\"user@host\"",
        );
    }
    on.then_some(Auth {
        user,
        password_file,
    })
}

/// Checks one remote. `None` if it has no usable target; `problems` then says why.
pub(super) fn validate(
    remote: &RemoteXml,
    rsync: &RsyncSettings,
    problems: &mut Problems<'_>,
) -> Option<RemoteConfig> {
    let params = own_params(&remote.params, problems);
    let target = if remote.path.is_some() {
        local_target(remote, problems)
    } else {
        network_target(remote, rsync, problems)
    };
    let max_delete = match &remote.max_delete {
        Some(own) => problems.value(own, count),
        None => rsync.max_delete,
    };
    let backup = match &remote.backup_dir {
        Some(own) => problems.value(own, Backup::parse),
        None => rsync.backup.clone(),
    };
    Some(RemoteConfig {
        target: target?,
        params: params.unwrap_or_else(|| rsync.params.clone()),
        timeout: rsync.timeout,
        max_delete,
        backup,
    })
}

fn local_target(remote: &RemoteXml, problems: &mut Problems<'_>) -> Option<Target> {
    let of_the_network = [
        &remote.ip,
        &remote.name,
        &remote.users,
        &remote.password_file,
        &remote.port,
        &remote.ssh,
    ];
    for attribute in of_the_network.into_iter().flatten() {
        problems.error(
            attribute.at,
            format!(
                "`{}` has no meaning beside `path`, which is a directory of this machine; remove one of them",
                attribute.name
            ),
        );
    }
    let path = problems.value(remote.path.as_ref()?, path)?;
    Some(Target::Local { path })
}

fn network_target(
    remote: &RemoteXml,
    rsync: &RsyncSettings,
    problems: &mut Problems<'_>,
) -> Option<Target> {
    let ssh = remote
        .ssh
        .as_ref()
        .and_then(|ssh| problems.value(ssh, boolean))
        .unwrap_or(rsync.ssh);
    let login = problems.required(
        remote.at,
        "ip",
        remote.ip.as_ref(),
        "10.0.0.41",
        Login::parse,
    );
    let port = match &remote.port {
        Some(own) => problems.value(own, port),
        // The port of the file is that of the kind of remotes that the file is about.
        None => rsync.port.filter(|_| ssh == rsync.ssh),
    };
    if ssh {
        ssh_target(remote, rsync, login, port, problems)
    } else {
        daemon_target(remote, rsync, login, port, problems)
    }
}

fn daemon_target(
    remote: &RemoteXml,
    rsync: &RsyncSettings,
    login: Option<Login>,
    port: Option<u16>,
    problems: &mut Problems<'_>,
) -> Option<Target> {
    let module = problems.required(remote.at, "name", remote.name.as_ref(), "backup", module);
    let own_user = remote
        .users
        .as_ref()
        .map(|users| problems.value(users, user));
    let own_file = remote
        .password_file
        .as_ref()
        .map(|file| problems.value(file, path));
    let auth = rsync.auth.as_ref();
    let Login {
        user: user_in_ip,
        host,
    } = login?;

    if let (Some(ip), Some(_)) = (&remote.ip, &user_in_ip)
        && (own_user.is_some() || auth.is_some())
    {
        problems.error(
            ip.at,
            "`ip` must not name a user when `users` does; write the host alone",
        );
    }
    let without_password = remote
        .users
        .as_ref()
        .filter(|_| own_file.is_none() && auth.is_none());
    if let Some(users) = without_password {
        problems.error(
            users.at,
            "`users` needs a password; write passwordfile=\"/etc/rsync.password\" too",
        );
    }
    let nobody = own_user.is_none() && auth.is_none() && user_in_ip.is_none();
    if let Some(file) = remote.password_file.as_ref().filter(|_| nobody) {
        problems.error(
            file.at,
            "`passwordfile` needs a user; write users=\"rsync_backup\" too",
        );
    }

    let user = own_user.unwrap_or_else(|| user_in_ip.or_else(|| auth?.user.clone()));
    let password_file = own_file.unwrap_or_else(|| auth?.password_file.clone());
    Some(Target::Daemon {
        host,
        module: module?,
        port: not_default(port),
        user,
        password_file,
    })
}

fn ssh_target(
    remote: &RemoteXml,
    rsync: &RsyncSettings,
    login: Option<Login>,
    port: Option<u16>,
    problems: &mut Problems<'_>,
) -> Option<Target> {
    if let Some(file) = &remote.password_file {
        problems.error(
            file.at,
            "`passwordfile` has no meaning with ssh, which has its own keys; remove it",
        );
    }
    let path = problems.required(
        remote.at,
        "name",
        remote.name.as_ref(),
        "/backup/data",
        path_over_ssh,
    );
    let own_user = remote
        .users
        .as_ref()
        .and_then(|users| problems.value(users, user));
    let Login {
        user: user_in_ip,
        host,
    } = login?;
    if let (Some(users), Some(_)) = (&remote.users, &user_in_ip) {
        problems.error(
            users.at,
            "`users` must not stand beside a user in `ip`; remove one of them",
        );
    }
    Some(Target::Ssh {
        host,
        path: path?,
        port,
        user: own_user.or(user_in_ip),
        options: rsync.ssh_options.clone(),
    })
}
