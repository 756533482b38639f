//! A token's two halves: the id, by which everybody may call it, and the secret, of which the server keeps a hash.

use ring::digest::{SHA256, digest};
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};

const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID_LENGTH: usize = 10;
/// 36⁴⁰ is about 2²⁰⁶.
const SECRET_LENGTH: usize = 40;

/// A new token. No `Debug`, so that no log can show it.
pub struct Secret {
    pub id: String,
    secret: String,
}

impl Secret {
    /// From the system's random numbers.
    ///
    /// # Errors
    /// When the system has none to give.
    pub fn new() -> Result<Self, Unspecified> {
        Ok(Self { id: text(ID_LENGTH)?, secret: text(SECRET_LENGTH)? })
    }

    /// What is shown to the server.
    pub fn token(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// What the server keeps.
    pub fn hash(&self) -> String {
        let digest = digest(&SHA256, self.secret.as_bytes());
        digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
    }
}

/// So many characters, each as likely as any.
fn text(length: usize) -> Result<String, Unspecified> {
    let random = SystemRandom::new();
    let mut text = String::with_capacity(length);
    let mut bytes = [0_u8; 64];
    while text.len() < length {
        random.fill(&mut bytes)?;
        // The largest multiple of 36 in a byte: what is beyond would favour the first letters.
        let fair = bytes.iter().filter(|byte| **byte < 252).take(length - text.len());
        text.extend(fair.map(|byte| char::from(ALPHABET[usize::from(byte % 36)])));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_shape_that_the_server_takes() {
        let (a, b) = (Secret::new().unwrap(), Secret::new().unwrap());
        assert!(a.id != b.id && a.secret != b.secret);
        assert_eq!((a.id.len(), a.secret.len()), (ID_LENGTH, SECRET_LENGTH));
        assert!(a.token().bytes().all(|b| b == b'.' || ALPHABET.contains(&b)), "{}", a.token());
        let known = Secret { id: "a".into(), secret: "abc".into() };
        // FIPS 180-2, appendix B.1.
        assert_eq!(known.hash(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn every_character_comes() {
        let text = text(4000).unwrap();
        for letter in ALPHABET {
            let count = text.bytes().filter(|byte| byte == letter).count();
            assert!((40..=220).contains(&count), "{}: {count}", char::from(*letter));
        }
    }
}
