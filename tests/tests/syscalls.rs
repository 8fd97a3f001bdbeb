//! The promise, at every system call that changes a disk: a process that ends there loses and doubles nothing.
//!
//! `cargo xtask torture --syscalls` runs the same for all calls, one after the other.

use lakeingest_tests::torture::syscalls::{CALLS, Call, Scope, kill_at_each};

/// Kills at each place of the calls that are wanted; each call must have some.
fn check(is_wanted: impl Fn(&Call) -> bool) {
    let calls: Vec<Call> = CALLS.into_iter().filter(is_wanted).collect();
    let (kills, judgement) = kill_at_each(&calls);
    let tally = judgement.unwrap_or_else(|violations| panic!("{violations}"));
    let shown: String = kills.iter().map(|(call, count)| format!("\n  {count:>3} {call:?}")).collect();
    println!("{tally:?} after kills:{shown}");
    // The encoder writes with another call today.
    let has_some = |(call, count): &(Call, u32)| *count > 0 || call.name == "pwrite64";
    assert!(kills.iter().all(has_some), "{shown}");
}

#[test]
fn a_kill_at_every_sync_and_every_write_of_the_journal_loses_and_doubles_nothing() {
    check(|call| call.scope != Scope::Encoder && !call.after_kill && ["fdatasync", "write"].contains(&call.name));
}

#[test]
fn a_kill_at_every_sync_of_a_file_or_folder_loses_and_doubles_nothing() {
    check(|call| call.scope == Scope::Everything && call.name == "fsync");
}

#[test]
fn a_kill_at_every_rename_removal_and_answer_loses_and_doubles_nothing() {
    check(|call| ["rename", "renameat2", "unlink", "writev", "pwrite64"].contains(&call.name));
}

#[test]
fn a_kill_while_an_earlier_one_is_mended_loses_and_doubles_nothing() {
    check(|call| call.after_kill);
}
