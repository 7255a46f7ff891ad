//! Sealed texts: what only the holder of a tenant's key can read. A producer puts a token in the place of a text before it
//! publishes, so that the log, its hashes and everything derived from it are over the token. Who destroys the key erases the
//! text and touches no record.
//!
//! A token is `sealed:1:<key id>:<bytes>`: the bytes are nonce (12), ciphertext and tag (16) of AES-256-GCM-SIV (RFC 8452) in
//! base64url without padding; the associated data are `sealed:1:<key id>`. No cryptography happens here.

use crate::events::Event;
use crate::field::FieldError;
use crate::ids::TenantId;

/// What every token of any version begins with.
pub const MARK: &str = "sealed:";
/// What a token of this version begins with.
pub const PREFIX: &str = "sealed:1:";
/// The longest id of a key, in bytes.
pub const KEY_ID_LEN_MAX: usize = 64;
/// Bytes of the nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of the tag.
pub const TAG_LEN: usize = 16;
/// Characters of nonce and tag alone.
const SEALED_LEN_MIN: usize = ((NONCE_LEN + TAG_LEN) * 4).div_ceil(3);

/// A sealed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'t> {
    /// Id of the key that opens it.
    pub key_id: &'t str,
    /// Nonce, ciphertext and tag, base64url without padding.
    pub sealed: &'t str,
}

/// The token that a text is; nothing for a plain text. A text that begins like a token and is none is an error.
pub fn parse(text: &str) -> Result<Option<Token<'_>>, FieldError> {
    if !text.starts_with(MARK) {
        return Ok(None);
    }
    match token_at(text) {
        Some((token, len)) if len == text.len() => Ok(Some(token)),
        _ => {
            let shown: String = text.chars().take(80).collect();
            let expected =
                "sealed:1:<key id>:<nonce, ciphertext and tag, base64url>, or a text that does not begin with sealed:";
            Err(FieldError::here(format!("{shown:?}"), expected))
        }
    }
}

/// The token at the beginning of a text, and its length.
fn token_at(text: &str) -> Option<(Token<'_>, usize)> {
    let rest = text.strip_prefix(PREFIX)?;
    let (key_id, rest) = rest.split_once(':')?;
    let len = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')).count();
    let whole = len >= SEALED_LEN_MIN && len % 4 != 1;
    let token = Token { key_id, sealed: &rest[..len] };
    (whole && is_key_id(key_id)).then_some((token, PREFIX.len() + key_id.len() + 1 + len))
}

/// Whether a text can be the id of a key: 1 to 64 characters of `A–Z a–z 0–9 . _ / -`.
pub fn is_key_id(text: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-');
    (1..=KEY_ID_LEN_MAX).contains(&text.len()) && text.bytes().all(valid)
}

/// The tokens in a text, wherever they stand: a decision quotes the reason of a cancellation, say.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    replace(text, |token| found.push(token));
    found
}

/// Gives each token of a text to `each`, in order; what stands between them comes back, cut where tokens stood.
pub fn replace<'t>(text: &'t str, mut each: impl FnMut(Token<'t>)) -> Vec<&'t str> {
    let mut between = Vec::new();
    let (mut from, mut look) = (0, 0);
    while let Some(at) = text[look..].find(PREFIX).map(|at| look + at) {
        match token_at(&text[at..]) {
            Some((token, len)) => {
                between.push(&text[from..at]);
                each(token);
                (from, look) = (at + len, at + len);
            }
            None => look = at + PREFIX.len(),
        }
    }
    between.push(&text[from..]);
    between
}

macro_rules! texts {
    ($(#[doc = $doc:literal])* $name:ident, $event:ty, $text:ty, $iter:ident) => {
        $(#[doc = $doc])*
        pub fn $name(event: $event) -> Vec<(String, $text)> {
            match event {
                Event::JobRequested(e) => {
                    let labels = e.labels.$iter().enumerate();
                    labels.map(|(i, label)| (format!("labels[{i}].value"), $name!(label.value))).collect()
                }
                Event::JobHoldSet(e) => vec![("reason".to_owned(), $name!(e.reason))],
                Event::JobCancelRequested(e) => vec![("reason".to_owned(), $name!(e.reason))],
                Event::RunFailed(e) => vec![("detail".to_owned(), $name!(e.detail))],
                _ => Vec::new(),
            }
        }
    };
}

macro_rules! texts_of {
    ($field:expr) => {
        &$field
    };
}

macro_rules! texts_of_mut {
    ($field:expr) => {
        &mut $field
    };
}

texts! {
    /// The texts of an event that may be sealed, with their paths: what people wrote and nothing decides by.
    texts_of, &Event, &String, iter
}

texts! {
    /// The same, to be replaced.
    texts_of_mut, &mut Event, &mut String, iter_mut
}

/// Whose event it is, where it says so itself.
pub fn tenant_of(event: &Event) -> Option<&TenantId> {
    match event {
        Event::JobRequested(e) => Some(&e.tenant),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "sealed:1:acme/2026:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn a_token_is_read_and_what_only_begins_like_one_is_refused() {
        assert_eq!(parse("a reason").unwrap(), None);
        assert_eq!(parse(TOKEN).unwrap().unwrap().key_id, "acme/2026");
        let cut = &TOKEN[..50];
        let trailing = format!("{TOKEN} and more");
        for wrong in ["sealed:", "sealed:2:a:b", "sealed:1::AAAA", "sealed:1:a b:AAAA", cut, trailing.as_str()] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("expected sealed:1:<key id>"), "{error}");
        }
    }

    #[test]
    fn tokens_are_found_inside_a_text() {
        let text = format!("asked by bob: {TOKEN}; sealed:1:none, {TOKEN}");
        assert_eq!(tokens(&text).len(), 2);
        let mut count = 0;
        let between = replace(&text, |_| count += 1);
        assert_eq!((between, count), (vec!["asked by bob: ", "; sealed:1:none, ", ""], 2));
    }

    #[test]
    fn the_texts_of_an_event_are_named_by_their_path() {
        for name in ["JobRequested", "JobHoldSet", "JobCancelRequested", "RunFailed"] {
            let mut event = (crate::events::event_type(name).unwrap().example)();
            let paths: Vec<String> = texts_of(&event).into_iter().map(|(path, _)| path).collect();
            assert!(!paths.is_empty(), "{name}");
            texts_of_mut(&mut event).into_iter().for_each(|(_, text)| *text = TOKEN.to_owned());
            assert!(texts_of(&event).iter().all(|(_, text)| *text == TOKEN), "{name}");
        }
    }
}
