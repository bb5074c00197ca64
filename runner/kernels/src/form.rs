//! The form of the kernels: the instruction set that they are compiled for.
//!
//! A process takes the widest form of the processor. Tests set [`VARIABLE`] to run a narrower one in a process of its own,
//! so that one machine tests all the forms that it has.

use std::{env, sync::LazyLock};

use pulp::Arch;

/// The variable that names the form of the kernels. Only tests set it.
pub const VARIABLE: &str = "EMBEDRUN_TEST_INSTRUCTIONS";

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// 512 bits: AVX-512.
    Avx512,
    /// 256 bits: AVX2 and FMA.
    Avx2,
    /// 128 bits: NEON.
    Neon,
    /// One value at a time.
    Portable,
}

impl Form {
    /// The form of this process.
    #[inline]
    pub fn of_process() -> Self {
        static FORM: LazyLock<Form> = LazyLock::new(|| match env::var(VARIABLE) {
            Ok(name) => Form::named(&name),
            Err(_) => Form::of(Arch::new()),
        });
        *FORM
    }

    /// The forms that this processor has, the widest first.
    pub fn available() -> Vec<Self> {
        [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable]
            .into_iter()
            .filter(|form| form.arch().is_some())
            .collect()
    }

    /// The name as the value of [`VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }

    /// # Panics
    /// If the processor does not have it: a test must not pass with another form than its own.
    fn named(name: &str) -> Self {
        let available = Self::available();
        let names = || available.iter().map(|form| form.name()).collect::<Vec<_>>();
        let found = available.iter().find(|form| form.name() == name);
        *found.unwrap_or_else(|| panic!("{VARIABLE} is {name:?}; this processor has {:?}", names()))
    }

    fn of(arch: Arch) -> Self {
        match arch {
            #[cfg(target_arch = "x86_64")]
            Arch::V4(_) => Self::Avx512,
            #[cfg(target_arch = "x86_64")]
            Arch::V3(_) => Self::Avx2,
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(_) => Self::Neon,
            _ => Self::Portable,
        }
    }

    /// What dispatches to this form; nothing where the processor does not have it.
    #[inline]
    pub(crate) fn arch(self) -> Option<Arch> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => pulp::x86::V4::try_new().map(Arch::V4),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => pulp::aarch64::Neon::try_new().map(Arch::Neon),
            Self::Portable => Some(Arch::Scalar),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_form_of_this_processor_passes_the_tests_of_this_crate() {
        let [widest, narrower @ ..] = &Form::available()[..] else { panic!("the portable form is always there") };
        if env::var_os(VARIABLE).is_some() {
            return;
        }
        assert_eq!(Form::of_process(), *widest);
        for form in narrower {
            let program = env::current_exe().expect("the program of the tests");
            let tests = Command::new(program).env(VARIABLE, form.name()).output().expect("it starts");
            let said = String::from_utf8_lossy(&tests.stdout);
            assert!(tests.status.success(), "{}: {said}", form.name());
        }
    }

    #[test]
    fn the_variable_names_the_form_of_the_process() {
        let expected = env::var(VARIABLE).unwrap_or_else(|_| Form::available()[0].name().to_owned());
        assert_eq!(Form::of_process().name(), expected);
        assert_eq!(Form::of(crate::arch()).name(), expected);
    }

    #[test]
    #[should_panic(expected = "this processor has")]
    fn a_form_that_the_processor_lacks_is_no_other_form() {
        Form::named("avx1024");
    }
}
