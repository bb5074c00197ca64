//! A vector column of a Parquet file, read back: every form that this release and earlier ones store.

use arrow_array::{
    Array, FixedSizeBinaryArray, FixedSizeListArray, Float16Array, Float32Array, Int8Array, RecordBatch, UInt8Array,
    cast::AsArray, types::Float32Type,
};
use crds::v1alpha1::Precision;

use crate::vectors::quantize;

/// A vector column of a batch.
pub(super) struct StoredColumn<'a> {
    values: Values<'a>,
    /// One scale per row of an `Int8` column.
    scales: Option<&'a Float32Array>,
}

/// The values of a column.
enum Values<'a> {
    /// Floats; of earlier releases also integers, and bytes of bits.
    Lists(&'a FixedSizeListArray),
    /// Signed bytes.
    Integers(&'a FixedSizeBinaryArray),
    /// Bytes of eight dimensions each.
    Bits(&'a FixedSizeBinaryArray),
}

impl<'a> StoredColumn<'a> {
    /// The column of this name, whose vectors have this precision and number of dimensions.
    ///
    /// # Errors
    /// If the batch has no such column, or one of another type or width.
    pub(super) fn of(
        batch: &'a RecordBatch,
        name: &str,
        precision: Precision,
        dimensions: usize,
    ) -> Result<Self, String> {
        let column = batch.column_by_name(name).ok_or_else(|| format!("no vector column {name}"))?;
        let values = match (column.as_fixed_size_list_opt(), column.as_fixed_size_binary_opt(), precision) {
            (Some(lists), _, _) => Values::Lists(lists),
            (_, Some(bytes), Precision::Int8) => Values::Integers(bytes),
            (_, Some(bytes), Precision::Binary) => Values::Bits(bytes),
            _ => return Err(format!("column {name} has the type {}, not that of {precision:?}", column.data_type())),
        };
        let scales = match precision {
            Precision::Int8 => {
                let scales = batch.column_by_name(&scale_name(name));
                let scales = scales.and_then(|scales| scales.as_primitive_opt::<Float32Type>());
                Some(scales.ok_or_else(|| format!("no column {}", scale_name(name)))?)
            }
            Precision::F32 | Precision::F16 | Precision::Binary => None,
        };
        let column = Self { values, scales };
        let width = column.width().ok_or_else(|| format!("column {name} has values of an unknown type"))?;
        if width == dimensions {
            Ok(column)
        } else {
            Err(format!("the vectors in column {name} have {width} dimensions, not {dimensions}"))
        }
    }

    /// The number of dimensions; `None` for values of a type that no release wrote.
    fn width(&self) -> Option<usize> {
        match &self.values {
            Values::Integers(bytes) => Some(bytes.value_length() as usize),
            Values::Bits(bytes) => Some(bytes.value_length() as usize * 8),
            Values::Lists(lists) => {
                let (values, length) = (lists.values().as_any(), lists.value_length() as usize);
                if values.is::<UInt8Array>() {
                    Some(length * 8)
                } else {
                    let known = values.is::<Float32Array>() || values.is::<Float16Array>() || values.is::<Int8Array>();
                    known.then_some(length)
                }
            }
        }
    }

    /// The vector of a row.
    pub(super) fn vector(&self, row: usize) -> Vec<f32> {
        let scale = self.scales.map_or(1.0, |scales| scales.value(row));
        match &self.values {
            Values::Integers(bytes) => {
                bytes.value(row).iter().map(|byte| quantize::from_int8(byte.cast_signed(), scale)).collect()
            }
            Values::Bits(bytes) => quantize::from_binary(bytes.value(row)),
            Values::Lists(lists) => list(lists.value(row).as_ref(), scale),
        }
    }
}

/// The values of a list; empty if they have a type that no release wrote.
fn list(values: &dyn Array, scale: f32) -> Vec<f32> {
    let values = values.as_any();
    if let Some(values) = values.downcast_ref::<Float32Array>() {
        values.values().to_vec()
    } else if let Some(values) = values.downcast_ref::<Float16Array>() {
        values.values().iter().map(|value| value.to_f32()).collect()
    } else if let Some(values) = values.downcast_ref::<Int8Array>() {
        values.values().iter().map(|value| quantize::from_int8(*value, scale)).collect()
    } else {
        let bytes = values.downcast_ref::<UInt8Array>();
        bytes.map_or_else(Vec::new, |bytes| quantize::from_binary(bytes.values()))
    }
}

/// The name of the column of scales of an `Int8` column.
pub(super) fn scale_name(column: &str) -> String {
    format!("{column}_scale")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::ArrayRef;
    use arrow_buffer::Buffer;
    use arrow_schema::{DataType, Field};

    use super::*;

    fn batch(vectors: ArrayRef) -> RecordBatch {
        let scales: ArrayRef = Arc::new(Float32Array::from(vec![0.5, 2.0]));
        RecordBatch::try_from_iter([("v", vectors), ("v_scale", scales)]).expect("a batch")
    }

    fn list_of(element: DataType, width: i32, values: ArrayRef) -> ArrayRef {
        let field = Arc::new(Field::new("element", element, false));
        Arc::new(FixedSizeListArray::try_new(field, width, values, None).expect("a list"))
    }

    fn bytes(width: i32, bytes: &[u8]) -> ArrayRef {
        Arc::new(FixedSizeBinaryArray::try_new(width, Buffer::from(bytes), None).expect("bytes"))
    }

    #[test]
    fn every_form_is_read_also_those_of_earlier_releases() {
        let integers = [127i8, -127, 0, 1, 2, 3, 4, 5, -1, -2, -3, -4, -5, -6, -7, -8];
        let scaled =
            [[63.5, -63.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5], [-2.0, -4.0, -6.0, -8.0, -10.0, -12.0, -14.0, -16.0]];
        let signs = [[1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 1.0], [-1.0; 8]];
        let floats: Vec<f32> = scaled.concat();
        let halves = floats.iter().copied().map(half::f16::from_f32).collect::<Vec<_>>();
        for (precision, column, expected) in [
            (Precision::F32, list_of(DataType::Float32, 8, Arc::new(Float32Array::from(floats))), scaled),
            (Precision::F16, list_of(DataType::Float16, 8, Arc::new(Float16Array::from(halves))), scaled),
            (Precision::Int8, bytes(8, &integers.map(i8::cast_unsigned)), scaled),
            (Precision::Int8, list_of(DataType::Int8, 8, Arc::new(Int8Array::from(integers.to_vec()))), scaled),
            (Precision::Binary, bytes(1, &[0b1000_0001, 0]), signs),
            (Precision::Binary, list_of(DataType::UInt8, 1, Arc::new(UInt8Array::from(vec![0b1000_0001, 0]))), signs),
        ] {
            let batch = batch(column);
            let column = StoredColumn::of(&batch, "v", precision, 8).expect("a column");
            assert_eq!([column.vector(0), column.vector(1)], expected, "{precision:?}");
            let Err(message) = StoredColumn::of(&batch, "v", precision, 16) else { panic!("another width") };
            assert_eq!(message, "the vectors in column v have 8 dimensions, not 16");
        }
    }

    #[test]
    fn a_column_of_another_type_is_rejected() {
        let message = |name: &str, column: ArrayRef, precision| {
            let batch = batch(column);
            StoredColumn::of(&batch, name, precision, 8).err().unwrap_or_default()
        };
        assert_eq!(message("w", bytes(8, &[0; 16]), Precision::Int8), "no vector column w");
        assert!(message("v", bytes(8, &[0; 16]), Precision::F32).contains("not that of F32"));
        let wide = list_of(DataType::UInt64, 8, Arc::new(arrow_array::UInt64Array::from(vec![0; 16])));
        assert!(message("v", wide, Precision::F32).contains("unknown type"));
    }
}
