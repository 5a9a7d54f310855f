//! How far a recursive run has come, from what `--info=progress2` prints. Pure.

/// Percent, read from standard output as it comes.
///
/// rsync ends each of its lines with `to-chk=LEFT/ALL`, or `ir-chk=` while it still finds files: entries that it has
/// not looked at, of those it knows. The line is written again and again, with a carriage return in between.
#[derive(Debug, Default)]
pub struct Progress {
    /// What came after the last closing bracket, if a line is cut in two.
    rest: Vec<u8>,
}

/// A line of progress is shorter.
const MOST_REST: usize = 256;

impl Progress {
    /// More of the output came; returns the latest percentage in it.
    pub fn read(&mut self, chunk: &[u8]) -> Option<u8> {
        self.rest.extend_from_slice(chunk);
        let end = self.rest.iter().rposition(|byte| *byte == b')');
        let percent = end.and_then(|end| latest(&self.rest[..end]));
        let kept = self.rest.len().saturating_sub(MOST_REST);
        self.rest.drain(..kept.max(end.map_or(0, |end| end + 1)));
        percent
    }
}

fn latest(output: &[u8]) -> Option<u8> {
    let text = String::from_utf8_lossy(output);
    let (_, counts) = text.rsplit_once("-chk=")?;
    let (left, all) = counts.split_once('/')?;
    let (left, all): (u64, u64) = (left.parse().ok()?, all.parse().ok()?);
    let done = all
        .saturating_sub(left)
        .saturating_mul(100)
        .checked_div(all)?;
    u8::try_from(done.min(99)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_count_is_taken_also_from_a_line_cut_in_two() {
        let mut progress = Progress::default();
        assert_eq!(
            progress.read(b"\r     1,024   0%    0.00kB/s    0:00:00 (xfr#1, ir-chk=90/100)"),
            Some(10)
        );
        assert_eq!(
            progress.read(b"\r 2,048 1% 0.00kB/s 0:00:00 (xfr#2, to-ch"),
            None
        );
        assert_eq!(progress.read(b"k=50/200)\r and so on"), Some(75));
        assert_eq!(
            progress.read(b"(xfr#2, to-chk=0/200)"),
            Some(99),
            "not done before it has ended"
        );
        assert_eq!(progress.read(b"(to-chk=0/0) (to-chk=x/y)"), None);
    }
}
