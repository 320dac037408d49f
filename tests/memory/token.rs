//! Auth token that the test itself does not keep in memory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

const LENGTH: usize = 64;

/// Length of the pieces that are searched. Of a token that spans two pages, at least one piece is
/// in one page.
const PIECE: usize = LENGTH / 4;

/// At most the page size of the kernel, so that each page is copied at once and a copy is never
/// found again.
const PAGE: usize = 4096;

/// A token of which one letter at a time is computed.
#[derive(Clone, Copy)]
pub(crate) struct AuthToken(u32);

impl AuthToken {
    /// Creates a different token for each `seed`.
    pub(crate) fn new(seed: u32) -> Self {
        Self(seed)
    }

    pub(crate) fn letters(self) -> impl Iterator<Item = char> {
        (0..LENGTH).map(move |at| char::from(self.letter(at)))
    }

    /// Returns the addresses in memory at which the token, or a token of which only a part is left,
    /// begins.
    pub(crate) fn addresses(self) -> BTreeSet<u64> {
        let memory = File::open("/proc/self/mem").unwrap();
        let mut addresses = BTreeSet::new();
        let mut page = [0; PAGE];
        for (start, end) in fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .filter_map(writable)
        {
            for address in (start..end).step_by(PAGE) {
                // Another thread may have unmapped the page. Most pages are unused and contain
                // zeros.
                if memory.read_exact_at(&mut page, address).is_ok() && page != [0; PAGE] {
                    addresses.extend(
                        self.pieces(&page)
                            .map(|(at, offset)| address + at as u64 - offset as u64),
                    );
                }
                // The buffer is in memory, too, and its content would be found again.
                page.fill(0);
            }
        }
        addresses
    }

    /// Returns the positions of the token's pieces in `bytes`, each with its offset in the token.
    fn pieces(self, bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
        let is_piece = move |piece: &[u8], offset| {
            piece
                .iter()
                .zip(offset..)
                .all(|(&byte, at)| byte == self.letter(at))
        };
        let pieces = bytes.windows(PIECE).enumerate();
        pieces.flat_map(move |(at, piece)| {
            (0..LENGTH)
                .step_by(PIECE)
                .filter(move |&offset| is_piece(piece, offset))
                .map(move |offset| (at, offset))
        })
    }

    fn letter(self, at: usize) -> u8 {
        let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ u64::from(self.0).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        b'a' + mixed.wrapping_mul(0x94d0_49bb_1331_11eb).to_be_bytes()[2] % 26
    }
}

/// Returns the addresses of a line of `/proc/self/maps`, if they are writable.
fn writable(line: &str) -> Option<(u64, u64)> {
    let (range, access) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |digits| u64::from_str_radix(digits, 16).ok();
    if access.starts_with("rw") {
        Some((address(start)?, address(end)?))
    } else {
        None
    }
}
