//! Dense vectors with the same number of dimensions, in memory.

/// Vectors with the same number of dimensions, row after row in one buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    dimensions: usize,
    values: Vec<f32>,
}

impl Rows {
    /// Takes `values` as rows of `dimensions` each.
    ///
    /// # Panics
    /// If `dimensions` is zero or does not divide the number of values.
    pub fn new(dimensions: usize, values: Vec<f32>) -> Self {
        assert!(dimensions > 0, "a row has at least one dimension");
        assert_eq!(values.len() % dimensions, 0, "{} values are not rows of {dimensions}", values.len());
        Self { dimensions, values }
    }

    /// The number of dimensions of a row.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimensions
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The row at `index`.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dimensions..][..self.dimensions]
    }

    /// The row at `index`, to write it.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.dimensions..][..self.dimensions]
    }

    /// The rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimensions)
    }

    /// All values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Takes the values out, row-major.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "7 values are not rows of 2")]
    fn a_buffer_that_is_not_whole_rows_is_rejected() {
        let _ = Rows::new(2, vec![0.0; 7]);
    }
}
