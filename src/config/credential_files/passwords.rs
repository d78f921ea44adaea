//! Names and hashes of passwords, as htpasswd writes them: on each line `name:hash`.

use std::fmt;
use std::sync::Arc;

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc;
use argon2::{Argon2, Params};

use super::lines::{self, LineError};

/// Names and the hashes of their passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passwords(Vec<(Arc<str>, Arc<PasswordHash>)>);

/// A hash that costs time to try; nothing shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(HashScheme);

#[derive(Clone, PartialEq, Eq)]
enum HashScheme {
    /// As it was written, 60 characters.
    Bcrypt(Box<str>),
    Argon2id(Box<phc::PasswordHash>),
}

impl Passwords {
    /// The name as it is known, and its hash.
    pub fn get(&self, name: &[u8]) -> Option<(&Arc<str>, &Arc<PasswordHash>)> {
        self.0.iter().find(|(known, _)| known.as_bytes() == name).map(|(name, hash)| (name, hash))
    }

    /// The hash at `number`, counted round and round; none where there are none.
    pub(crate) fn at(&self, number: u64) -> Option<&Arc<PasswordHash>> {
        let count = u64::try_from(self.0.len()).ok().filter(|count| *count > 0)?;
        usize::try_from(number % count).ok().and_then(|index| self.0.get(index)).map(|(_, hash)| hash)
    }
}

impl PasswordHash {
    /// Whether this is the hash of `password`. Takes a good part of a second, and of memory what the hash says.
    pub fn is_of(&self, password: &[u8]) -> bool {
        match &self.0 {
            // Of what is longer the first 72 bytes would do.
            HashScheme::Bcrypt(hash) => {
                let is_it = bcrypt::verify(password, hash).unwrap_or(false);
                is_it && password.len() <= BCRYPT_PASSWORD_MAX
            }
            HashScheme::Argon2id(hash) => Argon2::default().verify_password(password, hash.as_ref()).is_ok(),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| text.strip_prefix(prefix)) {
            return bcrypt_hash(text, rest);
        }
        if text.starts_with("$argon2id$") {
            return argon2_hash(text);
        }
        let scheme = match text {
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

fn bcrypt_hash(text: &str, rest: &str) -> Result<PasswordHash, String> {
    let is_sound = text.parse::<bcrypt::HashParts>().is_ok();
    let cost = rest.get(..2).and_then(|cost| cost.parse::<u32>().ok()).filter(|_| is_sound);
    match cost {
        None => Err("is no bcrypt hash, though it begins like one".to_owned()),
        Some(cost @ 4..=BCRYPT_COST_MAX) => {
            let _ = cost;
            Ok(PasswordHash(HashScheme::Bcrypt(text.into())))
        }
        Some(cost) => Err(format!("has the cost {cost}; accepted: 4 to {BCRYPT_COST_MAX}")),
    }
}

fn argon2_hash(text: &str) -> Result<PasswordHash, String> {
    let unsound = || "is no argon2id hash, though it begins like one".to_owned();
    let hash = phc::PasswordHash::new(text).map_err(|_| unsound())?;
    let params = Params::try_from(&hash).map_err(|_| unsound())?;
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(unsound());
    }
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

pub(super) fn parse(text: &str) -> Result<Passwords, Vec<LineError>> {
    let mut passwords = Passwords::default();
    lines::read(text, |line| {
        let (name, hash) =
            line.split_once(':').ok_or("a line is a name and a hash with a colon between them")?;
        lines::check_name(name)?;
        if passwords.get(name.as_bytes()).is_some() {
            return Err(format!("the name {name} is there twice"));
        }
        let hash = PasswordHash::parse(hash).map_err(|reason| format!("the hash of {name} {reason}"))?;
        passwords.0.push((name.into(), Arc::new(hash)));
        Ok(())
    })?;
    Ok(passwords)
}

/// bcrypt takes no more of a password.
const BCRYPT_PASSWORD_MAX: usize = 72;

/// A check of this cost takes some seconds.
const BCRYPT_COST_MAX: u32 = 16;

/// 256 MiB, which each check at once takes.
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
