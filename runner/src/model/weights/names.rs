//! The names of tensors without those of the wrappers that a training framework may leave in a checkpoint.

/// What `torch.compile` puts in front of the names of whatever it compiles.
const COMPILED: &str = "_orig_mod.";
/// The wrappers of a whole checkpoint: `DataParallel`, and the modules of `sentence-transformers`.
const WRAPPERS: [&str; 4] = ["module.", "0.auto_model.", "0.model.", "auto_model."];

/// The names in their order, without the names of wrappers. A wrapper counts only if all names begin with it.
pub(super) fn without_wrappers<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = names.map(|name| name.replace(COMPILED, "")).collect();
    let wrapper = |names: &[String]| {
        WRAPPERS.into_iter().find(|wrapper| !names.is_empty() && names.iter().all(|name| name.starts_with(wrapper)))
    };
    while let Some(wrapper) = wrapper(&names) {
        for name in &mut names {
            name.drain(..wrapper.len());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_removed_if_they_wrap_everything() {
        let of = |names: &[&str]| without_wrappers(names.iter().copied());
        assert_eq!(of(&["_orig_mod.a.weight", "_orig_mod.b"]), ["a.weight", "b"]);
        assert_eq!(of(&["module._orig_mod.a", "module._orig_mod.b"]), ["a", "b"]);
        assert_eq!(of(&["0.auto_model.a", "0.auto_model.b"]), ["a", "b"]);
        assert_eq!(of(&["encoder._orig_mod.layer.0.a", "b"]), ["encoder.layer.0.a", "b"]);
        // Another part of the checkpoint is outside of the wrapper.
        assert_eq!(of(&["0.auto_model.a", "2.linear.weight"]), ["0.auto_model.a", "2.linear.weight"]);
        assert_eq!(of(&["model.a", "model.b"]), ["model.a", "model.b"]);
        assert!(of(&[]).is_empty());
    }
}
