//! Inputs made of inputs: bits turned, bytes, numbers and words exchanged, pieces taken out, doubled, moved, and put in from elsewhere.

use solyx_histories::history::Luck;

/// No input is longer.
pub const INPUT_MAX: usize = 64 << 10;
/// Changes made to one input at most.
const CHANGES_MAX: i64 = 6;
/// Numbers at which something may change over.
const NUMBERS: [i64; 24] = [
    0,
    1,
    -1,
    2,
    63,
    64,
    127,
    128,
    255,
    1_000,
    65_535,
    65_536,
    1 << 20,
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 32,
    1 << 53,
    7_258_118_400_000_000,
    7_258_118_400_000_001,
    i64::MAX / 1_000_000,
    i64::MAX - 1,
    i64::MAX,
    i64::MIN,
    -1_000_000,
];
/// Numbers as people write them, and things that are none.
const TEXTS: [&str; 20] = [
    "",
    "-0",
    "00",
    "1e9",
    "1e308",
    "-1e999",
    "0.000000001",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "340282366920938463463374607431768211456",
    "NaN",
    "inf",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "1970-01-01T00:00:00Z",
    "9999-12-31T23:59:60.999999999+14:00",
];

/// An input made of `input`, of another one, and of a target's words.
pub fn mutate(luck: &mut Luck, input: &[u8], other: &[u8], words: &[&str]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 + luck.below(CHANGES_MAX).min(luck.below(CHANGES_MAX)) {
        change(luck, &mut bytes, other, words);
        bytes.truncate(INPUT_MAX);
    }
    bytes
}

fn change(luck: &mut Luck, bytes: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    match luck.below(16) {
        0 | 1 => turn_a_bit(luck, bytes),
        2 => replace(luck, bytes, |luck| vec![luck.below(256) as u8]),
        3 => replace(luck, bytes, |luck| vec![*luck.of(&[0, 1, 2, 0x7f, 0x80, 0xff, b'"', b',', b'\n', b'0'])]),
        4 => drop(take_out(luck, bytes)),
        5 => {
            let piece = piece(luck, bytes);
            insert(luck, bytes, &piece);
        }
        6 => {
            let piece = take_out(luck, bytes);
            insert(luck, bytes, &piece);
        }
        7 => {
            let piece = piece(luck, other);
            insert(luck, bytes, &piece);
        }
        8 => splice(luck, bytes, other),
        9 => bytes.truncate(at(luck, bytes)),
        10 | 11 => long(luck, bytes),
        12 | 13 => number(luck, bytes),
        14 => lines(luck, bytes),
        _ => word(luck, bytes, words),
    }
}

/// Some place, the end among them.
fn at(luck: &mut Luck, bytes: &[u8]) -> usize {
    luck.below(bytes.len() as i64 + 1) as usize
}

/// A range, mostly a short one.
fn range(luck: &mut Luck, bytes: &[u8]) -> std::ops::Range<usize> {
    let from = at(luck, bytes);
    let longest = if luck.chance(80) { 16 } else { bytes.len() as i64 + 1 };
    from..(from + luck.below(longest) as usize + 1).min(bytes.len())
}

fn piece(luck: &mut Luck, bytes: &[u8]) -> Vec<u8> {
    bytes[range(luck, bytes)].to_vec()
}

fn take_out(luck: &mut Luck, bytes: &mut Vec<u8>) -> Vec<u8> {
    let range = range(luck, bytes);
    bytes.drain(range).collect()
}

fn insert(luck: &mut Luck, bytes: &mut Vec<u8>, piece: &[u8]) {
    let at = at(luck, bytes);
    bytes.splice(at..at, piece.iter().copied());
}

fn replace(luck: &mut Luck, bytes: &mut Vec<u8>, by: impl Fn(&mut Luck) -> Vec<u8>) {
    let at = at(luck, bytes);
    let by = by(luck);
    bytes.splice(at..(at + 1).min(bytes.len()), by);
}

fn turn_a_bit(luck: &mut Luck, bytes: &mut [u8]) {
    if !bytes.is_empty() {
        let at = luck.below(bytes.len() as i64) as usize;
        bytes[at] ^= 1 << luck.below(8);
    }
}

/// The beginning of one and the end of another.
fn splice(luck: &mut Luck, bytes: &mut Vec<u8>, other: &[u8]) {
    bytes.truncate(at(luck, bytes));
    bytes.extend_from_slice(&other[at(luck, other)..]);
}

/// An Avro `long`, or a length, is another one.
fn long(luck: &mut Luck, bytes: &mut Vec<u8>) {
    let from = at(luck, bytes);
    let len = bytes[from..].iter().take(10).position(|byte| byte & 0x80 == 0).map_or(0, |end| end + 1);
    let mut by = Vec::new();
    solyx_schemas::wire::write_long(*luck.of(&NUMBERS), &mut by);
    bytes.splice(from..from + len, by);
}

/// A number in a text is another one, or none.
fn number(luck: &mut Luck, bytes: &mut Vec<u8>) {
    let from = at(luck, bytes);
    let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let Some(from) = bytes[from..].iter().position(is_part).map(|found| from + found) else { return };
    let end = bytes[from..].iter().position(|byte| !is_part(byte)).map_or(bytes.len(), |len| from + len);
    let by = if luck.chance(50) { luck.of(&NUMBERS).to_string() } else { (*luck.of(&TEXTS)).to_owned() };
    bytes.splice(from..end, by.into_bytes());
}

/// A line is doubled, gone, or in another's place.
fn lines(luck: &mut Luck, bytes: &mut Vec<u8>) {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    if lines.is_empty() {
        return;
    }
    let place = luck.below(lines.len() as i64) as usize;
    let to = luck.below(lines.len() as i64) as usize;
    match luck.below(3) {
        0 => lines.insert(to, lines[place]),
        1 => drop(lines.remove(place)),
        _ => lines.swap(place, to),
    }
    *bytes = lines.concat();
}

/// A word of the target, put in or in another's place.
fn word(luck: &mut Luck, bytes: &mut Vec<u8>, words: &[&str]) {
    if words.is_empty() {
        return number(luck, bytes);
    }
    let word = *luck.of(words);
    let from = at(luck, bytes);
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let len = if luck.chance(50) { bytes[from..].iter().take_while(|byte| is_part(byte)).count() } else { 0 };
    bytes.splice(from..from + len, word.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_it_is_made_of_an_input_has_its_bound_and_the_same_luck_gives_the_same() {
        let big = vec![b'7'; INPUT_MAX];
        for seed in 0..3_000 {
            let make = || mutate(&mut Luck(seed), if seed % 3 == 0 { b"" } else { &big }, b"a,1\nb,2\n", &["word"]);
            assert!(make().len() <= INPUT_MAX);
            assert_eq!(make(), make());
        }
    }
}
