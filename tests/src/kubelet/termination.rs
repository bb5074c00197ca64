//! The termination message of a container, cut as the kubelet cuts it.

use std::fs;
use std::path::Path;

/// The bytes at the end of the message file that are kept.
const MESSAGE_BYTES: usize = 4096;
/// The bytes and lines at the end of the log that are kept if there is no message.
const LOG_BYTES: usize = 2048;
const LOG_LINES: usize = 80;

/// The message in `file`, else the end of `log`, if it is given as a fallback.
pub(super) fn message(file: &Path, log: Option<&Path>) -> Option<String> {
    let message = tail(&fs::read(file).unwrap_or_default(), MESSAGE_BYTES);
    if !message.is_empty() {
        return Some(message);
    }
    let log = fs::read(log?).ok()?;
    let text = tail(last_lines(&log), LOG_BYTES);
    (!text.is_empty()).then_some(text)
}

fn tail(bytes: &[u8], limit: usize) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(limit)..]).into_owned()
}

fn last_lines(log: &[u8]) -> &[u8] {
    let end = log.strip_suffix(b"\n").map_or(log.len(), <[u8]>::len);
    let start = log[..end]
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(LOG_LINES - 1)
        .map_or(0, |(position, _)| position + 1);
    &log[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_message_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("message");
        fs::write(&file, format!("{}{}", "a".repeat(10), "b".repeat(4096))).unwrap();
        assert_eq!(message(&file, None).unwrap(), "b".repeat(4096));
    }

    #[test]
    fn the_log_stands_in_only_where_it_may() {
        let folder = tempfile::tempdir().unwrap();
        let [file, log] = ["message", "log"].map(|name| folder.path().join(name));
        fs::write(&file, "").unwrap();
        fs::write(&log, "why\n").unwrap();
        assert_eq!(message(&file, None), None);
        assert_eq!(message(&file, Some(&log)).as_deref(), Some("why\n"));
        fs::write(&file, "said").unwrap();
        assert_eq!(message(&file, Some(&log)).as_deref(), Some("said"));
    }

    #[test]
    fn eighty_lines_of_the_log_count() {
        let log = (1..=100).map(|line| line.to_string()).collect::<Vec<_>>();
        let log = log.join("\n") + "\n";
        let kept = String::from_utf8(last_lines(log.as_bytes()).to_vec()).unwrap();
        assert_eq!(kept.lines().count(), 80);
        assert!(kept.starts_with("21\n") && kept.ends_with("100\n"));
    }
}
