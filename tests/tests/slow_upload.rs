//! Memory, while records come in and objects take their time on their way to the bucket.

use lakeingest_tests::torture::slow_upload::SlowUpload;

/// The most that the sidecar may take with `flush.maxBytes` of 128 MiB. Unit: bytes.
const MEMORY_BYTES_MAX: u64 = 300 << 20;

/// What is no growth: one more segment at the encoder, or one less. Unit: bytes.
const WAVERING_BYTES: u64 = 64 << 20;

/// Invariant I12. As long as `cargo xtask torture --slow-minutes N` says; here some segments.
#[test]
fn i12_memory_is_bounded_and_flat_while_uploads_are_slow() {
    let seen = SlowUpload { events: 8_000_000, events_per_second: None }.run();
    println!("{seen:?}");
    let peak = seen.peaks.iter().max().copied().unwrap_or_default();
    assert!(peak <= MEMORY_BYTES_MAX, "{seen:?}");
    let half = |part: &[u64]| part.iter().max().copied().unwrap_or_default();
    assert!(half(&seen.peaks[5..]) <= half(&seen.peaks[..5]) + WAVERING_BYTES, "{seen:?}");
    // The test proves nothing unless there was something to take memory for.
    assert!(seen.acknowledged > 4_000_000 && seen.files >= 5, "{seen:?}");
}
