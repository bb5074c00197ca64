//! The instruction sets of this processor.

#[cfg(target_arch = "x86_64")]
use super::x86;
#[cfg(target_arch = "x86_64")]
use crate::form::Form;

/// The instruction sets. Each value proves that the processor has the set.
#[derive(Clone, Copy, Debug)]
pub(super) enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(x86::Avx512Vnni),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(x86::AvxVnni),
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    Portable,
}

impl Instructions {
    /// The sets of this processor that the form of this process includes, the fastest first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let found = {
            let form = Form::of_process();
            let (avx512, avx2) = (form == Form::Avx512, form != Form::Portable);
            [
                x86::Avx512Vnni::try_new().filter(|_| avx512).map(Self::Avx512Vnni),
                x86::AvxVnni::try_new().filter(|_| avx2).map(Self::AvxVnni),
                pulp::x86::V3::try_new().filter(|_| avx2).map(Self::Avx2),
            ]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let found: [Option<Self>; 0] = [];
        found.into_iter().flatten().chain([Self::Portable])
    }
}
