//! The user's own rsync options (`commonParams params`), as far as a mirror can have them.
//!
//! `params` is split into words (`words.rs`) and read as rsync's option parser would read it, clusters such as
//! `-artuzn` included; each option is looked up in the allow-list (`table.rs`). What is left is a normalised argument
//! list that cannot change what sersync relies on.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::escape::Escaped;
use super::problem::Severity;
use super::quote;
use super::suggest::nearest;
use crate::filter::{Filter, Rule as FilterRule};

mod filters;
mod table;
mod words;

use table::{Negation, Rule, Value, Verdict};

const FILTER: &str = "--filter=";

/// Options for every run, checked.
///
/// The default is no option at all. In tests, `"-a --exclude=x".parse::<Params>()` makes one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "options that can be on or off in any mixture"
)]
pub struct Params {
    args: Vec<OsString>,
    hard_links: bool,
    modify_window: bool,
    one_file_system: bool,
    inplace: bool,
    follows_links: bool,
    writes_through_links: bool,
    numeric_ids: bool,
    filtered: bool,
    rules: Option<Arc<Filter>>,
    links: bool,
    times: bool,
    ignore_times: bool,
}

/// Something to say about one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// An error refuses the whole `params`.
    pub severity: Severity,
    /// One line, without a full stop.
    pub text: String,
}

/// What [`Params::check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The options that are left. Not to be used if one of the remarks is an error.
    pub params: Params,
    /// In the order of the options.
    pub remarks: Vec<Remark>,
}

impl Params {
    /// Checks `text`, the value of `params`. `keep_update` lets `-u` through.
    #[must_use]
    pub fn check(text: &str, keep_update: bool) -> Checked {
        let mut checker = Checker {
            params: Self::default(),
            remarks: Vec::new(),
            keep_update,
            rules: Some(Vec::new()),
        };
        match words::split(text) {
            Ok(words) => {
                checker.check_words(words.into());
                checker.check_whole();
            }
            Err(words::OpenQuote(quote)) => {
                checker.error(format!("the quote {quote} is not closed"));
            }
        }
        Checked {
            params: checker.params,
            remarks: checker.remarks,
        }
    }

    /// The arguments, to be given to rsync before sersync's own (of two that contradict each other the last one wins).
    ///
    /// Two things depend on the place. Files of `--exclude-from` are read line by line only if `--from0` comes later.
    /// And of filter rules the *first* match wins: a protecting rule of sersync's own must come before these
    /// arguments, or an `--include='*'` in them takes the protection away (seen with rsync 3.5.0).
    #[must_use]
    pub fn args(&self) -> &[OsString] {
        &self.args
    }

    /// `-H`: all names of a hard-linked file must be sent in one list.
    #[must_use]
    pub fn hard_links(&self) -> bool {
        self.hard_links
    }

    /// `-I`, or times that are not kept: what has not changed is sent again by each comparison.
    #[must_use]
    pub fn sends_what_is_equal(&self) -> bool {
        self.ignore_times || !self.times
    }

    /// `--modify-window`: how far times may differ is said.
    #[must_use]
    pub fn modify_window(&self) -> bool {
        self.modify_window
    }

    /// `-x`: what lies on another file system than the source's root is no part of the mirror.
    #[must_use]
    pub fn one_file_system(&self) -> bool {
        self.one_file_system
    }

    /// `--inplace`: files are not replaced but written into.
    #[must_use]
    pub fn inplace(&self) -> bool {
        self.inplace
    }

    /// `-L` and the like: rsync reads what links in the source lead to, wherever that is.
    #[must_use]
    pub fn follows_links(&self) -> bool {
        self.follows_links
    }

    /// `-K`: it writes to where links at the receiver lead to.
    #[must_use]
    pub fn writes_through_links(&self) -> bool {
        self.writes_through_links
    }

    /// `--numeric-ids`: it does not ask for the names of owners.
    #[must_use]
    pub fn numeric_ids(&self) -> bool {
        self.numeric_ids
    }

    /// The files of rules that rsync reads at its start.
    pub fn files_read(&self) -> impl Iterator<Item = &Path> {
        self.values("--exclude-from=")
            .chain(self.values("--include-from="))
    }

    /// `--temp-dir`, of the receiver.
    #[must_use]
    pub fn temp_dir(&self) -> Option<&Path> {
        self.values("--temp-dir=").last()
    }

    /// The paths that an option names.
    fn values(&self, option: &'static str) -> impl Iterator<Item = &Path> {
        let args = self.args.iter().filter_map(|arg| arg.to_str());
        args.filter_map(move |arg| arg.strip_prefix(option))
            .map(Path::new)
    }

    /// Whether a filter of any kind is among the arguments. `--delete-missing-args` then deletes what it must not.
    #[must_use]
    pub fn filtered(&self) -> bool {
        self.filtered
    }

    /// The filter among the arguments, if all of it is rules that are known here: `--exclude`, `--include`, and
    /// `--filter` without modifiers.
    ///
    /// Of a list of names, rsync asks its rules of these names alone: what is in a directory that a rule excludes is
    /// hidden only by who reads the rules too.
    #[must_use]
    pub fn rules(&self) -> Option<&Arc<Filter>> {
        self.rules.as_ref()
    }

    /// The same without these rules, for where somebody else sees to them.
    #[must_use]
    pub fn without_rules(&self) -> Self {
        if self.rules.is_none() {
            return self.clone();
        }
        let is_filter = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.starts_with(FILTER));
        let is_known = |arg: &OsString| {
            arg.to_str().is_some_and(|arg| {
                let is_pattern = arg.starts_with("--exclude=") || arg.starts_with("--include=");
                let rule = arg.strip_prefix(FILTER).map(filters::known);
                is_pattern || rule.is_some_and(|rule| rule.is_ok())
            })
        };
        let args: Vec<OsString> = self
            .args
            .iter()
            .filter(|arg| !is_known(arg))
            .cloned()
            .collect();
        Self {
            // What protects is left.
            filtered: args.iter().any(is_filter),
            args,
            rules: None,
            ..self.clone()
        }
    }

    /// Appends one argument; letters go together as people write them.
    fn push(&mut self, argument: &str) {
        let is_cluster = |argument: &str| argument.starts_with('-') && !argument.starts_with("--");
        if is_cluster(argument)
            && let Some(last) = self.args.last_mut()
            && last.to_str().is_some_and(is_cluster)
        {
            last.push(&argument[1..]);
            return;
        }
        self.args.push(argument.into());
    }

    /// Notes what the engine has to know about an option that is passed on.
    fn note(&mut self, long: &str, on: bool) {
        match long {
            "archive" => (self.links, self.times) = (on, on),
            "links" => self.links = on,
            "copy-links" => (self.links, self.follows_links) = (on, on),
            "copy-dirlinks" | "copy-unsafe-links" => self.follows_links = on,
            "keep-dirlinks" => self.writes_through_links = on,
            "numeric-ids" => self.numeric_ids = on,
            "times" => self.times = on,
            "hard-links" => self.hard_links = on,
            "one-file-system" => self.one_file_system = on,
            "inplace" => self.inplace = on,
            "modify-window" => self.modify_window = on,
            "ignore-times" => self.ignore_times = on,
            "exclude" | "include" | "filter" | "exclude-from" | "include-from" => {
                self.filtered = on;
            }
            _ => {}
        }
    }
}

impl FromStr for Params {
    type Err = ParamsError;

    /// As [`Params::check`], without its warnings.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Checked { params, remarks } = Self::check(text, false);
        match remarks
            .into_iter()
            .find(|remark| remark.severity == Severity::Error)
        {
            Some(remark) => Err(ParamsError(remark.text)),
            None => Ok(params),
        }
    }
}

/// The first option that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParamsError(String);

/// An option as written.
struct Given<'a> {
    rule: &'static Rule,
    /// `--exclude` or `-f`, for messages.
    name: &'a str,
    value: Option<String>,
}

struct Checker {
    params: Params,
    remarks: Vec<Remark>,
    keep_update: bool,
    /// Of the filter options; `None` if one of them cannot be read here.
    rules: Option<Vec<FilterRule>>,
}

impl Checker {
    fn check_words(&mut self, mut words: VecDeque<String>) {
        while let Some(word) = words.pop_front() {
            if let Some(option) = word.strip_prefix("--").filter(|option| !option.is_empty()) {
                self.check_long(option, &mut words);
            } else if let Some(letters) = word
                .strip_prefix('-')
                .filter(|letters| *letters != "-" && !letters.is_empty())
            {
                self.check_cluster(letters, &mut words);
            } else {
                self.error(format!(
                    "{} is no option; source and target come from `localpath` and `remote`, and there is no shell",
                    quote(&word)
                ));
            }
        }
    }

    fn check_long(&mut self, option: &str, words: &mut VecDeque<String>) {
        let (name, inline) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (option, None),
        };
        let shown = format!("--{name}");
        let Some(rule) = Rule::by_long_name(name) else {
            return self.check_negation(name, &shown, inline.is_some());
        };
        let value = match (rule.value, inline) {
            (Value::None, None) => None,
            (Value::None, Some(_)) => return self.error(format!("`{shown}` takes no value")),
            (_, Some(value)) => Some(value),
            (_, None) => match words.pop_front() {
                Some(value) => Some(value),
                None => return self.error(format!("`{shown}` needs a value: {shown}=…")),
            },
        };
        self.apply(&Given {
            rule,
            name: &shown,
            value,
        });
    }

    fn check_negation(&mut self, name: &str, shown: &str, has_value: bool) {
        let rule = name.strip_prefix("no-").and_then(|positive| {
            let mut letters = positive.chars();
            match (letters.next(), letters.next()) {
                (Some(letter), None) => Rule::by_letter(letter),
                _ => Rule::by_long_name(positive),
            }
        });
        match rule.map(|rule| (rule, rule.negation)) {
            Some(_) if has_value => self.error(format!("`{shown}` takes no value")),
            Some((rule, Negation::Allowed)) => {
                self.params.push(shown);
                self.params.note(rule.long, false);
            }
            Some((_, Negation::Dropped)) => {}
            Some((_, Negation::Unknown)) | None => self.unknown_option(name, shown),
        }
    }

    fn unknown_option(&mut self, name: &str, shown: &str) {
        let meant = nearest(name, Rule::long_names());
        let advice = match meant.and_then(Rule::by_long_name) {
            None => "; remove it".to_owned(),
            // That would be the next error.
            Some(Rule {
                long,
                verdict: Verdict::Refuse(reason),
                ..
            }) => format!(", and `--{long}` {reason}"),
            Some(Rule { long, .. }) => format!("; did you mean `--{long}`?"),
        };
        self.error(format!(
            "{} is unknown or not allowed{advice}",
            quote(shown)
        ));
    }

    /// Reads `artuz` of `-artuz`; what follows a letter that takes a value is that value, as in `-azT/tmp`.
    fn check_cluster(&mut self, letters: &str, words: &mut VecDeque<String>) {
        for (start, letter) in letters.char_indices() {
            let shown = format!("-{letter}");
            let Some(rule) = Rule::by_letter(letter) else {
                // The meaning of the letters behind it is anybody's guess only if it takes a value: read on.
                self.error(format!(
                    "{} is unknown or not allowed; remove it",
                    quote(&shown)
                ));
                continue;
            };
            if rule.value == Value::None {
                self.apply(&Given {
                    rule,
                    name: &shown,
                    value: None,
                });
                continue;
            }
            let rest = &letters[start + letter.len_utf8()..];
            let rest = rest.strip_prefix('=').unwrap_or(rest);
            let value = if rest.is_empty() {
                words.pop_front()
            } else {
                Some(rest.to_owned())
            };
            return match value {
                Some(value) => self.apply(&Given {
                    rule,
                    name: &shown,
                    value: Some(value),
                }),
                None => self.error(format!("`{shown}` needs a value")),
            };
        }
    }

    fn apply(&mut self, given: &Given<'_>) {
        let name = given.name;
        let is_kept = given.rule.long == "update" && self.keep_update;
        match given.rule.verdict {
            Verdict::Pass => self.pass(given),
            Verdict::PassBut(reason) => {
                self.warning(format!("`{name}` {reason}"));
                self.pass(given);
            }
            Verdict::DropBut(_) if is_kept => self.pass(given),
            Verdict::Drop => {}
            Verdict::DropBut(reason) => self.warning(format!("`{name}` {reason}")),
            Verdict::Refuse(reason) => self.error(format!("`{name}` {reason}")),
        }
    }

    fn pass(&mut self, given: &Given<'_>) {
        let Given { rule, name, value } = given;
        let Some(value) = value else {
            match (rule.long, rule.short) {
                ("P", _) => self.params.push("--partial"),
                (_, Some(letter)) => self.params.push(&format!("-{letter}")),
                (long, None) => self.params.push(&format!("--{long}")),
            }
            self.params.note(rule.long, true);
            return;
        };
        if let Err(reason) = check_value(rule.value, value) {
            return self.error(format!(
                "`{name}={value}`: {reason}",
                value = Escaped::text(value)
            ));
        }
        self.params.push(&format!("--{}={value}", rule.long));
        self.params.note(rule.long, true);
        match rule.long {
            "exclude" => self.note_rule(name, Ok(FilterRule::of_exclude(value.as_bytes()))),
            "include" => self.note_rule(name, Ok(FilterRule::of_include(value.as_bytes()))),
            "filter" => self.note_rule(name, filters::known(value)),
            "exclude-from" | "include-from" => self.note_rule(name, Err(filters::Unknown::Hides)),
            _ => {}
        }
    }

    /// What a filter option says. Where that is not known, what it hides is not known either.
    fn note_rule(&mut self, name: &str, rule: Result<FilterRule, filters::Unknown>) {
        let unknown = match rule {
            Ok(rule) => match Filter::new(vec![rule.clone()]) {
                Ok(_) => {
                    if let Some(rules) = &mut self.rules {
                        rules.push(rule);
                    }
                    return;
                }
                Err(refused) => {
                    let reason = refused
                        .into_iter()
                        .next()
                        .map(|(_, refused)| refused.reason);
                    let reason = reason.unwrap_or_default();
                    self.warning(format!("`{name}`: {rule} has no effect: {reason}"));
                    filters::Unknown::Harmless
                }
            },
            Err(filters::Unknown::Protects) => return,
            Err(unknown) => unknown,
        };
        self.rules = None;
        if unknown == filters::Unknown::Hides {
            self.warning(format!(
                "`{name}` hides what is in a directory only in full pushes, not what changes there; write <exclude pattern=\"…\"/> or <excludeFrom path=\"…\"/> in `filter`"
            ));
        }
    }

    /// What no single option is wrong with.
    fn check_whole(&mut self) {
        let rules = self.rules.take().filter(|rules| !rules.is_empty());
        self.params.rules = rules
            .and_then(|rules| Filter::new(rules).ok())
            .map(Arc::new);
        let has = |option: &str| {
            let args = self.params.args.iter().filter_map(|arg| arg.to_str());
            args.map(|arg| arg.split('=').next())
                .any(|name| name == Some(option))
        };
        for option in ["--partial-dir", "--delay-updates"] {
            if self.params.inplace && has(option) {
                return self.error(format!(
                    "rsync cannot have `--inplace` and `{option}` at once; remove one of them"
                ));
            }
        }
        if !self.params.links {
            self.warning("without `-l` or `-a` symbolic links are not mirrored".to_owned());
        }
        if !self.params.times {
            self.warning(
                "without `-t` or `-a` modification times differ, and every full push compares all contents".to_owned(),
            );
        }
    }

    fn error(&mut self, text: String) {
        self.remarks.push(Remark {
            severity: Severity::Error,
            text,
        });
    }

    fn warning(&mut self, text: String) {
        self.remarks.push(Remark {
            severity: Severity::Warning,
            text,
        });
    }
}

fn check_value(kind: Value, value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Err("the value is empty");
    }
    if value.chars().any(char::is_control) {
        return Err("the value holds a control character");
    }
    match kind {
        Value::Path if value.starts_with('/') => Ok(()),
        Value::Path => Err("the path must be absolute"),
        Value::Name if value.contains('/') || matches!(value, "." | "..") => {
            Err("must be a plain name without `/`, for instance .rsync-partial")
        }
        Value::None | Value::Text | Value::Name => Ok(()),
        Value::Pattern => filters::check_pattern(value),
        Value::Rule => filters::check_rule(value),
    }
}

#[cfg(test)]
mod tests;
