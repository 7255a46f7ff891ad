//! The macros that define the contract's types: quantities, ids, symbols, records and events.
//!
//! One definition gives the struct, its serde form, its Avro schema, its validity and an example, so that they cannot
//! drift apart.

/// Integers with a unit. `min` and `max` are the values the contract allows.
macro_rules! quantities {
    ($( $(#[doc = $doc:literal])* $name:ident [$unit:literal] $min:literal ..= $max:expr; )*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self(0);
            /// The unit, as documents print it.
            pub const UNIT: &'static str = $unit;

            /// The sum, or an error that names `what` was added up.
            pub fn plus(self, other: Self, what: &'static str) -> Result<Self, $crate::units::Overflow> {
                self.0.checked_add(other.0).map(Self).ok_or($crate::units::Overflow { what, unit: $unit })
            }

            /// The difference, or an error that names `what` was taken away.
            pub fn minus(self, other: Self, what: &'static str) -> Result<Self, $crate::units::Overflow> {
                self.0.checked_sub(other.0).map(Self).ok_or($crate::units::Overflow { what, unit: $unit })
            }

            /// This many of it, or an error that names `what` was multiplied.
            pub fn times(self, count: i64, what: &'static str) -> Result<Self, $crate::units::Overflow> {
                self.0.checked_mul(count).map(Self).ok_or($crate::units::Overflow { what, unit: $unit })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{} {}", self.0, $unit)
            }
        }

        impl $crate::field::Field for $name {
            fn schema(_: &mut $crate::field::Seen) -> serde_json::Value {
                $crate::units::quantity_schema($unit)
            }

            fn check(&self) -> Result<(), $crate::field::FieldError> {
                let range = $min..=$max;
                if range.contains(&self.0) {
                    return Ok(());
                }
                Err($crate::field::FieldError::here(self.0, format!("{} to {} {}", range.start(), range.end(), $unit)))
            }

            fn example(name: &str) -> Self {
                Self($crate::units::example_quantity($unit, name))
            }

            fn write(&self, out: &mut Vec<u8>) {
                $crate::wire::write_long(self.0, out);
            }

            fn read(input: &mut &[u8]) -> Result<Self, $crate::field::FieldError> {
                $crate::wire::read_long(input).map(Self)
            }
        }
    )*};
}

/// Names of things: 1 to 128 characters of a small alphabet, cheap to clone, ordered by their bytes.
macro_rules! ids {
    ($( $(#[doc = $doc:literal])* $name:ident $example:literal; )*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(smol_str::SmolStr);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(smol_str::SmolStr::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(smol_str::SmolStr::from(text))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl $crate::field::Field for $name {
            fn schema(_: &mut $crate::field::Seen) -> serde_json::Value {
                serde_json::json!("string")
            }

            fn check(&self) -> Result<(), $crate::field::FieldError> {
                $crate::ids::check_id(&self.0)
            }

            fn example(name: &str) -> Self {
                Self::from($crate::ids::example_id(name, $example))
            }

            fn write(&self, out: &mut Vec<u8>) {
                $crate::wire::write_str(&self.0, out);
            }

            fn read(input: &mut &[u8]) -> Result<Self, $crate::field::FieldError> {
                $crate::wire::read_str(input).map(Self::from)
            }
        }
    )*};
}

/// Enumerations. `UNKNOWN` is always there, is the default for analysts, and is never valid in an event.
macro_rules! symbols {
    ($ns:literal; $( $(#[doc = $doc:literal])* $name:ident { $( $(#[doc = $vdoc:literal])* $v:ident = $sym:literal ),* $(,)? } )*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            /// A symbol that the reader does not know; the engine rejects it.
            #[default]
            #[serde(rename = "UNKNOWN")]
            Unknown,
            $( $(#[doc = $vdoc])* #[serde(rename = $sym)] $v ),*
        }

        impl $name {
            /// Every value but `UNKNOWN`, in the schema's order.
            pub const ALL: &'static [Self] = &[$(Self::$v),*];

            /// The symbol as it is written.
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::Unknown => "UNKNOWN",
                    $( Self::$v => $sym ),*
                }
            }

            /// The value of a symbol.
            pub fn parse(symbol: &str) -> Option<Self> {
                match symbol {
                    $( $sym => Some(Self::$v), )*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl $crate::field::Field for $name {
            fn schema(seen: &mut $crate::field::Seen) -> serde_json::Value {
                let full = concat!($ns, ".", stringify!($name));
                if !seen.insert(full.to_owned()) {
                    return serde_json::json!(full);
                }
                let symbols = concat!($( $sym, ":", $($vdoc,)* ";" ),*);
                let doc = format!("{} {}", concat!($($doc),*).trim(), symbols.trim_end_matches(';').replace(';', "; "));
                serde_json::json!({
                    "type": "enum", "name": stringify!($name), "namespace": $ns, "doc": doc,
                    "symbols": ["UNKNOWN", $($sym),*], "default": "UNKNOWN",
                })
            }

            fn check(&self) -> Result<(), $crate::field::FieldError> {
                if *self == Self::Unknown {
                    let expected = [$($sym),*].join(", ");
                    return Err($crate::field::FieldError::here("UNKNOWN", format!("one of {expected}")));
                }
                Ok(())
            }

            fn example(_: &str) -> Self {
                Self::ALL[0]
            }

            fn write(&self, out: &mut Vec<u8>) {
                $crate::wire::write_long(*self as i64, out);
            }

            fn read(input: &mut &[u8]) -> Result<Self, $crate::field::FieldError> {
                let place = $crate::wire::read_long(input)?;
                if place == 0 {
                    return Ok(Self::Unknown);
                }
                let value = place.checked_sub(1).and_then(|i| Self::ALL.get(usize::try_from(i).ok()?));
                value.copied().ok_or_else(|| {
                    let expected = format!("one of the {} symbols of {}", Self::ALL.len() + 1, stringify!($name));
                    $crate::field::FieldError::here(format!("symbol number {place}"), expected)
                })
            }
        }
    )*};
}

/// Records that stand inside events.
macro_rules! records {
    ($ns:literal; $( $(#[doc = $doc:literal])* $name:ident { $( $(#[doc = $fdoc:literal])* $f:ident : $t:ty ),* $(,)? } )*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $( $(#[doc = $fdoc])* pub $f: $t ),*
        }

        impl $crate::field::Field for $name {
            fn schema(seen: &mut $crate::field::Seen) -> serde_json::Value {
                $crate::field::record_schema($ns, stringify!($name), concat!($($doc),*), seen, |seen| vec![
                    $( $crate::field::field_schema::<$t>(stringify!($f), concat!($($fdoc),*), seen) ),*
                ])
            }

            fn check(&self) -> Result<(), $crate::field::FieldError> {
                $( $crate::field::Field::check(&self.$f).map_err(|e| e.within(stringify!($f)))?; )*
                Ok(())
            }

            fn example(_: &str) -> Self {
                Self { $( $f: <$t as $crate::field::Field>::example(stringify!($f)) ),* }
            }

            fn write(&self, out: &mut Vec<u8>) {
                $( $crate::field::Field::write(&self.$f, out); )*
            }

            fn read(input: &mut &[u8]) -> Result<Self, $crate::field::FieldError> {
                Ok(Self { $( $f: $crate::field::read_field::<$t>(input, stringify!($f))? ),* })
            }
        }
    )*};
}

/// Input events: the three leading fields come by themselves. `key` says how the record's key is made.
macro_rules! inputs {
    ($ns:literal, $topic:ident; $( $(#[doc = $doc:literal])* $name:ident key |$e:ident| $key:expr; { $( $(#[doc = $fdoc:literal])* $f:ident : $t:ty ),* $(,)? } )*) => {$(
        records! { $ns;
            $(#[doc = $doc])*
            $name {
                /// Id of this event, unique for ever within its source; a repeated delivery carries the same.
                event_id: $crate::ids::EventId,
                /// Who says it: the producer's name.
                source: $crate::ids::SourceId,
                /// When it happened, by the producer's clock; it orders nothing. For prices and carbon: when it was published.
                occurred_us: $crate::units::TimeUs,
                $( $(#[doc = $fdoc])* $f: $t ),*
            }
        }

        impl $crate::events::EventBody for $name {
            const NAME: &'static str = concat!($ns, ".", stringify!($name));
            const TOPIC: $crate::topics::Topic = $crate::topics::Topic::$topic;
            const KEY_EXPRESSION: &'static str = stringify!($key);

            fn key(&self) -> std::borrow::Cow<'_, str> {
                let $e = self;
                $key
            }

            fn identity(&self) -> $crate::events::Identity<'_> {
                $crate::events::Identity {
                    id: self.event_id.as_str().into(),
                    source: self.source.as_str(),
                    occurred_us: self.occurred_us,
                }
            }
        }
    )*};
}

/// Output events: the engine's five leading fields come by themselves.
macro_rules! outputs {
    ($ns:literal, $topic:ident; $( $(#[doc = $doc:literal])* $name:ident key |$e:ident| $key:expr; { $( $(#[doc = $fdoc:literal])* $f:ident : $t:ty ),* $(,)? } )*) => {$(
        records! { $ns;
            $(#[doc = $doc])*
            $name {
                /// The cell whose engine says it.
                cell: $crate::ids::CellId,
                /// Epoch in which it was decided; the first is 0.
                epoch: i64,
                /// Fencing term of the writer.
                term: i64,
                /// Place among the outputs of the epoch, from 0.
                index: i64,
                /// The epoch's time.
                now_us: $crate::units::TimeUs,
                $( $(#[doc = $fdoc])* $f: $t ),*
            }
        }

        impl $crate::events::EventBody for $name {
            const NAME: &'static str = concat!($ns, ".", stringify!($name));
            const TOPIC: $crate::topics::Topic = $crate::topics::Topic::$topic;
            const KEY_EXPRESSION: &'static str = stringify!($key);

            fn key(&self) -> std::borrow::Cow<'_, str> {
                let $e = self;
                $key
            }

            fn identity(&self) -> $crate::events::Identity<'_> {
                $crate::events::Identity {
                    id: format!("{}/{}/{}/{}", self.cell, self.epoch, self.term, self.index).into(),
                    source: self.cell.as_str(),
                    occurred_us: self.now_us,
                }
            }
        }

        impl $crate::events::OutputBody for $name {
            fn stamp(&mut self, stamp: &$crate::events::Stamp) {
                self.cell = stamp.cell.clone();
                self.epoch = stamp.epoch;
                self.term = stamp.term;
                self.index = stamp.index;
                self.now_us = stamp.now_us;
            }

            fn stamped(&self) -> $crate::events::Stamp {
                $crate::events::Stamp {
                    cell: self.cell.clone(),
                    epoch: self.epoch,
                    term: self.term,
                    index: self.index,
                    now_us: self.now_us,
                }
            }
        }
    )*};
}
