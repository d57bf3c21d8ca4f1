//! What the format's types can be read as.

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::schema::types::Type;

use crate::parquet::ColumnType;

/// Whether a top-level column can be read as `kind`.
pub(super) fn fits(column: &Type, kind: ColumnType) -> bool {
    let info = column.get_basic_info();
    if !column.is_primitive() || info.repetition() == Repetition::REPEATED {
        return false;
    }
    let unsigned = |bits: i8| match info.logical_type_ref() {
        Some(LogicalType::Integer(of)) => of.bit_width == bits && !of.is_signed,
        _ => info.converted_type() == if bits == 32 { ConvertedType::UINT_32 } else { ConvertedType::UINT_64 },
    };
    match (kind, column.get_physical_type()) {
        (ColumnType::Text, Physical::BYTE_ARRAY) => match info.logical_type_ref() {
            Some(logical) => matches!(logical, LogicalType::String | LogicalType::Enum | LogicalType::Json),
            None => matches!(info.converted_type(), ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON),
        },
        (ColumnType::U32, Physical::INT32) => unsigned(32),
        (ColumnType::U64, Physical::INT64) => unsigned(64),
        (ColumnType::F64, Physical::DOUBLE) => true,
        _ => false,
    }
}

/// Whether a top-level column holds numbers.
pub(super) fn is_number(column: &Type) -> bool {
    let info = column.get_basic_info();
    if !column.is_primitive() || info.repetition() == Repetition::REPEATED {
        return false;
    }
    match (column.get_physical_type(), info.logical_type_ref()) {
        (Physical::FIXED_LEN_BYTE_ARRAY, logical) => matches!(logical, Some(LogicalType::Float16)),
        (Physical::INT32 | Physical::INT64, Some(logical)) => matches!(logical, LogicalType::Integer(_)),
        (physical, None) => {
            let number = matches!(physical, Physical::INT32 | Physical::INT64 | Physical::FLOAT | Physical::DOUBLE);
            number && is_plain(info.converted_type()) || physical == Physical::BOOLEAN
        }
        _ => false,
    }
}

/// Whether numbers mean what they say, and no date, time or decimal.
fn is_plain(converted: ConvertedType) -> bool {
    use ConvertedType as Of;
    let signed = matches!(converted, Of::INT_8 | Of::INT_16 | Of::INT_32 | Of::INT_64);
    signed || is_unsigned(converted) || converted == Of::NONE
}

pub(super) fn is_unsigned(converted: ConvertedType) -> bool {
    use ConvertedType as Of;
    matches!(converted, Of::UINT_8 | Of::UINT_16 | Of::UINT_32 | Of::UINT_64)
}

/// A column's type in words of the format.
pub(super) fn shown(column: &Type) -> String {
    let info = column.get_basic_info();
    let mut text = match column {
        Type::PrimitiveType { physical_type, .. } => physical_type.to_string(),
        Type::GroupType { .. } => "a group of columns".into(),
    };
    if let Some(logical) = info.logical_type_ref() {
        text += &format!(" ({logical:?})");
    } else if info.converted_type() != ConvertedType::NONE {
        text += &format!(" ({})", info.converted_type());
    }
    if info.repetition() == Repetition::REPEATED { format!("repeated {text}") } else { text }
}
