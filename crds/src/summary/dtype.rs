//! The names of arithmetic types in pass records.

/// The default of `dtype` and `precision`, for records of releases that did not write them.
pub(super) fn f32_name() -> String {
    "F32".to_owned()
}

/// Adds `name` to a list of names joined by ", ", once: a GPU and, as a fallback, a CPU may have computed shards of the
/// same run in different types.
pub(super) fn add_name(names: &mut String, name: &str) {
    if !names.split(", ").any(|known| known == name) {
        *names = format!("{names}, {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_differ_between_shards_are_all_named() {
        let mut names = "F16".to_owned();
        for name in ["F16", "F32", "F16", "F32"] {
            add_name(&mut names, name);
        }
        assert_eq!(names, "F16, F32");
    }
}
