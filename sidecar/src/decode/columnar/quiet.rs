//! Panics of a library over bytes that it was given.
//!
//! Owns: that they end with the call, and that the log says nothing of them: what was sent would be in their words, and whoever
//! sends it could fill the log. Does not own: which calls these are.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is expected.
    static IS_EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// What `call` answers; none if it panics. Nothing that it has borrowed and changed may be used then.
pub(super) fn without_panic<T>(call: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_EXPECTED.get() {
                report(panic);
            }
        }));
    });
    IS_EXPECTED.set(true);
    let answer = catch_unwind(AssertUnwindSafe(call));
    IS_EXPECTED.set(false);
    answer.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_with_its_call() {
        assert_eq!(without_panic(|| 1), Some(1));
        assert_eq!(without_panic::<()>(|| panic!("the bytes are none")), None);
        assert!(!IS_EXPECTED.get());
    }
}
