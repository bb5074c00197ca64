//! Panics of a library on input from outside, as errors.
//!
//! A library may panic on a file that it cannot make sense of. That is no defect of the runner: the stage fails with the
//! name of the file, like for any other invalid one.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, which calls a library on this thread alone. What `work` changes must not be used after a panic.
///
/// # Errors
/// The message of a panic.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = CONTAINED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(before);
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
    })
}

/// Whether a panic of this thread becomes an error, so that a hook has nothing to report.
pub fn is_contained() -> bool {
    CONTAINED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message_and_the_thread_goes_on() {
        assert_eq!(contained(|| 1), Ok(1));
        assert_eq!(contained(|| -> u8 { panic!("no {}", "such table") }), Err("no such table".to_owned()));
        assert_eq!(contained(|| -> u8 { panic!("fixed") }), Err("fixed".to_owned()));
        let inner = contained(|| (contained(|| -> u8 { panic!("inner") }), is_contained()));
        assert_eq!(inner, Ok((Err("inner".to_owned()), true)));
        assert!(!is_contained());
    }
}
