//! Names and hashes of passwords, as htpasswd writes them: on each line `name:hash`.

use std::fmt;
use std::sync::Arc;

use argon2::password_hash::{PasswordVerifier, phc};
use argon2::{Argon2, Params};

use super::lines::{self, LineError};

/// Names and the hashes of their passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passwords(Vec<(Arc<str>, Arc<PasswordHash>)>);

/// A password hash that is slow to compute. Its text is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(HashScheme);

#[derive(Clone, PartialEq, Eq)]
enum HashScheme {
    /// As it was written.
    Bcrypt(Box<str>),
    Argon2id(Box<phc::PasswordHash>),
}

impl Passwords {
    /// The name as it stands in the file, and the hash of its password.
    pub fn get(&self, name: &[u8]) -> Option<(&Arc<str>, &Arc<PasswordHash>)> {
        self.0.iter().find(|(known, _)| known.as_bytes() == name).map(|(name, hash)| (name, hash))
    }

    /// The hash that a number selects, modulo the number of hashes. `None` if there is no hash.
    pub(crate) fn select(&self, number: u64) -> Option<&Arc<PasswordHash>> {
        let index = number.checked_rem(self.0.len() as u64)?;
        self.0.get(usize::try_from(index).ok()?).map(|(_, hash)| hash)
    }
}

impl PasswordHash {
    /// Whether this is the hash of `password`. Takes up to some seconds, and as much memory as the hash demands.
    pub fn is_of(&self, password: &[u8]) -> bool {
        match &self.0 {
            // bcrypt ignores all but the first 72 bytes, so that they alone would match. Verified first: a long password
            // takes as long as any other.
            HashScheme::Bcrypt(hash) => {
                bcrypt::verify(password, hash).unwrap_or(false) && password.len() <= BCRYPT_PASSWORD_MAX
            }
            HashScheme::Argon2id(hash) => Argon2::default().verify_password(password, hash.as_ref()).is_ok(),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let scheme = match text {
            _ if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) => {
                return bcrypt_hash(text);
            }
            _ if text.starts_with("$argon2id$") => return argon2_hash(text),
            _ if text.starts_with("$apr1$") || text.starts_with("$1$") => "MD5",
            _ if text.starts_with("{SHA}") => "SHA-1",
            _ if text.starts_with("$5$") || text.starts_with("$6$") || text.starts_with("$y$") => "crypt",
            _ if text.starts_with("$argon2") => "another argon2 than argon2id",
            _ if text.starts_with("$2") => "an old bcrypt",
            "" => "empty",
            _ => "plain, crypt or unknown",
        };
        Err(format!("is {scheme}; accepted: bcrypt (`htpasswd -B`) or argon2id"))
    }
}

fn bcrypt_hash(text: &str) -> Result<PasswordHash, String> {
    let parts = text.parse::<bcrypt::HashParts>().ok().filter(|_| text.len() == BCRYPT_LENGTH);
    match parts.map(|parts| parts.get_cost()) {
        Some(4..=BCRYPT_COST_MAX) => Ok(PasswordHash(HashScheme::Bcrypt(text.into()))),
        Some(cost) => Err(format!("has the cost {cost}; accepted: 4 to {BCRYPT_COST_MAX}")),
        None => Err("is no bcrypt hash, though it begins like one".to_owned()),
    }
}

fn argon2_hash(text: &str) -> Result<PasswordHash, String> {
    let hash = phc::PasswordHash::new(text).ok().filter(|hash| hash.salt.is_some() && hash.hash.is_some());
    let (hash, params) = hash
        .and_then(|hash| Params::try_from(&hash).ok().map(|params| (hash, params)))
        .ok_or("is no argon2id hash, though it begins like one")?;
    if params.m_cost() > ARGON2_KIB_MAX
        || params.t_cost() > ARGON2_ROUNDS_MAX
        || params.p_cost() > ARGON2_LANES_MAX
    {
        return Err(format!(
            "costs too much; accepted: up to m={ARGON2_KIB_MAX} (KiB), t={ARGON2_ROUNDS_MAX}, p={ARGON2_LANES_MAX}"
        ));
    }
    Ok(PasswordHash(HashScheme::Argon2id(Box::new(hash))))
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

pub(crate) fn parse(text: &str) -> Result<Passwords, Vec<LineError>> {
    let entries = lines::read(text, |line, known: &[(Arc<str>, Arc<PasswordHash>)]| {
        let (name, hash) =
            line.split_once(':').ok_or("a line is a name and a hash with a colon between them")?;
        lines::check_name(name)?;
        if known.iter().any(|(other, _)| **other == *name) {
            return Err(format!("the name {name} is there twice"));
        }
        let hash = PasswordHash::parse(hash).map_err(|reason| format!("the hash of {name} {reason}"))?;
        Ok((name.into(), Arc::new(hash)))
    })?;
    Ok(Passwords(entries))
}

/// Characters of a hash, two of them for the cost.
const BCRYPT_LENGTH: usize = 60;

/// bcrypt uses no more bytes of a password.
const BCRYPT_PASSWORD_MAX: usize = 72;

/// A check of this cost takes some seconds.
const BCRYPT_COST_MAX: u32 = 16;

/// 256 MiB for each check in progress.
const ARGON2_KIB_MAX: u32 = 256 * 1024;
const ARGON2_ROUNDS_MAX: u32 = 32;
const ARGON2_LANES_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::PasswordHasher;

    fn hash_of(text: &str) -> PasswordHash {
        parse(&format!("a:{text}")).unwrap().get(b"a").unwrap().1.as_ref().clone()
    }

    fn bcrypted(password: &[u8]) -> String {
        bcrypt::hash(password, 4).unwrap()
    }

    fn argoned(password: &[u8], params: Params) -> String {
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        argon2.hash_password_with_salt(password, b"0123456789abcdef").unwrap().to_string()
    }

    #[test]
    fn bcrypt_and_argon2id_are_known() {
        let bcrypt = bcrypted(b"open sesame");
        let argon2 = argoned(b"open sesame", Params::new(64, 1, 1, None).unwrap());
        for text in [bcrypt.clone(), bcrypt.replace("$2b$", "$2y$"), bcrypt.replace("$2b$", "$2a$"), argon2] {
            let hash = hash_of(&text);
            assert!(hash.is_of(b"open sesame"), "{text}");
            for other in [b"".as_slice(), b"open sesam", b"open sesame\0", b"Open sesame"] {
                assert!(!hash.is_of(other), "{text}");
            }
        }
    }

    #[test]
    fn a_password_that_bcrypt_would_cut_is_refused() {
        let long = [b'x'; 72];
        let hash = hash_of(&bcrypted(&long));
        assert!(hash.is_of(&long));
        assert!(!hash.is_of(&[b'x'; 73]));
    }

    #[test]
    fn every_bad_line_is_reported_with_its_reason_and_none_of_a_hash() {
        let good = bcrypted(b"x");
        let costly = good.replacen("$04$", "$17$", 1);
        let memory = argoned(b"x", Params::new(64, 1, 1, None).unwrap()).replace("m=64", "m=1048576");
        for (line, reason) in [
            ("alice", "a line is a name and a hash with a colon between them"),
            (":x", "the name is empty"),
            ("a b:x", "the name contains a space, a colon or a control character"),
            ("a:$apr1$abc$def", "the hash of a is MD5; accepted: bcrypt (`htpasswd -B`) or argon2id"),
            ("a:{SHA}abc", "the hash of a is SHA-1; accepted: bcrypt (`htpasswd -B`) or argon2id"),
            ("a:$6$abc$def", "the hash of a is crypt; accepted: bcrypt (`htpasswd -B`) or argon2id"),
            (
                "a:secret",
                "the hash of a is plain, crypt or unknown; accepted: bcrypt (`htpasswd -B`) or argon2id",
            ),
            ("a:$2x$04$abc", "the hash of a is an old bcrypt; accepted: bcrypt (`htpasswd -B`) or argon2id"),
            ("a:$2y$04$abc", "the hash of a is no bcrypt hash, though it begins like one"),
            ("a:$argon2id$v=19$m=64", "the hash of a is no argon2id hash, though it begins like one"),
            (&format!("a:{costly}"), "the hash of a has the cost 17; accepted: 4 to 16"),
            (
                &format!("a:{memory}"),
                "the hash of a costs too much; accepted: up to m=262144 (KiB), t=32, p=16",
            ),
        ] {
            assert_eq!(parse(&format!("# x\n{line}\n")), Err(vec![(2, reason.to_owned())]), "{line}");
        }
        let twice = parse(&format!("a:{good}\nb:{good}\na:{good}\n")).unwrap_err();
        assert_eq!(twice, [(3, "the name a is there twice".to_owned())]);
        assert_eq!(format!("{:?}", hash_of(&good)), "(hidden)");
    }
}
