//! What no file can show. Whole files are in `tests/config.rs`.

use super::*;

#[test]
fn a_file_that_cannot_be_read_is_a_problem_like_any_other() {
    let message = |path| Config::load(Path::new(path)).unwrap_err().to_string();
    let missing = message("/does/not/exist.xml");
    assert!(
        missing.starts_with("/does/not/exist.xml: error: failed to read the file: No such"),
        "{missing}"
    );
    assert!(message("/").contains("directory"));
    assert!(message("/dev/zero").contains("no regular file"));
    let log = tempfile::NamedTempFile::new().unwrap();
    log.as_file().set_len(MAX_FILE_BYTES + 1).unwrap();
    let error = Config::load(log.path()).unwrap_err().to_string();
    assert!(error.contains("longer than"), "{error}");
}

#[test]
fn a_damaged_file_is_reported_and_never_a_panic() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config");
    for kind in ["good", "bad"] {
        for entry in std::fs::read_dir(directory.join(kind)).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            for at in (0..bytes.len()).step_by(7) {
                let _ = Config::from_bytes(Path::new("f"), bytes[..at].to_vec());
                for replacement in [b'\0', b'"', b'<', b'/', 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] = replacement;
                    let _ = Config::from_bytes(Path::new("f"), damaged);
                }
            }
        }
    }
}

#[test]
fn a_deep_file_is_no_way_to_overflow_the_stack() {
    let deep = "<a>".repeat(200_000) + &"</a>".repeat(200_000);
    let file = format!("<head><sersync>{deep}</sersync></head>");
    let error = Config::from_bytes(Path::new("f"), file.into_bytes()).unwrap_err();
    assert!(error.to_string().contains("unknown element `a`"), "{error}");
}

#[test]
fn a_quoted_word_is_short_and_on_one_line() {
    assert_eq!(quote("a\nb"), r"`a\x0ab`");
    assert!(quote(&"x".repeat(1000)).chars().count() < 90);
}
