//! Names that break programs which think a file name is a word of text.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Names a shell, a list file, a pattern or a terminal would make something of.
pub const ODD: &[&[u8]] = &[
    b"plain",
    b"#hash",
    b"# hash and blank",
    b";semicolon",
    b"-leading",
    b"--delete",
    b"-",
    b"--",
    b"new\nline",
    b"\n",
    b"ends with newline\n",
    b"carriage\rreturn",
    b"tab\tstop",
    b" leading blank",
    b"trailing blank ",
    b" ",
    b"`touch pwned`",
    b"$(touch pwned)",
    b"; touch pwned ;",
    b"| touch pwned",
    b"&& touch pwned &&",
    b"\n touch pwned \n",
    b"> pwned",
    b"$HOME",
    b"%s%n%d",
    b"single'quote",
    b"double\"quote",
    b"'\"'\"'",
    b"back\\slash",
    b"back\\#012slash",
    b"[brackets]",
    b"]",
    b"[!a-z]",
    b"{a,b}",
    b"star*",
    b"**",
    b"***",
    b"?",
    b"~",
    b"~root",
    b"backup~",
    b".hidden",
    b"...",
    b"4913",
    b".#lock",
    b".file.aBcDeF",
    b"colon:name",
    b"host::module",
    b"rsync:",
    b"@ERROR: auth failed",
    b"rsync error: (code 23)",
    b"\" failed: No such file or directory (2)",
    b"+ include",
    b"- exclude",
    b"! clear",
    b"P protect",
    b"\xff",
    b"\xfe\xff",
    b"latin \xe9",
    b"cut \xe4\xb8",
    b"\xc3\x28",
    b"\x80\x80",
    b"\x01\x02\x03",
    b"\x1b[31mred",
    b"\x7f",
    "\u{4e2d}\u{6587}\u{76ee}\u{5f55}".as_bytes(),
    "e\u{301} combining".as_bytes(),
    "right \u{202e} left".as_bytes(),
];

/// A name from its bytes.
pub fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// Every byte a name can hold: alone where that is a name, first, in the middle, and last.
pub fn every_byte() -> Vec<OsString> {
    let bytes = (1..=u8::MAX).filter(|&byte| byte != b'/');
    bytes
        .flat_map(|byte| {
            [
                vec![byte],
                vec![byte, b'f'],
                vec![b'm', byte, b'm'],
                vec![b'l', byte],
            ]
        })
        .filter(|name| name != b".")
        .map(OsString::from_vec)
        .collect()
}
