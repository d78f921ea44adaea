//! `pagecast sign`: prints a link.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use crate::auth::signed_url::now;
use crate::cli::outcome::CommandOutput;
use crate::config::{SignArgs, SigningKey, SigningKeys};
use crate::http::signed_url::{SignedUrl, Terms};
use crate::http::target::SitePath;

/// The link that is `asked` for, signed by one of `keys`, as a line.
pub fn sign(keys: &SigningKeys, asked: &SignArgs) -> CommandOutput {
    match url(keys, asked, now()) {
        Ok(url) => CommandOutput { out: format!("{url}\n"), is_clean: true, ..CommandOutput::default() },
        Err(why) => CommandOutput { err: format!("pagecast: {why}\n"), ..CommandOutput::default() },
    }
}

fn url(keys: &SigningKeys, asked: &SignArgs, now: u64) -> Result<String, String> {
    let (id, key) = chosen(keys, asked.key_id.as_deref())?;
    // What a client will send is what is signed: the path goes through the same parser.
    let encoded = percent_encode(&asked.path, OUTSIDE_PATH).to_string();
    let target = SitePath::parse(encoded.as_bytes())
        .map_err(|_| "the path climbs out of the site, which no link can".to_owned())?;
    let terms = Terms {
        expires: now.saturating_add(asked.expires.get().as_secs().max(1)),
        key: Cow::Borrowed(id.as_bytes()),
        client: asked.client.as_deref().map(|client| Cow::Borrowed(client.as_bytes())),
        download: asked.download.as_deref().map(|name| Cow::Borrowed(name.as_bytes())),
    };
    let link = SignedUrl { method: asked.method, path: Cow::Borrowed(target.path.as_bytes()), terms };
    let path = match target.wants_directory {
        true => target.path.to_location(None),
        false => target.path.to_file_location(None),
    };
    Ok(format!("{}{path}?{}", asked.base, link.query(key.reveal())))
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

/// What has to be escaped in a path whose slashes part its names.
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
    fn a_key_is_named_unless_there_is_one_alone() {
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
