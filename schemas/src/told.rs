//! Any plain value as it is told to a person who asks in which field two of them differ: numbers, texts and absences, in lists
//! and under names. Unlike JSON it has room for every integer and for keys of several parts.

use std::fmt::{self, Display};

use serde::ser::{self, Serialize};

/// Bytes from which on a list of them is told as one hexadecimal number.
const HEX_MIN: usize = 8;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// What is absent.
    Nothing,
    /// A byte.
    Byte(u8),
    /// Any other number, a text, or the name of a variant.
    Text(String),
    /// Values in their order.
    List(Vec<Told>),
    /// Values by name, or by key.
    Fields(Vec<(String, Told)>),
}

/// The first field in which two values differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDifference {
    /// Its path; empty for a value that has no fields.
    pub field: String,
    /// The value of the one.
    pub one: String,
    /// The value of the other.
    pub other: String,
}

impl Told {
    /// A value told. What cannot be told, which no plain value is, says why.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Self {
        value.serialize(Teller).unwrap_or_else(|error| Self::Text(error.to_string()))
    }

    /// Where this value and another part; nothing where they are one.
    pub fn first_difference(&self, other: &Self) -> Option<FieldDifference> {
        self.differs_at(String::new(), other)
    }

    fn differs_at(&self, field: String, other: &Self) -> Option<FieldDifference> {
        match (self, other) {
            _ if self == other => None,
            (Self::Fields(one), Self::Fields(two))
                if one.iter().map(|(name, _)| name).eq(two.iter().map(|(name, _)| name)) =>
            {
                let below = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
                one.iter().zip(two).find_map(|((name, one), (_, two))| one.differs_at(below(name), two))
            }
            (Self::List(one), Self::List(two)) if one.len() == two.len() && !self.is_hex() => {
                let mut pairs = one.iter().zip(two).enumerate();
                pairs.find_map(|(place, (one, two))| one.differs_at(format!("{field}[{place}]"), two))
            }
            _ => Some(FieldDifference { field, one: self.to_string(), other: other.to_string() }),
        }
    }

    fn is_hex(&self) -> bool {
        matches!(self, Self::List(list) if list.len() >= HEX_MIN && list.iter().all(|item| matches!(item, Self::Byte(_))))
    }
}

impl Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("none"),
            Self::Byte(byte) => byte.fmt(f),
            Self::Text(text) if text.is_empty() => f.write_str("\"\""),
            Self::Text(text) => f.write_str(text),
            Self::List(list) if self.is_hex() => list.iter().try_for_each(|item| match item {
                Self::Byte(byte) => write!(f, "{byte:02x}"),
                other => other.fmt(f),
            }),
            Self::List(list) => {
                f.write_str("[")?;
                for (place, item) in list.iter().enumerate() {
                    write!(f, "{}{item}", if place == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Fields(fields) => {
                f.write_str("{")?;
                for (place, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{name}: {value}", if place == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// What a value of foreign make says that cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Untold(String);

impl ser::Error for Untold {
    fn custom<T: Display>(detail: T) -> Self {
        Self(detail.to_string())
    }
}

struct Teller;

/// A value of several parts that is being told.
#[derive(Default)]
struct Parts {
    /// The name of the variant that they are of.
    variant: Option<&'static str>,
    list: Vec<Told>,
    fields: Vec<(String, Told)>,
    key: String,
}

impl Parts {
    fn of_variant(variant: &'static str) -> Self {
        Self { variant: Some(variant), ..Self::default() }
    }

    fn listed(self) -> Told {
        named(self.variant, Told::List(self.list))
    }

    fn named(self) -> Told {
        named(self.variant, Told::Fields(self.fields))
    }

    fn push(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Untold> {
        self.list.push(value.serialize(Teller)?);
        Ok(())
    }

    fn put(&mut self, name: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Untold> {
        self.fields.push((name.to_owned(), value.serialize(Teller)?));
        Ok(())
    }
}

fn named(variant: Option<&'static str>, value: Told) -> Told {
    match variant {
        Some(name) => Told::Fields(vec![(name.to_owned(), value)]),
        None => value,
    }
}

/// Scalars that are told as they are written.
macro_rules! scalars {
    ($($name:ident: $type:ty),*) => {
        $( fn $name(self, value: $type) -> Result<Told, Untold> {
            Ok(Told::Text(value.to_string()))
        } )*
    };
}

impl ser::Serializer for Teller {
    type Ok = Told;
    type Error = Untold;
    type SerializeSeq = Parts;
    type SerializeTuple = Parts;
    type SerializeTupleStruct = Parts;
    type SerializeTupleVariant = Parts;
    type SerializeMap = Parts;
    type SerializeStruct = Parts;
    type SerializeStructVariant = Parts;

    scalars! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128, serialize_f32: f32, serialize_f64: f64,
        serialize_char: char, serialize_str: &str
    }

    fn serialize_u8(self, value: u8) -> Result<Told, Untold> {
        Ok(Told::Byte(value))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Told, Untold> {
        Ok(Told::List(value.iter().copied().map(Told::Byte).collect()))
    }

    fn serialize_none(self) -> Result<Told, Untold> {
        Ok(Told::Nothing)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Told, Untold> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Told, Untold> {
        Ok(Told::Nothing)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Told, Untold> {
        Ok(Told::Nothing)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Told, Untold> {
        Ok(Told::Text(variant.to_owned()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Told, Untold> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Told, Untold> {
        Ok(named(Some(variant), value.serialize(self)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts, Untold> {
        Ok(Parts::default())
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts, Untold> {
        Ok(Parts::default())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts, Untold> {
        Ok(Parts::default())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts, Untold> {
        Ok(Parts::of_variant(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts, Untold> {
        Ok(Parts::default())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts, Untold> {
        Ok(Parts::default())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts, Untold> {
        Ok(Parts::of_variant(variant))
    }
}

/// Parts without names.
macro_rules! lists {
    ($($of:ident: $part:ident),*) => {
        $( impl ser::$of for Parts {
            type Ok = Told;
            type Error = Untold;

            fn $part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Untold> {
                self.push(value)
            }

            fn end(self) -> Result<Told, Untold> {
                Ok(self.listed())
            }
        } )*
    };
}

/// Parts with names.
macro_rules! structs {
    ($($of:ident),*) => {
        $( impl ser::$of for Parts {
            type Ok = Told;
            type Error = Untold;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Untold> {
                self.put(name, value)
            }

            fn end(self) -> Result<Told, Untold> {
                Ok(self.named())
            }
        } )*
    };
}

lists!(
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
);
structs!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Parts {
    type Ok = Told;
    type Error = Untold;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Untold> {
        self.key = key.serialize(Teller)?.to_string();
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Untold> {
        let key = std::mem::take(&mut self.key);
        self.put(&key, value)
    }

    fn end(self) -> Result<Told, Untold> {
        Ok(self.named())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::events::decisions::JobHeld;
    use crate::field::Field;

    #[test]
    fn a_field_that_differs_is_named_by_its_path_whatever_the_value_is_made_of() {
        let sums = |sum: i128| BTreeMap::from([(("lease", 9_u8), (i128::MAX, None)), (("lease", 10), (1, Some(sum)))]);
        let difference = Told::of(&sums(i128::MIN)).first_difference(&Told::of(&sums(7))).unwrap();
        assert_eq!(difference.field, "[lease, 10][1]");
        assert_eq!((difference.one, difference.other), (i128::MIN.to_string(), "7".to_owned()));
        let held = JobHeld::example("");
        let mut other = held.clone();
        other.limit.asked = Some(12);
        let difference = Told::of(&held).first_difference(&Told::of(&other)).unwrap();
        assert_eq!((difference.field.as_str(), difference.other.as_str()), ("limit.asked", "12"));
        assert_eq!(Told::of(&held).first_difference(&Told::of(&held)), None);
    }

    #[test]
    fn a_hash_is_told_as_one_number_and_an_absence_is_no_text() {
        assert_eq!(Told::of(&[7_u8; 16]).to_string(), "07".repeat(16));
        assert_eq!(Told::of(&[1_u8, 2]).to_string(), "[1, 2]");
        let difference = Told::of(&None::<String>).first_difference(&Told::of("none")).unwrap();
        assert_eq!((difference.field.as_str(), difference.one.as_str()), ("", "none"));
    }
}
