//! What bash, zsh and fish make of the scripts: a line is typed, and the shell says how it may go on.

use std::fs;
use std::process::{Command, Stdio};

use crate::harness::{Ended, program};

/// What is typed, and what the shell must and must not offer.
const LINES: [(&str, &[&str], &[&str]); 8] = [
    ("sersync sta", &["status"], &["start", "a-file"]),
    ("sersync re", &["reload", "resume", "resync", "retry"], &[]),
    (
        "sersync status --",
        &["--bus", "--json", "--remote", "--watch", "--help"],
        &["--timeout"],
    ),
    ("sersync run --initial ", &["yes", "no"], &["a-file"]),
    (
        "sersync completions ",
        &["bash", "fish", "zsh"],
        &["a-file", "tcsh"],
    ),
    ("sersync check a-f", &["a-file"], &[]),
    (
        "sersync mirror --",
        &["--password-file", "--instance", "--bus"],
        &["--config"],
    ),
    ("sersync status --remote ", &[], &["a-file"]),
];

#[tokio::test]
async fn bash_completes_a_line() {
    completes("bash", |line| {
        // As it is called for a line whose last word the cursor is on.
        let script = r#"
            source ./script
            compopt() { :; } # is for a completion at a terminal only
            read -ra COMP_WORDS <<< "$1"
            [[ $1 != *' ' ]] || COMP_WORDS+=('')
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _sersync sersync "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\n' "${COMPREPLY[@]}"
            # Where it has nothing to offer bash itself goes on, with files.
            (( ${#COMPREPLY[@]} )) || compgen -f -- "${COMP_WORDS[COMP_CWORD]}"
        "#;
        vec!["--norc", "-c", script, "bash", line]
    })
    .await;
}

#[tokio::test]
async fn fish_completes_a_line() {
    completes("fish", |line| {
        let script = "source ./script; complete -C $argv[1]";
        vec!["--no-config", "-c", script, line]
    })
    .await;
}

#[tokio::test]
async fn zsh_completes_a_line() {
    completes("zsh", |line| {
        // zsh completes at a terminal only. What would be offered is what `compadd` is given and what matches.
        let script = r#"
            zmodload zsh/zpty
            zpty terminal zsh -f -i
            zpty -w terminal '
                PS1= PS2= fpath=($PWD/functions $fpath)
                autoload -Uz compinit; compinit -u -D
                compadd() {
                    [[ ${@[1,(i)(-|--)]} == *-(O|A|D)* ]] || {
                        local -a found; builtin compadd -A found "$@"; print -rl -- $found >> offered
                    }
                    builtin compadd "$@"
                }
                bindkey "^I" list-choices; print rea""dy'
            zpty -r -m terminal seen '*ready*'
            zpty -w -n terminal "$1"$'\t'
            # Until it edits its line, the terminal would take back what was typed.
            repeat 200 { [[ -e offered ]] && break; sleep 0.05 }
            zpty -w -n terminal $'\C-uprint en""d\n'
            zpty -r -m terminal seen '*end*'
            touch offered; cat offered
        "#;
        vec!["-f", "-c", script, "zsh", line]
    })
    .await;
}

async fn completes(shell: &str, typed: impl Fn(&str) -> Vec<&str>) {
    if Command::new(shell).arg("--version").output().is_err() {
        eprintln!("NOT TESTED: {shell} is missing (on Debian: apt-get install {shell})");
        return;
    }
    let script = Ended::of(program(&format!("completions {shell}"))).await;
    let script = script.answer();
    for (line, wanted, unwanted) in LINES {
        let place = tempfile::tempdir().expect("a temporary directory");
        let functions = place.path().join("functions");
        fs::create_dir(&functions).expect("our directory");
        for file in ["script", "functions/_sersync", "a-file"] {
            fs::write(place.path().join(file), &script).expect("our directory");
        }
        let output = Command::new(shell)
            .args(typed(line))
            .current_dir(place.path())
            .env("HOME", place.path())
            .env("TERM", "dumb")
            .stdin(Stdio::null())
            .output()
            .expect("the shell is there");
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && error.is_empty(),
            "{line}: {error}"
        );
        let offered: Vec<&str> = said
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        for word in wanted {
            assert!(offered.contains(word), "{line}: {word} is not in {said}");
        }
        for word in unwanted {
            assert!(!offered.contains(word), "{line}: {word} is in {said}");
        }
    }
}
