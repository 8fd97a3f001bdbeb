//! `lakeingest-torture`: the tortures of the tests, as many and as long as is asked for.
//!
//! Owns: the order, and a line for each that has been judged. Does not own: the tortures (`lakeingest_tests::torture`).

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lakeingest_tests::torture::Judgement;
use lakeingest_tests::torture::power_cuts::PowerCuts;
use lakeingest_tests::torture::slow_upload::SlowUpload;
use lakeingest_tests::torture::soak::Chapter;
use lakeingest_tests::torture::syscalls::{CALLS, kill_at_each};
use lakeingest_tests::torture::values::Values;
use lakeingest_tests::volume;
use xtask::stopwatch::Stopwatch;
use xtask::torture::TortureOptions;

/// Lives of one chapter of a soak.
const CHAPTER_LIVES: u32 = 40;

/// Records of each table that are compared at once: what the readers' program holds in memory.
const VALUES_AT_ONCE: u64 = 200_000;

/// What is sent over slow uploads, of about 160 bytes each.
const SLOW_EVENTS_PER_SECOND: u64 = 50_000;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: TortureOptions,
}

fn main() -> ExitCode {
    let options = Arguments::parse().options;
    let seed = options.seed.unwrap_or_else(rand::random);
    println!("seed {seed}; the same choices again, if not the same moments: --seed {seed}");
    let mut holds = true;
    if options.cuts > 0 {
        holds &= cut_power(options.cuts, seed);
    }
    if options.syscalls {
        holds &= kill_at_system_calls();
    }
    if options.values > 0 {
        holds &= compare_values(options.values, seed);
    }
    if options.slow_minutes > 0 {
        look_at_memory(options.slow_minutes);
    }
    if options.minutes > 0 {
        holds &= soak(Duration::from_secs(60 * u64::from(options.minutes)), seed);
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cut_power(cuts: u32, seed: u64) -> bool {
    if !volume::can_be_made() {
        println!("NOT RUN: {cuts} power cuts, which need root and loop devices");
        return false;
    }
    tell(&format!("{cuts} power cuts"), &PowerCuts { cuts, seed }.run())
}

fn kill_at_system_calls() -> bool {
    let mut holds = true;
    for call in CALLS {
        let (kills, judgement) = kill_at_each(&[call]);
        let count = kills.first().map_or(0, |(_, count)| *count);
        holds &= tell(&format!("{count} kills at {call:?}"), &judgement);
    }
    holds
}

/// In runs of [`VALUES_AT_ONCE`], each with a lake of its own.
fn compare_values(records: u64, seed: u64) -> bool {
    let (mut left, mut seed) = (records, seed);
    while left > 0 {
        let records = left.min(VALUES_AT_ONCE);
        match (Values { records, seed }).run() {
            Ok(compared) => println!(
                "{records} records in each of two tables, seed {seed}: {} rows as they were meant, {} set aside",
                compared.rows, compared.set_aside
            ),
            Err(faults) => {
                println!("seed {seed}: BROKEN: {faults}");
                return false;
            }
        }
        left -= records;
        seed = seed.wrapping_add(1);
    }
    true
}

fn look_at_memory(minutes: u32) {
    let events = u64::from(minutes) * 60 * SLOW_EVENTS_PER_SECOND;
    let seen = SlowUpload { events, events_per_second: Some(SLOW_EVENTS_PER_SECOND) }.run();
    println!(
        "{} events in the lake, each once, in {} files; {} refused and absent",
        seen.acknowledged, seen.files, seen.refused
    );
    println!("memory, at the peak of each tenth of the time: {:?} MiB", seen.peaks.map(|bytes| bytes >> 20));
}

/// Chapters until the time is over; the first that does not hold is the last.
fn soak(time: Duration, seed: u64) -> bool {
    if !volume::can_be_made() {
        println!("NOT RUN: power cuts among the faults of the soak, which need root and loop devices");
    }
    let stopwatch = Stopwatch::start();
    let (mut chapter, mut acknowledged) = (0, 0);
    while stopwatch.elapsed() < time {
        let seed = seed.wrapping_add(chapter);
        chapter += 1;
        let judgement = Chapter { lives: CHAPTER_LIVES, seed }.run();
        acknowledged += judgement.as_ref().map_or(0, |tally| tally.acknowledged);
        if !tell(&format!("{CHAPTER_LIVES} lives with faults at random, seed {seed}"), &judgement) {
            return false;
        }
    }
    println!(
        "{chapter} chapters, {} lives, {acknowledged} acknowledged records: all hold",
        chapter * u64::from(CHAPTER_LIVES)
    );
    true
}

/// One line for what was judged.
fn tell(what: &str, judgement: &Judgement) -> bool {
    match judgement {
        Ok(tally) => println!(
            "{what}: {} acknowledged and stored once, {} refused and absent, of {} unknown {} stored once; \
             0 lost, 0 doubled, 0 changed, 0 invented",
            tally.acknowledged,
            tally.refused,
            tally.unknown_stored + tally.unknown_absent,
            tally.unknown_stored,
        ),
        Err(violations) => println!("{what}: BROKEN: {violations}"),
    }
    judgement.is_ok()
}
