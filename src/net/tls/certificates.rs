//! Chains and keys as their files hold them: PEM (RFC 7468), keys in PKCS #8, PKCS #1 or SEC 1.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use sha2::{Digest, Sha256};
use webpki::EndEntityCert;

use super::names::CertificateNames;
use super::validity::not_after;
use crate::config::{Config, ConfigError};

/// Certificates with their keys, in the order of the configuration; never empty.
#[derive(Debug)]
pub(crate) struct Certificates {
    pairs: Vec<CertifiedPair>,
    names: CertificateNames,
    /// Tells these files from others, whatever their dates.
    fingerprint: [u8; 32],
}

#[derive(Debug)]
struct CertifiedPair {
    certified: Arc<CertifiedKey>,
    path: PathBuf,
    /// The first name that it is for; its file where it has none.
    name: String,
    not_after: i64,
}

impl Certificates {
    /// Those that `config` names, if it names any. Blocks.
    ///
    /// # Errors
    /// All that is wrong with the files: which of them, and what was found in it.
    pub(crate) fn load(config: &Config) -> Result<Option<Self>, Vec<ConfigError>> {
        let Some(found) = CertificateFiles::read(config)? else { return Ok(None) };
        found.into_certificates().map(Some)
    }

    /// The one that has the name a client asks for, else the first.
    pub(super) fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let place = self.names.find(name);
        Arc::clone(&self.pairs[if place < self.pairs.len() { place } else { 0 }].certified)
    }

    /// What tells these files from others.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The first name of each, and the last second of the Unix epoch in which it is valid.
    pub(crate) fn expiries(&self) -> impl Iterator<Item = (String, i64)> {
        self.pairs.iter().map(|pair| (pair.name.clone(), pair.not_after))
    }

    /// Warns of those that are no longer valid, or not for long.
    fn warn_of_age(&self, now: SystemTime) {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        for CertifiedPair { path, name, not_after, .. } in &self.pairs {
            let days = (not_after - now).div_euclid(DAY);
            let path = path.display();
            if *not_after < now {
                log::warn!("{path}: the certificate of {name} has expired {} days ago", -days);
            } else if days < SOON {
                log::warn!("{path}: the certificate of {name} expires in {days} days");
            }
        }
    }
}

/// The bytes of all files.
pub(crate) struct CertificateFiles {
    pairs: Vec<[File; 2]>,
    fingerprint: [u8; 32],
}

struct File {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl CertificateFiles {
    /// Reads the files that `config` names, if it names any. Blocks.
    ///
    /// # Errors
    /// The files that can't be read.
    pub(crate) fn read(config: &Config) -> Result<Option<Self>, Vec<ConfigError>> {
        let (Some(chains), Some(keys)) = (config.tls.tls_cert.given(), config.tls.tls_key.given()) else {
            return Ok(None);
        };
        let mut errors = Vec::new();
        let mut digest = Sha256::new();
        let mut file = |path: &Path| {
            let bytes = read(path).unwrap_or_else(|error| {
                errors.push(wrong(path, format!("it can't be read: {error}")));
                Vec::new()
            });
            digest.update(path.as_os_str().as_encoded_bytes());
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(&bytes);
            File { path: path.to_owned(), bytes }
        };
        let both = chains.as_slice().iter().zip(keys.as_slice());
        let pairs: Vec<[File; 2]> = both.map(|(chain, key)| [file(chain), file(key)]).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Some(Self { pairs, fingerprint: digest.finalize().into() }))
    }

    /// Tells what was found from what was found another time, where something was named: files, or what kept them from being
    /// read.
    pub(crate) fn fingerprint(found: &Result<Option<Self>, Vec<ConfigError>>) -> Option<[u8; 32]> {
        match found {
            Ok(found) => found.as_ref().map(|found| found.fingerprint),
            Err(errors) => {
                let words: Vec<String> = errors.iter().map(ToString::to_string).collect();
                Some(Sha256::digest(words.join("\n")).into())
            }
        }
    }

    /// What is in them. Warns of certificates that have expired.
    ///
    /// # Errors
    /// All that will not do.
    pub(crate) fn into_certificates(self) -> Result<Certificates, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut names = CertificateNames::default();
        let mut pairs = Vec::new();
        for (place, [chain, key]) in self.pairs.iter().enumerate() {
            match pair(chain, key) {
                Ok((pair, its_names)) => {
                    its_names.iter().for_each(|name| names.add(name, place));
                    pairs.push(pair);
                }
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let certificates = Certificates { pairs, names, fingerprint: self.fingerprint };
        certificates.warn_of_age(SystemTime::now());
        Ok(certificates)
    }
}

fn pair(chain: &File, key: &File) -> Result<(CertifiedPair, Vec<String>), ConfigError> {
    let certificates = certificates(chain)?;
    let private = private_key(key)?;
    let provider = aws_lc_rs::default_provider();
    let certified =
        CertifiedKey::from_der(certificates, private, &provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => wrong(
                &key.path,
                format!("the key does not belong to the certificate in {}", chain.path.display()),
            ),
            error => wrong(&key.path, format!("the key can't be used: {error}")),
        })?;
    let first = certified.end_entity_cert().map_err(|error| wrong(&chain.path, error.to_string()))?;
    let (names, not_after) = facts(first).ok_or_else(|| {
        wrong(&chain.path, "its first certificate can't be understood: it is no X.509 certificate")
    })?;
    let name = names.first().cloned().unwrap_or_else(|| chain.path.display().to_string());
    Ok((CertifiedPair { certified: Arc::new(certified), path: chain.path.clone(), name, not_after }, names))
}

fn certificates(file: &File) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file.bytes).collect();
    let chain = chain.map_err(|error| wrong(&file.path, format!("it is no PEM: {}", words(&error))))?;
    match chain.first() {
        None => Err(wrong(&file.path, format!("no certificate is in it, but {}", contents(&file.bytes)))),
        Some(first) if facts(first).is_none() => {
            Err(wrong(&file.path, "its first certificate can't be understood: it is no X.509 certificate"))
        }
        Some(_) => Ok(chain),
    }
}

fn private_key(file: &File) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_slice(&file.bytes).map_err(|error| match error {
        pem::Error::NoItemsFound if contents(&file.bytes).contains("ENCRYPTED") => {
            wrong(&file.path, "its private key is encrypted: nobody is there to ask for the password")
        }
        pem::Error::NoItemsFound => {
            wrong(&file.path, format!("no private key is in it, but {}", contents(&file.bytes)))
        }
        error => wrong(&file.path, format!("it is no PEM: {}", words(&error))),
    })
}

/// The names that a certificate is for, and until when it is valid.
fn facts(certificate: &CertificateDer<'_>) -> Option<(Vec<String>, i64)> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    Some((parsed.valid_dns_names().map(str::to_owned).collect(), not_after(certificate)?))
}

/// What a file holds instead, by the labels of its sections.
fn contents(bytes: &[u8]) -> String {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return "nothing: it is empty".to_owned();
    }
    let text = String::from_utf8_lossy(bytes);
    let labels: Vec<String> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .take(LABELS_MAX)
        .map(|label| label.chars().take(LABEL_MAX).flat_map(char::escape_debug).collect())
        .collect();
    if labels.is_empty() { "no section of PEM at all".to_owned() } else { labels.join(", ") }
}

fn words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a section does not begin as one".to_owned(),
        pem::Error::Base64Decode(_) => "a section is not in Base64".to_owned(),
        error => error.to_string(),
    }
}

/// A fifo would wait for its writer, and nobody's chain is longer than this.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LENGTH_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LENGTH_MAX {
        return Err(io::Error::other(format!("it has more than {LENGTH_MAX} bytes")));
    }
    Ok(bytes)
}

fn wrong(path: &Path, reason: impl Into<String>) -> ConfigError {
    ConfigError::File { path: path.to_owned(), line: None, reason: reason.into() }
}

const LENGTH_MAX: u64 = 1 << 20;
const LABELS_MAX: usize = 4;
const LABEL_MAX: usize = 40;
const DAY: i64 = 24 * 60 * 60;

/// Days before its end from which on a certificate is warned of.
const SOON: i64 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    fn file(name: &str, bytes: impl Into<Vec<u8>>) -> File {
        File { path: name.into(), bytes: bytes.into() }
    }

    fn signed(names: &[&str], key: &KeyPair) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        CertificateParams::new(names).unwrap().self_signed(key).unwrap().pem()
    }

    #[test]
    fn pairs_of_several_kinds_are_read_with_their_names() {
        for key in [
            KeyPair::generate().unwrap(),
            KeyPair::generate_for(&PKCS_ED25519).unwrap(),
            KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
        ] {
            let chain = signed(&["a.test", "*.b.test"], &key);
            let commented = format!("subject=CN = a.test\n{chain}{chain}");
            let (pair, names) = pair(&file("c", commented), &file("k", key.serialize_pem())).unwrap();
            assert_eq!(names, ["a.test", "*.b.test"]);
            assert_eq!((pair.name.as_str(), pair.certified.cert.len()), ("a.test", 2));
        }
    }

    #[test]
    fn what_will_not_do_is_told_with_its_file_and_what_was_found() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (chain, key_text) = (signed(&["a.test"], &key), key.serialize_pem());
        let encrypted = key_text.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let broken = chain.replace("-----END CERTIFICATE-----", "");
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (chain_text, key_text, told) in [
            (
                chain.as_str(),
                other.serialize_pem().as_str(),
                "k: the key does not belong to the certificate in c",
            ),
            ("", &key_text, "c: no certificate is in it, but nothing: it is empty"),
            ("hello", &key_text, "c: no certificate is in it, but no section of PEM at all"),
            (&key_text, &key_text, "c: no certificate is in it, but PRIVATE KEY"),
            (&broken, &key_text, "c: it is no PEM: a section has no end"),
            (
                no_certificate,
                &key_text,
                "c: its first certificate can't be understood: it is no X.509 certificate",
            ),
            (&chain, "", "k: no private key is in it, but nothing: it is empty"),
            (&chain, &chain, "k: no private key is in it, but CERTIFICATE"),
            (&chain, &encrypted, "k: its private key is encrypted: nobody is there to ask for the password"),
        ] {
            let refused = pair(&file("c", chain_text), &file("k", key_text)).unwrap_err().to_string();
            assert_eq!(refused, told);
        }
    }
}
