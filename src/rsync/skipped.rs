//! Whether rsync skipped deletions, from what it prints. Pure.

/// A receiver that was told of an error in the list removes nothing. It says so as information, not as an error, and
/// that is printed on the sender's standard output (seen with 3.5.0, to a daemon and to a local target alike).
const WORDS: &[u8] = b"IO error encountered -- skipping file deletion";

/// Reads standard output as it comes.
#[derive(Debug, Default)]
pub struct Skipped {
    said: bool,
    /// The end of what came, in which the words may have begun.
    rest: Vec<u8>,
}

impl Skipped {
    /// More of the output came.
    pub fn read(&mut self, chunk: &[u8]) {
        if self.said {
            return;
        }
        self.rest.extend_from_slice(chunk);
        self.said = self.rest.windows(WORDS.len()).any(|text| text == WORDS);
        let kept = self.rest.len().min(WORDS.len() - 1);
        self.rest.drain(..self.rest.len() - kept);
    }

    /// Whether it was said. A file of that name among the output, which `-v` lists, is taken for it: then deletions are
    /// made once more.
    #[must_use]
    pub fn was_said(&self) -> bool {
        self.said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_found_wherever_the_output_is_cut() {
        let output = [b"  0 100%  0.00kB/s\n", WORDS, b"\nNumber of files: 5"].concat();
        for at in 0..output.len() {
            let mut skipped = Skipped::default();
            skipped.read(&output[..at]);
            skipped.read(&output[at..]);
            assert!(skipped.was_said(), "cut at {at}");
        }
        let mut skipped = Skipped::default();
        skipped.read(&WORDS[1..]);
        assert!(!skipped.was_said());
    }
}
