//! `pagecast sign`: prints a signed URL.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use crate::auth::signed_url::now;
use crate::cli::action::SignArgs;
use crate::cli::outcome::CommandOutput;
use crate::http::credential_files::signing_keys::{SigningKey, SigningKeys};
use crate::http::signed_url::{SignedUrl, Terms};
use crate::http::target::SitePath;

/// Signs the URL that `arguments` describe with one of `keys`.
pub fn sign(keys: &SigningKeys, arguments: &SignArgs) -> CommandOutput {
    match url(keys, arguments, now()) {
        Ok(url) => CommandOutput { out: format!("{url}\n"), is_clean: true, ..CommandOutput::default() },
        Err(reason) => CommandOutput::failed(reason),
    }
}

fn url(keys: &SigningKeys, arguments: &SignArgs, now: u64) -> Result<String, String> {
    let (id, key) = chosen(keys, arguments.key_id.as_deref())?;
    // The signature is over the path that a client will send, after the same parser.
    let encoded = percent_encode(&arguments.path, OUTSIDE_PATH).to_string();
    let target = SitePath::parse(encoded.as_bytes())
        .map_err(|_| "the path leads out of the document root".to_owned())?;
    let terms = Terms {
        expires: now.saturating_add(arguments.expires.get().as_secs().max(1)),
        key: Cow::Borrowed(id.as_bytes()),
        client: arguments.client.as_deref().map(|client| Cow::Borrowed(client.as_bytes())),
        download: arguments.download.as_deref().map(|name| Cow::Borrowed(name.as_bytes())),
    };
    let signed = SignedUrl { method: arguments.method, path: Cow::Borrowed(target.path.as_bytes()), terms };
    let path = match target.wants_directory {
        true => target.path.to_location(None),
        false => target.path.to_file_location(None),
    };
    Ok(format!("{}{path}?{}", arguments.base, signed.query(key.reveal())))
}

fn chosen<'a>(keys: &'a SigningKeys, id: Option<&'a str>) -> Result<(&'a str, &'a SigningKey), String> {
    let ids: Vec<&str> = keys.ids().collect();
    let known = ids.join(", ");
    let id = match (id, ids.as_slice()) {
        (_, []) => {
            return Err("there are no keys: name their file by PAGECAST_LINK_KEYS_FILE or --link-keys-file"
                .to_owned());
        }
        (Some(id), _) => id,
        (None, [only]) => only,
        (None, _) => return Err(format!("there are several keys: name one by --key-id ({known})")),
    };
    let key = keys.get(id.as_bytes()).ok_or_else(|| format!("there is no key {id}; known: {known}"))?;
    Ok((id, key))
}

/// Everything is escaped in a path but letters, digits, dots and its slashes.
const OUTSIDE_PATH: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.');

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CredentialFiles;

    fn keys(ids: &[&str]) -> SigningKeys {
        let lines: String = ids.iter().map(|id| format!("{id} {}\n", "A".repeat(43))).collect();
        SigningKeys::clone(&CredentialFiles::of_link_keys(&lines).link_keys)
    }

    #[test]
    fn a_path_is_escaped_and_resolved_as_a_client_would() {
        let keys = keys(&["k1"]);
        for (path, expected) in [
            ("/a.txt", "/a.txt?expires=3601&key=k1&sig="),
            ("/a b/é%41?#", "/a%20b/%C3%A9%2541%3F%23?expires=3601&key=k1&sig="),
            ("/a/../b//c/", "/b/c/?expires=3601&key=k1&sig="),
            ("/", "/?expires=3601&key=k1&sig="),
        ] {
            let url = url(&keys, &SignArgs::usual(path), 1).unwrap();
            assert!(url.starts_with(expected), "{url}");
        }
        assert!(url(&keys, &SignArgs::usual("/a/../../b"), 1).is_err());
        let full = SignArgs {
            client: Some("192.0.2.0/24".to_owned()),
            download: Some("r&d.pdf".to_owned()),
            base: "https://files.example/x".to_owned(),
            ..SignArgs::usual("/a")
        };
        let url = url(&keys, &full, 1).unwrap();
        let expected =
            "https://files.example/x/a?expires=3601&key=k1&client=192.0.2.0%2F24&download=r%26d.pdf&sig=";
        assert!(url.starts_with(expected), "{url}");
    }

    #[test]
    fn a_key_must_be_named_unless_there_is_only_one() {
        for (ids, id, expected) in [
            (&["k1"][..], None, Ok("k1")),
            (&["k1"], Some("k1"), Ok("k1")),
            (&["k1", "k2"], Some("k2"), Ok("k2")),
            (&["k1", "k2"], None, Err("there are several keys: name one by --key-id (k1, k2)")),
            (&["k1"], Some("k3"), Err("there is no key k3; known: k1")),
            (
                &[],
                Some("k3"),
                Err("there are no keys: name their file by PAGECAST_LINK_KEYS_FILE or --link-keys-file"),
            ),
        ] {
            let keys = keys(ids);
            let chosen = chosen(&keys, id).map(|(id, _)| id).map_err(|why| why.clone());
            assert_eq!(chosen, expected.map_err(str::to_owned), "{ids:?} {id:?}");
        }
    }
}
