//! Metadata values: parsed once for structure, then read in place.

use std::fmt;
use std::ops::Range;

use super::cursor::{Cursor, Field};
use crate::formats::FormatError;

/// How deep arrays of arrays may nest. No known file nests at all.
const DEEPEST: usize = 4;

/// The type ids of metadata values (GGUF specification, `gguf_metadata_value_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// 8-bit unsigned.
    U8,
    /// 8-bit signed.
    I8,
    /// 16-bit unsigned.
    U16,
    /// 16-bit signed.
    I16,
    /// 32-bit unsigned.
    U32,
    /// 32-bit signed.
    I32,
    /// 32-bit float.
    F32,
    /// One byte, 0 or 1.
    Bool,
    /// u64 length and bytes.
    String,
    /// Element type, u64 count and elements.
    Array,
    /// 64-bit unsigned.
    U64,
    /// 64-bit signed.
    I64,
    /// 64-bit float.
    F64,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    fn read(cursor: &mut Cursor<'_>, field: Field<'_>) -> Result<Self, FormatError> {
        let id = cursor.u32(field)?;
        let known = Self::ALL.get(usize::try_from(id).unwrap_or(usize::MAX));
        known.copied().ok_or_else(|| cursor.wrong(field, "a value type from 0 to 12", id))
    }

    /// The fewest bytes that one value takes in the file.
    fn smallest(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        })
    }
}

/// Where a value lies; strings and arrays stay in the file until they are asked for.
#[derive(Clone, Debug)]
pub(super) enum Stored {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(Range<usize>),
    Array { element: ValueType, count: u64, at: usize },
}

/// A metadata value as it is read: numbers widened without loss, text and arrays borrowed.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// u8, u16, u32 or u64.
    Unsigned(u64),
    /// i8, i16, i32 or i64.
    Signed(i64),
    /// f32 or f64.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// The bytes of a string, checked for UTF-8 only when text is asked for.
    Text(&'a [u8]),
    /// An array, read element by element.
    Array(Array<'a>),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unsigned(v) => write!(f, "integer {v}"),
            Value::Signed(v) => write!(f, "integer {v}"),
            Value::Float(v) => write!(f, "float {v}"),
            Value::Bool(v) => write!(f, "bool {v}"),
            Value::Text(bytes) => {
                let text: String = String::from_utf8_lossy(bytes).chars().take(40).collect();
                write!(f, "string {text:?}")
            }
            Value::Array(array) => write!(f, "array of {} {}", array.len(), array.element()),
        }
    }
}

/// An array in the file, whose elements are read one after another.
#[derive(Clone, Debug)]
pub struct Array<'a> {
    element: ValueType,
    count: u64,
    cursor: Cursor<'a>,
}

impl<'a> Array<'a> {
    pub(super) fn new(element: ValueType, count: u64, cursor: Cursor<'a>) -> Self {
        Self { element, count, cursor }
    }

    /// The number of elements; the file was seen to hold them all.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    /// True when there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The type of every element.
    #[must_use]
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// The elements that are left, in order. Arrays of arrays end with an error: nothing uses them.
    pub(super) fn read(mut self, key: &str, mut each: impl FnMut(Value<'a>)) -> Result<(), FormatError> {
        for _ in 0..self.count {
            let stored = scalar(&mut self.cursor, self.element, Field::Value(key))?;
            each(stored);
        }
        Ok(())
    }
}

/// One value that is not an array.
fn scalar<'a>(cursor: &mut Cursor<'a>, kind: ValueType, field: Field<'_>) -> Result<Value<'a>, FormatError> {
    Ok(match kind {
        ValueType::U8 => Value::Unsigned(u64::from(u8::from_le_bytes(cursor.array(field)?))),
        ValueType::I8 => Value::Signed(i64::from(i8::from_le_bytes(cursor.array(field)?))),
        ValueType::U16 => Value::Unsigned(u64::from(u16::from_le_bytes(cursor.array(field)?))),
        ValueType::I16 => Value::Signed(i64::from(i16::from_le_bytes(cursor.array(field)?))),
        ValueType::U32 => Value::Unsigned(u64::from(u32::from_le_bytes(cursor.array(field)?))),
        ValueType::I32 => Value::Signed(i64::from(i32::from_le_bytes(cursor.array(field)?))),
        ValueType::F32 => Value::Float(f64::from(f32::from_le_bytes(cursor.array(field)?))),
        ValueType::U64 => Value::Unsigned(u64::from_le_bytes(cursor.array(field)?)),
        ValueType::I64 => Value::Signed(i64::from_le_bytes(cursor.array(field)?)),
        ValueType::F64 => Value::Float(f64::from_le_bytes(cursor.array(field)?)),
        ValueType::Bool => match cursor.array::<1>(field)? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            [other] => return Err(cursor.wrong(field, "a bool, 0 or 1", other)),
        },
        ValueType::String => Value::Text(cursor.raw_string(field)?),
        ValueType::Array => {
            return Err(cursor.wrong(field, "elements that are not arrays", "an array of arrays"));
        }
    })
}

/// Reads the value of `key` (its type id first) and remembers where it is.
pub(super) fn read_value(cursor: &mut Cursor<'_>, key: &str) -> Result<Stored, FormatError> {
    let field = Field::Value(key);
    let kind = ValueType::read(cursor, field)?;
    if kind == ValueType::Array {
        let (element, count) = array_header(cursor, field)?;
        let at = cursor.position();
        skip_elements(cursor, element, count, field, 1)?;
        return Ok(Stored::Array { element, count, at });
    }
    Ok(match scalar(cursor, kind, field)? {
        Value::Unsigned(v) => Stored::Unsigned(v),
        Value::Signed(v) => Stored::Signed(v),
        Value::Float(v) => Stored::Float(v),
        Value::Bool(v) => Stored::Bool(v),
        Value::Text(text) => Stored::Text(cursor.position() - text.len()..cursor.position()),
        Value::Array(_) => return Err(cursor.wrong(field, "a scalar", "an array")),
    })
}

fn array_header(cursor: &mut Cursor<'_>, field: Field<'_>) -> Result<(ValueType, u64), FormatError> {
    let element = ValueType::read(cursor, field)?;
    let count = cursor.count(element.smallest(), field)?;
    Ok((element, count))
}

/// Walks over an array's elements, checking that the file holds them.
fn skip_elements(
    cursor: &mut Cursor<'_>,
    element: ValueType,
    count: u64,
    field: Field<'_>,
    depth: usize,
) -> Result<(), FormatError> {
    match element {
        ValueType::Array if depth >= DEEPEST => {
            Err(cursor.wrong(field, format!("arrays at most {DEEPEST} deep"), "a deeper one"))
        }
        ValueType::Array => {
            for _ in 0..count {
                let (inner, count) = array_header(cursor, field)?;
                skip_elements(cursor, inner, count, field, depth + 1)?;
            }
            Ok(())
        }
        ValueType::String => {
            for _ in 0..count {
                cursor.raw_string(field)?;
            }
            Ok(())
        }
        // The count was checked against the bytes left, so the product cannot overflow.
        fixed => cursor.take(count * fixed.smallest(), field).map(|_| ()),
    }
}
