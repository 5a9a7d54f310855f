//! Which filter rules `params` may hold.
//!
//! sersync protects mount points at the receiver by filter rules of its own and compares source and replica by the
//! rules it was given. So a rule may neither clear the list, nor lift a protection, nor come from files that sersync
//! does not see.

use crate::filter::Rule;

const CLEAR: &str = "clears the filter rules before it; remove it";
const MERGE: &str =
    "takes its rules from a file that is read during each run; write the rules themselves";
const RISK: &str = "lifts the protection of files at the receiver; remove it";
const UNKNOWN: &str = "no filter rule; write --exclude=PATTERN, or --filter='- PATTERN'";

/// Checks a pattern of `--exclude` and `--include`.
pub(super) fn check_pattern(pattern: &str) -> Result<(), &'static str> {
    if pattern == "!" {
        return Err(CLEAR);
    }
    Ok(())
}

/// Checks a rule of `--filter`: `- *.log`, `exclude,/ *.log`, `P /keep`.
pub(super) fn check_rule(rule: &str) -> Result<(), &'static str> {
    let (head, pattern) = rule.split_once([' ', '_']).unwrap_or((rule, ""));
    let (name, modifiers) = split_head(head);
    match name {
        "-" | "exclude" | "+" | "include" | "P" | "protect" | "H" | "hide" | "S" | "show" => {}
        "R" | "risk" => return Err(RISK),
        "!" | "clear" => return Err(CLEAR),
        "." | "merge" | ":" | "dir-merge" => return Err(MERGE),
        _ => return Err(UNKNOWN),
    }
    if !modifiers
        .chars()
        .all(|c| matches!(c, '/' | '!' | 's' | 'r' | 'p' | 'x'))
    {
        return Err("this modifier is not allowed here; known: / ! s r p x");
    }
    if pattern.is_empty() {
        return Err("the pattern is missing");
    }
    Ok(())
}

/// A rule that is not read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It may hide a directory with what is in it.
    Hides,
    /// It hides nothing, and may show what others hide.
    Harmless,
    /// It is for the receiver alone, whatever the others say.
    Protects,
}

/// What a rule of `--filter` says that [`check_rule`] let through.
pub(super) fn known(rule: &str) -> Result<Rule, Unknown> {
    let (head, pattern) = rule.split_once([' ', '_']).unwrap_or((rule, ""));
    let (name, modifiers) = split_head(head);
    match name {
        "P" | "protect" => Err(Unknown::Protects),
        "S" | "show" => Err(Unknown::Harmless),
        "-" | "exclude" if modifiers.is_empty() => Ok(Rule::Exclude(pattern.into())),
        "+" | "include" if modifiers.is_empty() => Ok(Rule::Include(pattern.into())),
        _ => Err(Unknown::Hides),
    }
}

/// Splits `exclude,/s` or `-s` into the rule's name and its modifiers.
fn split_head(head: &str) -> (&str, &str) {
    if let Some(parts) = head.split_once(',') {
        return parts;
    }
    // A one-letter name may have its modifiers directly behind it; a long name needs the comma.
    let letter = head.chars().next().map_or(0, char::len_utf8);
    if head.starts_with(['-', '+', '.', ':', '!'])
        || head[letter..].chars().all(|c| !c.is_ascii_lowercase())
    {
        return head.split_at(letter);
    }
    (head, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_name_what_is_mirrored_are_allowed() {
        for rule in [
            "- *.log",
            "-,/ /tmp",
            "-s_*.o",
            "+ */",
            "exclude *.log",
            "P /keep",
            "H,! *.c",
            "hide x",
            "P/ /x",
        ] {
            assert_eq!(check_rule(rule), Ok(()), "{rule}");
        }
    }

    #[test]
    fn rules_that_lift_or_hide_rules_are_refused() {
        assert_eq!(check_rule("R *"), Err(RISK));
        assert_eq!(check_rule("risk *"), Err(RISK));
        assert_eq!(check_rule("!"), Err(CLEAR));
        assert_eq!(check_rule("clear"), Err(CLEAR));
        assert_eq!(check_pattern("!"), Err(CLEAR));
        assert_eq!(check_rule(": .rsync-filter"), Err(MERGE));
        assert_eq!(check_rule("dir-merge,e- .x"), Err(MERGE));
        assert_eq!(check_rule("merge /x"), Err(MERGE));
        assert_eq!(check_rule("nonsense *"), Err(UNKNOWN));
        assert!(check_rule("-C").is_err());
        assert!(check_rule("- ").is_err());
    }
}
