//! Tokens of grants.

use std::fmt;

/// The identifier of one grant, from the server: 32 lower-case hexadecimal digits.
///
/// A client that has the token can renew or release the slot. `Debug` therefore shows only its
/// first half, which tells tokens apart. [`as_str`](Self::as_str) returns all of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; Self::LEN]);

impl Token {
    /// The number of digits.
    pub(super) const LEN: usize = 32;

    /// Returns the token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // The digits are hexadecimal, so they are always UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the token as bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the first half, which tells tokens apart and does not suffice to use the slot.
    pub(crate) fn prefix(&self) -> &str {
        &self.as_str()[..16]
    }

    /// Parses 32 lower-case hexadecimal digits.
    pub(crate) fn parse(text: impl AsRef<[u8]>) -> Option<Self> {
        let digits: [u8; Self::LEN] = text.as_ref().try_into().ok()?;
        // A loop without an early exit, which the compiler vectorizes.
        let is_hex = digits.iter().fold(true, |is_hex, b| {
            is_hex & matches!(b, b'0'..=b'9' | b'a'..=b'f')
        });
        is_hex.then_some(Self(digits))
    }

    /// Returns the number in the first half, which grows with each grant on servers from v2.1 on.
    pub(crate) fn fence(&self) -> u64 {
        // 16 hexadecimal digits always fit in a `u64`.
        u64::from_str_radix(self.prefix(), 16).unwrap_or_default()
    }

    /// Returns a number with 32 random bits on all servers: the bytes of the last eight digits.
    pub(crate) fn random_bits(&self) -> u64 {
        self.0
            .last_chunk()
            .map_or(0, |digits| u64::from_le_bytes(*digits))
    }

    /// Creates a token from a fence and a random half.
    #[cfg(any(feature = "server", feature = "etcd"))]
    pub(crate) fn new(fence: u64, random: u64) -> Self {
        let mut digits = [0; Self::LEN];
        for (i, digit) in digits.iter_mut().enumerate() {
            let half = if i < 16 { fence } else { random };
            let nibble = (half >> (60 - 4 * (i % 16))) & 0xf;
            *digit = b"0123456789abcdef"[nibble as usize];
        }
        Self(digits)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}…)", self.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // G17
    #[test]
    fn tokens_are_32_lower_case_hexadecimal_digits() {
        let text = "00000000000000ff0123456789abcdef";
        let token = Token::parse(text).unwrap();
        assert_eq!(token.as_str(), text);
        assert_eq!(
            (token.fence(), token.random_bits()),
            (255, u64::from_le_bytes(*b"89abcdef"))
        );
        assert_eq!(format!("{token:?}"), "Token(00000000000000ff…)");
        for bad in [
            "",
            "00",
            "00000000000000FF0123456789ABCDEF",
            "00000000000000ff0123456789abcdeg",
            "0123456789abcdef0123456789abcde\n",
        ] {
            assert_eq!(Token::parse(bad), None, "{bad:?}");
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn a_token_consists_of_its_fence_and_its_random_half() {
        let token = Token::new(0x1f, 0xfedc_ba98_7654_3210);
        assert_eq!(token.as_str(), "000000000000001ffedcba9876543210");
        assert_eq!(token.fence(), 0x1f);
    }
}
