//! Keys of signed URLs: on each line an id and a key in base64.

use std::fmt;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::lines::{self, LineError};
use crate::http::signed_url::is_key_id;

/// The keys by their ids, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningKeys(Vec<(String, SigningKey)>);

/// A key. Its bytes are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Vec<u8>);

impl SigningKeys {
    /// The key of that id.
    pub fn get(&self, id: &[u8]) -> Option<&SigningKey> {
        self.0.iter().find(|(known, _)| known.as_bytes() == id).map(|(_, key)| key)
    }

    /// The ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(id, _)| id.as_str())
    }
}

impl SigningKey {
    /// The bytes to sign with.
    pub(crate) fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

pub(crate) fn parse(text: &str) -> Result<SigningKeys, Vec<LineError>> {
    let entries = lines::read(text, |line, known: &[(String, SigningKey)]| {
        let (id, key) = line
            .split_once(char::is_whitespace)
            .ok_or("a line is an id and a key in base64 with a space between them")?;
        if !is_key_id(id) {
            return Err("the id is not 1 to 64 letters, digits, dots, hyphens and underscores".to_owned());
        }
        if known.iter().any(|(other, _)| other == id) {
            return Err(format!("the id {id} is there twice"));
        }
        let decoded = decode(key.trim()).ok_or_else(|| format!("the key {id} is no base64"))?;
        if !(KEY_MIN..=KEY_MAX).contains(&decoded.len()) {
            return Err(format!(
                "the key {id} has {} bytes; accepted: {KEY_MIN} to {KEY_MAX}, as of `openssl rand -base64 {KEY_MIN}`",
                decoded.len()
            ));
        }
        Ok((id.to_owned(), SigningKey(decoded)))
    })?;
    Ok(SigningKeys(entries))
}

/// In either alphabet, padded or not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [STANDARD, URL_SAFE].iter().find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
}

/// Shorter than the hash's output a key is weaker than the hash (RFC 2104 §3).
const KEY_MIN: usize = 32;

const KEY_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_either_alphabet_and_found_by_their_ids() {
        let std = "A+/A".repeat(11);
        let url = std.replace('+', "-").replace('/', "_");
        let text = format!("# links\n\nk1 {std}\r\n  k2\t{url}\nk3 {}=\n", "A".repeat(43));
        let keys = parse(&text).unwrap();
        assert_eq!(keys.ids().collect::<Vec<_>>(), ["k1", "k2", "k3"]);
        assert_eq!(keys.get(b"k1"), keys.get(b"k2"));
        assert_eq!(keys.get(b"k3").unwrap().reveal(), [0; 32]);
        assert_eq!(keys.get(b"k4"), None);
        assert!(!format!("{keys:?}").contains('0'), "{keys:?}");
    }

    #[test]
    fn every_bad_line_is_reported_and_none_of_a_key() {
        let good = "E".repeat(43);
        let text = format!("k1 {good}\nk1 {good}\nk2\nk/3 {good}\nk4 BBBB\nk5 B!{good}\n");
        let reported = parse(&text).unwrap_err();
        let expected = [
            (2, "the id k1 is there twice"),
            (3, "a line is an id and a key in base64 with a space between them"),
            (4, "the id is not 1 to 64 letters, digits, dots, hyphens and underscores"),
            (5, "the key k4 has 3 bytes; accepted: 32 to 1024, as of `openssl rand -base64 32`"),
            (6, "the key k5 is no base64"),
        ];
        assert_eq!(reported, expected.map(|(line, reason)| (line, reason.to_owned())));
    }
}
