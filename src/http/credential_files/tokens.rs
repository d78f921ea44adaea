//! Bearer tokens: on each line a name and the SHA-256 of a token, as in `ci sha256:HEX`.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::lines::{self, LineError};
use crate::http::checksum_file::decode_digest;

/// Names and hashes of tokens. A token is long and random, so that one round of a fast hash is enough; a name may have several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens(Vec<(Arc<str>, [u8; 32])>);

impl Tokens {
    /// The name of a token's owner. Takes the same time for every token, known or not.
    pub fn owner(&self, token: &[u8]) -> Option<Arc<str>> {
        let shown: [u8; 32] = Sha256::digest(token).into();
        let (mut found, mut index) = (Choice::from(0), 0_u32);
        for (at, (_, known)) in (0_u32..).zip(&self.0) {
            let is_it = known.ct_eq(&shown);
            index = u32::conditional_select(&index, &at, is_it);
            found |= is_it;
        }
        let owner = self.0.get(usize::try_from(index).ok()?).filter(|_| bool::from(found));
        owner.map(|(name, _)| Arc::clone(name))
    }

    /// True if a token belongs to the name.
    pub fn has_name(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| **known == *name)
    }
}

pub(crate) fn parse(text: &str) -> Result<Tokens, Vec<LineError>> {
    let entries = lines::read(text, |line, known: &[(Arc<str>, [u8; 32])]| {
        let form = "a line is a name and the hash of a token with a space between them: ci sha256:HEX";
        let (name, hash) = line.split_once(char::is_whitespace).ok_or(form)?;
        lines::check_name(name)?;
        let digits = hash.trim().strip_prefix("sha256:").ok_or(form)?;
        let hash = decode_digest(digits.as_bytes())
            .ok_or_else(|| format!("the hash of {name} is not 64 hexadecimal digits"))?;
        if known.iter().any(|(_, other)| *other == hash) {
            return Err(format!("the token of {name} is there twice"));
        }
        Ok((name.into(), hash))
    })?;
    Ok(Tokens(entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `secret` and `other`.
    const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    const OTHER: &str = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";

    #[test]
    fn a_token_is_known_by_its_hash() {
        let tokens =
            parse(&format!("# ci\nci sha256:{SECRET}\n\nci2\tsha256:{}\n", OTHER.to_uppercase())).unwrap();
        for (token, owner) in [("secret", Some("ci")), ("other", Some("ci2")), ("", None), (SECRET, None)] {
            assert_eq!(tokens.owner(token.as_bytes()).as_deref(), owner, "{token}");
        }
        assert_eq!(Tokens::default().owner(b"secret"), None);
        assert!(tokens.has_name("ci2") && !tokens.has_name("c"));
    }

    #[test]
    fn every_bad_line_is_reported_and_none_of_a_hash() {
        let text = format!(
            "ci {SECRET}\nci\nci sha256:{}\nci sha256:{SECRET}0\na:b sha256:{SECRET}\nci sha256:{SECRET}\nx sha256:{SECRET}",
            &SECRET[2..]
        );
        let reported = parse(&text).unwrap_err();
        assert_eq!(reported.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 7]);
        assert!(reported.iter().all(|(_, reason)| !reason.contains("2bb8")), "{reported:?}");
        assert_eq!(reported[2].1, "the hash of ci is not 64 hexadecimal digits");
        assert_eq!(reported[5].1, "the token of x is there twice");
    }
}
