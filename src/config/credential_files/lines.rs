//! Lines of a credential file.

/// Number and reason of an invalid line.
pub(super) type LineError = (usize, String);

/// Calls `read` for each line except empty lines and comments, which begin with `#`. Collects every error.
pub(super) fn read<'a>(
    text: &'a str,
    mut read: impl FnMut(&'a str) -> Result<(), String>,
) -> Result<(), Vec<LineError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut bad_lines = Vec::new();
    let mut count = 0;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        count += 1;
        let outcome = if count > LINES_MAX {
            Err(format!("there are more than {LINES_MAX} lines"))
        } else {
            read(line)
        };
        if let Err(reason) = outcome {
            bad_lines.push((index + 1, reason));
            if count > LINES_MAX {
                break;
            }
        }
    }
    if bad_lines.is_empty() { Ok(()) } else { Err(bad_lines) }
}

/// Refuses a name that cannot be logged, or sent by a client: there a colon ends it.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if name.len() > NAME_MAX {
        return Err(format!("the name has more than {NAME_MAX} bytes"));
    }
    if name.contains(|c: char| c.is_control() || c.is_whitespace() || c == ':') {
        return Err("the name contains a space, a colon or a control character".to_owned());
    }
    Ok(())
}

/// Every token is compared with each presented one, so that timing reveals nothing: some 50 ns each.
const LINES_MAX: usize = 4096;

const NAME_MAX: usize = 255;
