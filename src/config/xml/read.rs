//! Reads the tree of elements into the raw types. What is asked for here is what the file may hold.

use roxmltree::{Document, Error, TextPos};

use super::super::problem::{At, Problems};
use super::super::quote;
use super::super::suggest::nearest;
use super::element::Element;
use super::{
    AuthXml, BackupXml, CdnInfoXml, CommandParamXml, CommonParamsXml, CrontabXml, DestinationXml,
    ExpressionXml, FailLogXml, FileSystemXml, FilterXml, HeadXml, HostXml, HttpXml, InotifyXml,
    LocalPathXml, MaxDeleteXml, ParamsXml, PatternsXml, PluginKindXml, PluginXml, RefreshCdnXml,
    RegexUrlXml, RemoteXml, RsyncXml, RuleKindXml, RuleXml, SendUrlXml, SersyncXml, SocketXml,
    SshXml, StartPluginXml, SwitchXml, TimeoutXml, UserDefinedPortXml,
};

/// The plugins that can be defined.
const PLUGIN_NAMES: [&str; 4] = ["command", "socket", "http", "refreshCDN"];

/// Reads the text of a file. `None` if it is no XML or something else altogether; `problems` then says why.
pub(in crate::config) fn parse(text: &str, problems: &mut Problems<'_>) -> Option<HeadXml> {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            report_broken_xml(text, &error, problems);
            return None;
        }
    };
    let root = document.root_element();
    let name = root.tag_name().name();
    if name != "head" || root.tag_name().namespace().is_some() {
        problems.error(
            At(root.range().start),
            format!(
                "the root element must be `head`, not {}; write <head version=\"2.5\"> … </head>",
                quote(name)
            ),
        );
        // A misspelt root is worth reading on; another kind of file is not.
        nearest(name, ["head"])?;
    }
    Some(Element::read(root, problems, read_head))
}

fn report_broken_xml(text: &str, error: &Error, problems: &mut Problems<'_>) {
    if matches!(error, Error::DtdDetected) {
        let at = text.find("<!DOCTYPE").unwrap_or_default();
        problems.error(
            At(at),
            "a DTD is refused, it could pull in other files; remove <!DOCTYPE …>",
        );
        return;
    }
    let position = error.pos();
    let at = offset_of(text, position);
    let what = match error {
        // Its own message shows one byte of what may be a character of several.
        Error::InvalidChar2(expected, ..) => {
            let found: String = text[at.0..].chars().take(1).collect();
            format!("expected {expected}, not {}", quote(&found))
        }
        error => error.to_string().replace(&format!(" at {position}"), ""),
    };
    let advice = match error {
        Error::UnexpectedDeclaration(_) => {
            "; <?xml …?> must be the very first characters of the file"
        }
        Error::MalformedEntityReference(_) | Error::UnknownEntityReference(..) => {
            "; write `&` as &amp;"
        }
        Error::InvalidAttributeValue(_) => "; write `<` as &lt;, or close the quote before it",
        Error::InvalidComment(_) => "; write `-` once",
        Error::InvalidChar2("a quote", ..) => "; put values in plain quotes: start=\"true\"",
        _ => "",
    };
    problems.error(at, format!("no well-formed XML: {what}{advice}"));
}

/// The byte offset of a position that counts lines and characters.
fn offset_of(text: &str, position: TextPos) -> At {
    let line_start: usize = text
        .split_inclusive('\n')
        .take(position.row.saturating_sub(1) as usize)
        .map(str::len)
        .sum();
    let column: usize = text[line_start..]
        .chars()
        .take(position.col.saturating_sub(1) as usize)
        .map(char::len_utf8)
        .sum();
    At(line_start + column)
}

fn read_head(element: &mut Element<'_, '_, '_>) -> HeadXml {
    HeadXml {
        at: element.at(),
        version: element.attribute("version"),
        host: element.child("host", |host| HostXml {
            host_ip: host.attribute("hostip"),
            port: host.attribute("port"),
        }),
        debug: element.child("debug", read_switch),
        file_system: element.child("fileSystem", |file_system| FileSystemXml {
            xfs: file_system.attribute("xfs"),
        }),
        filter: element.child("filter", read_filter),
        inotify: element.child("inotify", read_inotify),
        sersync: element.child("sersync", read_sersync),
        plugins: element.children("plugin", read_plugin),
    }
}

fn read_switch(element: &mut Element<'_, '_, '_>) -> SwitchXml {
    SwitchXml {
        at: element.at(),
        start: element.attribute("start"),
    }
}

fn read_filter(element: &mut Element<'_, '_, '_>) -> FilterXml {
    let excludes = element.children("exclude", |exclude| RuleXml {
        at: exclude.at(),
        kind: RuleKindXml::Exclude {
            expression: exclude.attribute("expression"),
            pattern: exclude.attribute("pattern"),
        },
    });
    let includes = element.children("include", |include| RuleXml {
        at: include.at(),
        kind: RuleKindXml::Include {
            pattern: include.attribute("pattern"),
        },
    });
    let files = element.children("excludeFrom", |file| RuleXml {
        at: file.at(),
        kind: RuleKindXml::ExcludeFrom {
            path: file.attribute("path"),
        },
    });
    let mut rules: Vec<RuleXml> = excludes.into_iter().chain(includes).chain(files).collect();
    rules.sort_by_key(|rule| rule.at);
    FilterXml {
        switch: read_switch(element),
        rules,
    }
}

fn read_patterns(element: &mut Element<'_, '_, '_>, name: &'static str) -> PatternsXml {
    PatternsXml {
        switch: read_switch(element),
        expressions: element.children(name, |expression| ExpressionXml {
            at: expression.at(),
            expression: expression.attribute("expression"),
        }),
    }
}

fn read_inotify(element: &mut Element<'_, '_, '_>) -> InotifyXml {
    InotifyXml {
        delete: element.child("delete", read_switch),
        create_folder: element.child("createFolder", read_switch),
        create_file: element.child("createFile", read_switch),
        close_write: element.child("closeWrite", read_switch),
        move_from: element.child("moveFrom", read_switch),
        move_to: element.child("moveTo", read_switch),
        attrib: element.child("attrib", read_switch),
        modify: element.child("modify", read_switch),
    }
}

fn read_sersync(element: &mut Element<'_, '_, '_>) -> SersyncXml {
    SersyncXml {
        at: element.at(),
        local_paths: element.children("localpath", |local_path| LocalPathXml {
            at: local_path.at(),
            watch: local_path.attribute("watch"),
            scan: local_path.attribute("scan"),
            remotes: local_path.children("remote", read_remote),
        }),
        rsync: element.child("rsync", read_rsync),
        fail_log: element.child("failLog", |fail_log| FailLogXml {
            path: fail_log.attribute("path"),
            time_to_execute: fail_log.attribute("timeToExecute"),
        }),
        crontab: element.child("crontab", |crontab| CrontabXml {
            switch: read_switch(crontab),
            schedule: crontab.attribute("schedule"),
            calendar: crontab.attribute("calendar"),
            filter: crontab.child("crontabfilter", |filter| read_patterns(filter, "exclude")),
        }),
        plugins: element.children("plugin", |plugin| StartPluginXml {
            switch: read_switch(plugin),
            name: plugin.attribute("name"),
        }),
    }
}

fn read_remote(element: &mut Element<'_, '_, '_>) -> RemoteXml {
    RemoteXml {
        at: element.at(),
        ip: element.attribute("ip"),
        name: element.attribute("name"),
        path: element.attribute("path"),
        users: element.attribute("users"),
        password_file: element.attribute("passwordfile"),
        port: element.attribute("port"),
        ssh: element.attribute("ssh"),
        max_delete: element.attribute("maxDelete"),
        backup_dir: element.attribute("backupDir"),
        params: read_params(element),
    }
}

fn read_params(element: &mut Element<'_, '_, '_>) -> ParamsXml {
    ParamsXml {
        params: element.attribute("params"),
        keep_update: element.attribute("keepUpdate"),
    }
}

fn read_rsync(element: &mut Element<'_, '_, '_>) -> RsyncXml {
    RsyncXml {
        common_params: element.child("commonParams", |common_params| CommonParamsXml {
            at: common_params.at(),
            params: read_params(common_params),
        }),
        auth: element.child("auth", |auth| AuthXml {
            switch: read_switch(auth),
            users: auth.attribute("users"),
            password_file: auth.attribute("passwordfile"),
        }),
        port: element.child("userDefinedPort", |port| UserDefinedPortXml {
            switch: read_switch(port),
            port: port.attribute("port"),
        }),
        timeout: element.child("timeout", |timeout| TimeoutXml {
            switch: read_switch(timeout),
            time: timeout.attribute("time"),
        }),
        ssh: element.child("ssh", |ssh| SshXml {
            switch: read_switch(ssh),
            identity: ssh.attribute("identity"),
            known_hosts: ssh.attribute("knownHosts"),
            options: ssh.attribute("options"),
        }),
        max_delete: element.child("maxDelete", |max_delete| MaxDeleteXml {
            switch: read_switch(max_delete),
            count: max_delete.attribute("count"),
        }),
        backup: element.child("backup", |backup| BackupXml {
            switch: read_switch(backup),
            dir: backup.attribute("dir"),
        }),
    }
}

fn read_plugin(element: &mut Element<'_, '_, '_>) -> PluginXml {
    let at = element.at();
    let name = element.attribute("name");
    let kind = match name.as_ref().map(|name| name.value.as_str()) {
        Some("command") => PluginKindXml::Command {
            param: element.child("param", |param| CommandParamXml {
                at: param.at(),
                prefix: param.attribute("prefix"),
                suffix: param.attribute("suffix"),
                ignore_error: param.attribute("ignoreError"),
                mode: param.attribute("mode"),
            }),
            filter: element.child("filter", |filter| read_patterns(filter, "include")),
        },
        Some("socket") => {
            PluginKindXml::Socket(element.child("localpath", |local_path| SocketXml {
                at: local_path.at(),
                watch: local_path.attribute("watch"),
                hosts: local_path.children("deshost", |host| read_destination(host, "ip")),
            }))
        }
        Some("http") => PluginKindXml::Http(element.child("localpath", |local_path| HttpXml {
            at: local_path.at(),
            watch: local_path.attribute("watch"),
            hosts: local_path.children("deshost", |host| DestinationXml {
                format: host.attribute("format"),
                ..read_destination(host, "url")
            }),
        })),
        Some("refreshCDN") => {
            PluginKindXml::RefreshCdn(element.child("localpath", read_refresh_cdn).map(Box::new))
        }
        other => {
            let text = match other {
                None => format!(
                    "missing attribute `name`; write one of `{}`",
                    PLUGIN_NAMES.join("`, `")
                ),
                Some(other) => match nearest(other, PLUGIN_NAMES) {
                    Some(meant) => format!(
                        "there is no plugin {}; did you mean `{meant}`?",
                        quote(other)
                    ),
                    None => format!(
                        "there is no plugin {}; known: `{}`",
                        quote(other),
                        PLUGIN_NAMES.join("`, `")
                    ),
                },
            };
            let at = name.map_or(at, |name| name.at);
            element.problems().error(at, text);
            element.ignore_content();
            PluginKindXml::Unknown
        }
    };
    PluginXml { at, kind }
}

fn read_destination(element: &mut Element<'_, '_, '_>, address: &'static str) -> DestinationXml {
    DestinationXml {
        at: element.at(),
        address: element.attribute(address),
        port: element.attribute("port"),
        format: None,
    }
}

fn read_refresh_cdn(element: &mut Element<'_, '_, '_>) -> RefreshCdnXml {
    RefreshCdnXml {
        at: element.at(),
        watch: element.attribute("watch"),
        info: element.child("cdninfo", |info| CdnInfoXml {
            at: info.at(),
            domain_name: info.attribute("domainname"),
            port: info.attribute("port"),
            user_name: info.attribute("username"),
            password: info.attribute("passwd"),
        }),
        send_url: element.child("sendurl", |send_url| SendUrlXml {
            at: send_url.at(),
            base: send_url.attribute("base"),
        }),
        regex_url: element.child("regexurl", |regex_url| RegexUrlXml {
            at: regex_url.at(),
            regex: regex_url.attribute("regex"),
            pattern: regex_url.attribute("match"),
        }),
    }
}
