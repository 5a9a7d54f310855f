//! `<filter>`: its rules compiled, each that cannot be used with its place.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::escape::Escaped;
use super::problem::{At, Problems};
use super::values::{path, text};
use super::xml::{Attribute, FilterXml, PatternsXml, RuleKindXml, RuleXml};
use super::{FilterConfig, Position, RulePlace, quote, read_file};
use crate::filter::{Filter, Rule};

/// A rule and where to complain about it.
struct Placed {
    rule: Rule,
    at: At,
    place: RulePlace,
}

/// What is not to be mirrored; `None` if the filter is off.
pub(super) fn validate(element: &FilterXml, problems: &mut Problems<'_>) -> Option<FilterConfig> {
    let on = problems.start(&element.switch);
    let placed = problems.check_if_on(on, |problems| {
        let mut placed = Vec::new();
        for rule in &element.rules {
            read(rule, on, &mut placed, problems);
        }
        placed
    });
    if on && element.rules.is_empty() {
        problems.warning(
            element.switch.at,
            "the filter is on but holds no expression, so it has no effect",
        );
    }
    if !on || element.rules.is_empty() {
        return None;
    }
    let rules: Vec<Rule> = placed.iter().map(|placed| placed.rule.clone()).collect();
    let compiled = match Filter::new(rules.clone()) {
        Ok(filter) => Arc::new(filter),
        Err(refused) => {
            for (at, refused) in refused {
                let Placed { rule, at, place } = &placed[at];
                let whose = place.file.as_ref().map_or(String::new(), |file| {
                    format!("line {} of {}: ", place.position.line, Escaped::path(file))
                });
                problems.error(*at, format!("{whose}{rule} cannot be used: {refused}"));
            }
            return None;
        }
    };
    problems.warning(
        element.switch.at,
        "`filter` holds for full pushes too, and for what is only at the remotes; the original makes no full push while a filter is on",
    );
    Some(FilterConfig {
        rules,
        places: placed.into_iter().map(|placed| placed.place).collect(),
        compiled,
    })
}

fn read(element: &RuleXml, on: bool, placed: &mut Vec<Placed>, problems: &mut Problems<'_>) {
    let at = element.at;
    match &element.kind {
        RuleKindXml::Exclude {
            expression: Some(_),
            pattern: Some(pattern),
        } => problems.error(
            pattern.at,
            "`pattern` and `expression` are two rules; write an element for each",
        ),
        RuleKindXml::Exclude {
            expression: None,
            pattern: Some(pattern),
        } => {
            if let Some(value) = problems.value(pattern, text) {
                let rule = Rule::Exclude(value.into_bytes());
                placed.push(in_this_file(rule, pattern, problems));
            }
        }
        RuleKindXml::Exclude { expression, .. } => {
            let expression = expression.as_ref();
            let value = problems.required(at, "expression", expression, "…", text);
            if let (Some(value), Some(attribute)) = (value, expression) {
                placed.push(in_this_file(Rule::Expression(value), attribute, problems));
            }
        }
        RuleKindXml::Include { pattern } => {
            let value = problems.required(at, "pattern", pattern.as_ref(), "*.php", text);
            if let (Some(value), Some(attribute)) = (value, pattern) {
                let rule = Rule::Include(value.into_bytes());
                placed.push(in_this_file(rule, attribute, problems));
            }
        }
        RuleKindXml::ExcludeFrom { path: file } => {
            let value = problems.required(at, "path", file.as_ref(), "/etc/sersync/exclude", path);
            if let (Some(value), Some(attribute)) = (value, file)
                && on
            {
                read_patterns(&value, attribute, placed, problems);
            }
        }
    }
}

fn in_this_file(rule: Rule, attribute: &Attribute, problems: &Problems<'_>) -> Placed {
    let position = problems.position(attribute.at);
    Placed {
        rule,
        at: attribute.at,
        place: RulePlace {
            file: None,
            position,
        },
    }
}

/// A pattern a line, as rsync reads the file of `--exclude-from`.
fn read_patterns(
    file: &Path,
    attribute: &Attribute,
    placed: &mut Vec<Placed>,
    problems: &mut Problems<'_>,
) {
    let bytes = match read_file(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            let file = quote(&String::from_utf8_lossy(file.as_os_str().as_bytes()));
            return problems.error(attribute.at, format!("failed to read {file}: {error}"));
        }
    };
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(rule) = Rule::of_line(line) {
            placed.push(Placed {
                rule,
                at: attribute.at,
                place: RulePlace {
                    file: Some(PathBuf::from(file)),
                    position: Position {
                        line: number + 1,
                        column: 1,
                    },
                },
            });
        }
    }
}

/// The patterns of `crontabfilter`, each that cannot be used with its place.
pub(super) fn check_patterns(element: &PatternsXml, problems: &mut Problems<'_>) {
    let attributes = element.expressions.iter();
    for attribute in attributes.filter_map(|element| element.expression.as_ref()) {
        let rule = Rule::of_exclude(attribute.value.as_bytes());
        if let Err(refused) = Filter::new(vec![rule.clone()])
            && let Some((_, refused)) = refused.into_iter().next()
        {
            problems.error(attribute.at, format!("{rule} cannot be used: {refused}"));
        }
    }
}
