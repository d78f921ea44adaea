//! Reads certificate chains and keys from PEM files (RFC 7468), keys in PKCS #8, PKCS #1 or SEC 1.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, KeyUsage};

use super::names::CertificateNames;
use crate::config::{Config, ConfigError};
use crate::sys::regular_file::{open_regular, read_at_most};

/// Certificates with their keys, in the order of the configuration; never empty.
#[derive(Debug)]
pub(crate) struct Certificates {
    pairs: Vec<CertifiedPair>,
    names: CertificateNames,
    /// Hash of the files' paths and contents.
    pub(crate) fingerprint: [u8; 32],
}

#[derive(Debug)]
struct CertifiedPair {
    certified: Arc<CertifiedKey>,
    path: PathBuf,
    /// The first DNS name of the certificate, or its file if it has none.
    name: String,
    not_after: i64,
}

impl Certificates {
    /// Loads the certificates of `config`. `None` if it has none. Blocks.
    ///
    /// # Errors
    /// One for each unusable file, with the reason.
    pub(crate) fn load(config: &Config) -> Result<Option<Self>, Vec<ConfigError>> {
        CertificateFiles::read(config)?.map(CertificateFiles::into_certificates).transpose()
    }

    /// The certificate for the server name `name`, else the first.
    pub(super) fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        Arc::clone(&self.pairs[self.names.find(name)].certified)
    }

    /// The first name of each certificate, and its last valid second in seconds since the Unix epoch.
    pub(crate) fn expiries(&self) -> impl Iterator<Item = (String, i64)> {
        self.pairs.iter().map(|pair| (pair.name.clone(), pair.not_after))
    }

    /// Logs certificates that have expired or expire soon.
    fn log_expiry(&self, now: SystemTime) {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        for CertifiedPair { path, name, not_after, .. } in &self.pairs {
            let days = (not_after - now).div_euclid(DAY);
            let path = path.display();
            if *not_after < now {
                log::warn!("{path}: the certificate of {name} has expired {} days ago", -days);
            } else if days < EXPIRES_SOON {
                log::warn!("{path}: the certificate of {name} expires in {days} days");
            }
        }
    }
}

/// The contents of all files.
pub(crate) struct CertificateFiles {
    pairs: Vec<[File; 2]>,
    fingerprint: [u8; 32],
}

struct File {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl CertificateFiles {
    /// Reads the files of `config`. `None` if it has none. Blocks.
    ///
    /// # Errors
    /// One for each unreadable file.
    pub(crate) fn read(config: &Config) -> Result<Option<Self>, Vec<ConfigError>> {
        let (Some(chains), Some(keys)) = (config.tls.tls_cert.given(), config.tls.tls_key.given()) else {
            return Ok(None);
        };
        let mut errors = Vec::new();
        let mut digest = Sha256::new();
        let mut file = |path: &Path| {
            let mut file = File { path: path.to_owned(), bytes: Vec::new() };
            match read(path) {
                Ok(bytes) => file.bytes = bytes,
                Err(error) => errors.push(file.error(format!("can't be read: {error}"))),
            }
            digest.update(path.as_os_str().as_encoded_bytes());
            digest.update((file.bytes.len() as u64).to_le_bytes());
            digest.update(&file.bytes);
            file
        };
        let both = chains.as_slice().iter().zip(keys.as_slice());
        let pairs: Vec<[File; 2]> =
            both.map(|(chain, key)| [file(chain.as_path()), file(key.as_path())]).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Some(Self { pairs, fingerprint: digest.finalize().into() }))
    }

    /// Hash of what was read, or of the errors, so that a change is noticed. `None` if there are no files.
    pub(crate) fn fingerprint(found: &Result<Option<Self>, Vec<ConfigError>>) -> Option<[u8; 32]> {
        match found {
            Ok(found) => found.as_ref().map(|found| found.fingerprint),
            Err(errors) => {
                let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
                Some(Sha256::digest(messages.join("\n")).into())
            }
        }
    }

    /// Parses the files, and logs certificates that have expired.
    ///
    /// # Errors
    /// One for each unusable file.
    pub(crate) fn into_certificates(self) -> Result<Certificates, Vec<ConfigError>> {
        let (mut pairs, mut errors, mut names) = (Vec::new(), Vec::new(), CertificateNames::default());
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
        certificates.log_expiry(SystemTime::now());
        Ok(certificates)
    }
}

fn pair(chain: &File, key: &File) -> Result<(CertifiedPair, Vec<String>), ConfigError> {
    let certificates = CertificateDer::pem_slice_iter(&chain.bytes).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| chain.malformed(&error))?;
    let first = certificates
        .first()
        .ok_or_else(|| chain.error(format!("contains no certificate: {}", chain.contents())))?;
    let (names, not_after) =
        facts(first).ok_or_else(|| chain.error("the first certificate is not a valid X.509 certificate"))?;
    let provider = aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(certificates, private_key(key)?, &provider);
    let certified = certified.map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            key.error(format!("the key does not belong to the certificate in {}", chain.path.display()))
        }
        error => key.error(format!("the key can't be used: {error}")),
    })?;
    let name = names.first().cloned().unwrap_or_else(|| chain.path.display().to_string());
    Ok((CertifiedPair { certified: Arc::new(certified), path: chain.path.clone(), name, not_after }, names))
}

fn private_key(file: &File) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_slice(&file.bytes).map_err(|error| match (error, file.contents()) {
        (pem::Error::NoItemsFound, contents) if contents.contains("ENCRYPTED") => {
            file.error("the private key is encrypted; only unencrypted keys are supported")
        }
        (pem::Error::NoItemsFound, contents) => file.error(format!("contains no private key: {contents}")),
        (error, _) => file.malformed(&error),
    })
}

/// The DNS names of a certificate, and its last valid second since the Unix epoch. `None` if it is not valid X.509.
fn facts(certificate: &CertificateDer<'_>) -> Option<(Vec<String>, i64)> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    // At the end of time every certificate has expired, and the error says when.
    let end = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    match parsed.verify_for_usage(&[], &[], &[], end, KeyUsage::server_auth(), None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            Some((parsed.valid_dns_names().map(str::to_owned).collect(), not_after.as_secs().cast_signed()))
        }
        _ => None,
    }
}

impl File {
    fn error(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError::File { path: self.path.clone(), line: None, reason: reason.into() }
    }

    fn malformed(&self, error: &pem::Error) -> ConfigError {
        let reason = match error {
            pem::Error::MissingSectionEnd { .. } => "a section has no END line",
            pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
            pem::Error::Base64Decode(_) => "a section is not valid Base64",
            error => &error.to_string(),
        };
        self.error(format!("not valid PEM: {reason}"))
    }

    /// What the file contains instead, by the labels of its PEM sections.
    fn contents(&self) -> String {
        if self.bytes.iter().all(u8::is_ascii_whitespace) {
            return "it is empty".to_owned();
        }
        let text = String::from_utf8_lossy(&self.bytes);
        let labels: Vec<String> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
            .take(LABELS_MAX)
            .map(|label| label.chars().take(LABEL_MAX).flat_map(char::escape_debug).collect())
            .collect();
        if labels.is_empty() {
            "it has no PEM section".to_owned()
        } else {
            format!("it contains {}", labels.join(", "))
        }
    }
}

/// Reads a regular file of at most [`LENGTH_MAX`] bytes. Does not wait on a FIFO.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?.ok_or_else(|| io::Error::other("not a regular file"))?;
    read_at_most(file, LENGTH_MAX)
}

const LENGTH_MAX: u64 = 1 << 20;
const LABELS_MAX: usize = 4;
const LABEL_MAX: usize = 40;
const DAY: i64 = 24 * 60 * 60;

/// Days before its expiry from which a certificate is logged.
const EXPIRES_SOON: i64 = 7;

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
    fn pairs_of_several_key_types_are_read_with_their_names() {
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
    fn unusable_files_are_reported_with_their_contents() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (chain, key_text) = (signed(&["a.test"], &key), key.serialize_pem());
        let encrypted = key_text.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let broken = chain.replace("-----END CERTIFICATE-----", "");
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (chain_text, key_text, expected) in [
            (
                chain.as_str(),
                other.serialize_pem().as_str(),
                "k: the key does not belong to the certificate in c",
            ),
            ("", &key_text, "c: contains no certificate: it is empty"),
            ("hello", &key_text, "c: contains no certificate: it has no PEM section"),
            (&key_text, &key_text, "c: contains no certificate: it contains PRIVATE KEY"),
            (&broken, &key_text, "c: not valid PEM: a section has no END line"),
            (no_certificate, &key_text, "c: the first certificate is not a valid X.509 certificate"),
            (&chain, "", "k: contains no private key: it is empty"),
            (&chain, &chain, "k: contains no private key: it contains CERTIFICATE"),
            (&chain, &encrypted, "k: the private key is encrypted; only unencrypted keys are supported"),
        ] {
            let error = pair(&file("c", chain_text), &file("k", key_text)).unwrap_err().to_string();
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn the_expiry_of_a_certificate_is_found_and_none_in_a_truncated_one() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        for (year, expected) in [(2031, 1_927_843_200), (2049, 2_495_923_200), (2050, 2_527_459_200)] {
            params.not_after = rcgen::date_time_ymd(year, 2, 3);
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(facts(certificate.der()).map(|(_, not_after)| not_after), Some(expected));
            for length in 0..certificate.der().len() {
                assert_eq!(facts(&certificate.der()[..length].into()), None, "{length}");
            }
        }
        // The end of a certificate that does not expire (RFC 5280 §4.1.2.5).
        params.not_after = rcgen::date_time_ymd(9999, 12, 31);
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(facts(certificate.der()).map(|(_, not_after)| not_after), Some(253_402_214_400));
        assert_eq!(facts(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff].as_slice().into()), None);
    }
}
