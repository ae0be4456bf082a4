//! Words of others in our logs and answers.

/// Most characters of others that are passed on.
const MOST_TOLD: usize = 200;

/// `text` of somebody else, fit for a log or an answer: without control characters and such that turn the direction of
/// writing, and cut.
pub fn told(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control() && !turns(*letter))
        .take(MOST_TOLD)
        .collect()
}

/// Whether it makes what follows look like something else: bidirectional and zero-width formatting, line separators.
fn turns(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_injected() {
        assert_eq!(told("a\r\nb\u{1b}[31mc\0\u{202e}d\u{2028}"), "ab[31mcd");
        assert_eq!(told(&"ü".repeat(1_000)).chars().count(), MOST_TOLD);
    }
}
