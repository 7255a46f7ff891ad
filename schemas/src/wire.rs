//! Avro's binary encoding of the types that the contract uses (Avro 1.12, "Binary Encoding"), one way to write each value.
//!
//! Arrays are written as a single block, so that the same event gives the same bytes; every block structure that the
//! specification allows is read.

use crate::field::FieldError;

/// Writes a `long`: zigzag, seven bits to a byte, least first.
pub fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads a `long`.
pub fn read_long(input: &mut &[u8]) -> Result<i64, FieldError> {
    let mut value = 0u64;
    for (i, &byte) in input.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            break;
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            *input = &input[i + 1..];
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(if input.len() < 10 { ended("an integer") } else { FieldError::here("more than 64 bits", "an integer") })
}

/// Writes a `string`: its length, then its bytes.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    write_long(text.len() as i64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Reads a `string`.
pub fn read_str<'a>(input: &mut &'a [u8]) -> Result<&'a str, FieldError> {
    let len = read_long(input)?;
    let taken = usize::try_from(len).ok().and_then(|len| input.split_at_checked(len));
    let Some((text, rest)) = taken else {
        return Err(FieldError::here(format!("a length of {len} with {} bytes left", input.len()), "text"));
    };
    *input = rest;
    std::str::from_utf8(text).map_err(|e| FieldError::here(format!("bytes that are not UTF-8: {e}"), "text"))
}

/// Reads a `boolean`.
pub fn read_bool(input: &mut &[u8]) -> Result<bool, FieldError> {
    let Some((byte, rest)) = input.split_first() else {
        return Err(ended("true or false"));
    };
    *input = rest;
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(FieldError::here(format!("byte {other}"), "0 or 1 for false or true")),
    }
}

/// Reads the branch of a union of null and something: true when there is something.
pub fn read_present(input: &mut &[u8]) -> Result<bool, FieldError> {
    match read_long(input)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(FieldError::here(format!("branch {other}"), "0 for null or 1 for a value")),
    }
}

/// Reads an array's blocks and calls `item` for each element.
pub fn read_array(
    input: &mut &[u8],
    mut item: impl FnMut(&mut &[u8], usize) -> Result<(), FieldError>,
) -> Result<(), FieldError> {
    let mut place = 0;
    loop {
        let count = read_long(input)?;
        if count == 0 {
            return Ok(());
        }
        if count < 0 {
            // A negative count is followed by the block's size in bytes, which serves those who skip.
            read_long(input)?;
        }
        // No element of the contract is shorter than a byte, so a larger count cannot be true.
        if count.unsigned_abs() > input.len() as u64 {
            return Err(FieldError::here(format!("{count} elements with {} bytes left", input.len()), "an array"));
        }
        for _ in 0..count.unsigned_abs() {
            item(input, place)?;
            place += 1;
        }
    }
}

fn ended(expected: &str) -> FieldError {
    FieldError::here("the end of the bytes", expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_back_and_are_written_as_avro_writes_them() {
        for (value, bytes) in [(0, vec![0]), (-1, vec![1]), (1, vec![2]), (-64, vec![0x7f]), (64, vec![0x80, 1])] {
            let mut out = Vec::new();
            write_long(value, &mut out);
            assert_eq!(out, bytes, "{value}");
        }
        for value in [i64::MIN, i64::MAX, 1_693_785_600_000_000, -1] {
            let mut out = Vec::new();
            write_long(value, &mut out);
            assert_eq!(read_long(&mut out.as_slice()).unwrap(), value);
        }
    }

    #[test]
    fn an_integer_that_does_not_end_or_is_too_long_is_an_error() {
        assert!(read_long(&mut [0x80u8, 0x80].as_slice()).is_err());
        assert!(read_long(&mut [0xffu8; 11].as_slice()).is_err());
        assert!(read_long(&mut [].as_slice()).is_err());
    }

    #[test]
    fn a_symbol_that_an_enum_has_not_is_an_error_whatever_its_number() {
        use crate::events::jobs::FailureCategory;
        use crate::field::Field;
        for number in [i64::MIN, -1, 1_000, i64::MAX] {
            let mut bytes = Vec::new();
            write_long(number, &mut bytes);
            let error = FailureCategory::read(&mut bytes.as_slice()).unwrap_err();
            assert!(error.to_string().contains(&format!("symbol number {number}")), "{error}");
        }
    }

    #[test]
    fn arrays_in_several_blocks_and_with_sizes_are_read() {
        // Two blocks: one element, then two with the size in bytes before them.
        let bytes = [2u8, 10, 3, 4, 12, 14, 0];
        let mut input = bytes.as_slice();
        let mut found = Vec::new();
        read_array(&mut input, |input, _| {
            found.push(read_long(input)?);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [5, 6, 7]);
        assert!(input.is_empty());
    }

    #[test]
    fn a_count_larger_than_the_bytes_left_is_an_error() {
        let mut bytes = Vec::new();
        write_long(i64::MAX, &mut bytes);
        assert!(read_array(&mut bytes.as_slice(), |input, _| read_long(input).map(drop)).is_err());
    }
}
