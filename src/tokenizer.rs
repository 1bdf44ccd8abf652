//! What: text to tokens and back, as the `tokenizer.json` of a model folder says; text comes back piece by piece.
//! Why here: models know numbers only; what they mean is a file beside the weights.
//! Pre: a folder in the format of Hugging Face.
//! Post: pieces in a row are the decoded text. A character that is spread over several tokens comes with the last of
//! them, so that no piece shows half of one.

use std::path::Path;

use tokenizers::Tokenizer as Inner;

use crate::Error;

/// The tokenizer of a model.
pub struct Tokenizer {
    inner: Inner,
    path: String,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in a folder.
    pub fn open(folder: &Path) -> Result<Tokenizer, Error> {
        let path = folder.join("tokenizer.json");
        let name = path.display().to_string();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Input {
                    message: format!("`{name}` is not there, and a text cannot be read without it"),
                    help: Some("put the model's tokenizer.json into its folder, or give token ids".into()),
                });
            }
            Err(e) => return Err(Error::io(&path, e)),
        };
        let inner = Inner::from_bytes(&bytes)
            .map_err(|e| Error::input(format!("`{name}` is no tokenizer that is understood: {e}")))?;
        Ok(Tokenizer { inner, path: name })
    }

    /// The tokens of a text, with those that the tokenizer puts around a prompt.
    pub fn encode(&self, text: &str) -> Result<Vec<u64>, Error> {
        let encoded = self
            .inner
            .encode(text, true)
            .map_err(|e| Error::input(format!("`{}` does not encode the prompt: {e}", self.path)))?;
        Ok(encoded.get_ids().iter().map(|&id| u64::from(id)).collect())
    }

    /// The text of tokens, without special ones.
    pub fn decode(&self, ids: &[u64]) -> Result<String, Error> {
        // An id beyond 32 bits is in no vocabulary, and what is in none decodes to nothing.
        let ids: Vec<u32> = ids.iter().map(|&id| u32::try_from(id).unwrap_or(u32::MAX)).collect();
        self.inner
            .decode(&ids, true)
            .map_err(|e| Error::input(format!("`{}` does not decode its tokens: {e}", self.path)))
    }

    /// Starts to decode token by token.
    pub fn pieces(&self) -> Pieces<'_> {
        Pieces { tokenizer: self, ids: Vec::new(), shown: 0 }
    }
}

/// Text that grows by tokens.
pub struct Pieces<'t> {
    tokenizer: &'t Tokenizer,
    /// The tokens since the piece before the last: how a token is written may depend on the one before.
    ids: Vec<u64>,
    /// How many of them have been shown.
    shown: usize,
}

impl Pieces<'_> {
    /// What another token adds to the text; nothing while a character is incomplete.
    pub fn push(&mut self, id: u64) -> Result<String, Error> {
        self.ids.push(id);
        self.take(false)
    }

    /// What is left when there are no more tokens: of an incomplete character, what decoders put in its place.
    pub fn finish(mut self) -> Result<String, Error> {
        self.take(true)
    }

    fn take(&mut self, all: bool) -> Result<String, Error> {
        let before = self.tokenizer.decode(&self.ids[..self.shown])?;
        let now = self.tokenizer.decode(&self.ids)?;
        let Some(new) = now.strip_prefix(before.as_str()) else { return Ok(String::new()) };
        if new.is_empty() || (!all && new.ends_with(char::REPLACEMENT_CHARACTER)) {
            return Ok(String::new());
        }
        self.ids.drain(..self.shown);
        self.shown = self.ids.len();
        Ok(new.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> Tokenizer {
        Tokenizer::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizer")).expect("a fixture")
    }

    /// A generator of its own, so that the test needs no other.
    fn random(state: &mut u64, below: u64) -> u64 {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*state >> 33) % below
    }

    #[test]
    fn pieces_in_a_row_are_the_text() {
        let tokenizer = fixture();
        let seed: u64 = std::process::id().into();
        let mut state = seed;
        for round in 0..50 {
            let alphabet: Vec<char> = "ab c, dé\u{df}水🦀\n".chars().collect();
            let text: String = (0..1 + random(&mut state, 30))
                .map(|_| alphabet[random(&mut state, alphabet.len() as u64) as usize])
                .collect();
            let ids = tokenizer.encode(&text).expect("text");
            assert_eq!(ids.first(), Some(&0), "the start of a text is marked");
            let mut pieces = tokenizer.pieces();
            let mut whole = String::new();
            for &id in &ids {
                let piece = pieces.push(id).expect("a token");
                assert!(!piece.contains(char::REPLACEMENT_CHARACTER), "{text:?} is shown in halves");
                assert!(text.starts_with(&format!("{whole}{piece}")), "{text:?} {whole:?} {piece:?}");
                whole += &piece;
            }
            whole += &pieces.finish().expect("nothing is left");
            assert_eq!(whole, text, "round {round} of seed {seed}");
        }
    }

    #[test]
    fn characters_wait_for_their_last_byte() {
        let tokenizer = fixture();
        let ids = tokenizer.encode("x水y").expect("text");
        // The start, x, three bytes, y.
        assert_eq!(ids.len(), 6);
        let mut pieces = tokenizer.pieces();
        let shown: Vec<String> = ids.iter().map(|&id| pieces.push(id).expect("a token")).collect();
        assert_eq!(shown, ["", "x", "", "", "水", "y"]);
        // The end comes in the middle of a character.
        let mut pieces = tokenizer.pieces();
        for &id in &ids[..4] {
            pieces.push(id).expect("a token");
        }
        assert_eq!(pieces.finish().expect("the rest"), "\u{fffd}");
    }

    #[test]
    fn merges_are_found_and_special_tokens_are_not_shown() {
        let tokenizer = fixture();
        let ids = tokenizer.encode(" the the").expect("text");
        assert_eq!(ids.len(), 3, "{ids:?}");
        assert_eq!(ids[1], ids[2]);
        assert_eq!(tokenizer.decode(&[0, ids[1], 1]).expect("tokens"), " the");
        assert_eq!(tokenizer.decode(&[u64::MAX, 100_000]).expect("unknown tokens are nothing"), "");
    }

    #[test]
    fn what_is_no_tokenizer_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = |folder: &Path| match Tokenizer::open(folder) {
            Ok(_) => panic!("this is no tokenizer"),
            Err(e) => e,
        };
        let missing = error(folder.path());
        assert_eq!(missing.exit_code(), 3);
        assert!(missing.to_string().contains("tokenizer.json"), "{missing}");
        std::fs::write(folder.path().join("tokenizer.json"), "{\"model\": 3}").expect("a file");
        let broken = error(folder.path());
        assert_eq!(broken.exit_code(), 3);
        assert!(broken.to_string().contains("tokenizer.json"), "{broken}");
    }
}
