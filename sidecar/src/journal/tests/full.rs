//! A volume without space.

use super::retries::{append_keyed, is_known};
use super::*;
use crate::journal::directory::{log_path, settle_file};

/// A volume of its own, so that it can be filled. Unmounted when dropped.
struct SmallVolume(tempfile::TempDir);

impl SmallVolume {
    /// A volume of `bytes`.
    ///
    /// # Panics
    /// It cannot be mounted: the test needs a user who may.
    fn mount(bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let size = format!("size={bytes}");
        let mounted =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        let output = mounted.expect("the command mount can be run");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "a tmpfs must be mounted to fill it; run this test as root: {words}");
        Self(folder)
    }
}

impl Drop for SmallVolume {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

/// Writes to a file until the volume has no space.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).expect("the file can be made");
    let error = loop {
        if let Err(error) = file.write(&[1; 4_096]) {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[tokio::test]
async fn on_a_full_volume_batches_are_refused_and_what_is_buffered_is_still_delivered() {
    let volume = SmallVolume::mount(16 << 20);
    let stranger = volume.0.path().join("stranger");
    let options = JournalOptions { takes_old: true, ..JournalOptions::new(volume.0.path().join("journal"), 1 << 30) };
    let open = || {
        Journal::open(&options, SystemClock::shared(), Arc::new(Metrics::default())).expect("the journal can be opened")
    };
    let opened = open();
    append(&opened.journal, "t", 1).await;
    let body = Batch { body: Bytes::from(vec![b' '; 2 << 20]).into(), ..batch("t", 2) };
    opened.journal.append(body.clone(), schema(), None).await.expect("there is room");
    fill(&stranger);
    let refused = opened.journal.append(body.clone(), schema(), None).await.expect_err("there is no room");
    assert_eq!(refused, AppendError::NoSpace);
    close(opened);
    // What the newest file has reserved is given back by the next start; here somebody else takes it.
    settle_file(&log_path(&options.directory, 1)).expect("the disk works");
    fill(&volume.0.path().join("another stranger"));

    // The next start needs a log file and a seal, and takes the reserve for them.
    let opened = open();
    assert!(!options.directory.join("reserve").is_file());
    let refused = opened.journal.append(batch("t", 3), schema(), None).await.expect_err("there is no reserve");
    assert_eq!(refused, AppendError::NoSpace);
    let [segment] = opened.segments.as_slice() else { panic!("one table makes one segment") };
    let SegmentState::Sealed { seal } = &segment.state else { panic!("it is sealed") };
    opened.journal.plan(segment.contents.number, plan_of(seal)).await.expect("the reserve has room for a plan");
    fs::remove_file(&stranger).expect("the file can be removed");
    opened.journal.retire(segment.contents.number, Settled::default()).await.expect("the disk works");
    assert!(options.directory.join("reserve").is_file(), "a retirement makes it again where there is room");
    append(&opened.journal, "t", 4).await;
    assert!(!*opened.journal.failed().borrow());
}

/// Goal: a segment is retired and the journal starts again, whatever its keys would take. Method: the entry of the keys is
/// longer than everything that a full volume has left, the reserve included.
#[tokio::test]
async fn i12_keys_that_find_no_room_are_forgotten_and_their_segment_is_retired_all_the_same() {
    const KEYS: u32 = 24_000;
    let volume = SmallVolume::mount(32 << 20);
    let stranger = volume.0.path().join("stranger");
    let options = JournalOptions::new(volume.0.path().join("journal"), 1 << 30);
    let metrics = Arc::new(Metrics::default());
    let open =
        || Journal::open(&options, SystemClock::shared(), Arc::clone(&metrics)).expect("the journal can be opened");
    let opened = open();
    let small = append_keyed(&opened.journal, "small", now_seconds(), "small").await;
    opened.journal.seal(small.segment, SealReason::Request).await.expect("the disk works");
    opened.journal.retire(small.segment, Settled::default()).await.expect("the disk works");
    let names: Vec<String> = (0..KEYS).map(|key| key.to_string()).collect();
    let mut large = None;
    for chunk in names.chunks(500) {
        let appends = chunk.iter().map(|name| append_keyed(&opened.journal, "large", now_seconds(), name));
        large = futures::future::join_all(appends).await.pop();
    }
    let large = large.expect("there are some").segment;
    opened.journal.seal(large, SealReason::Request).await.expect("the disk works");
    fill(&stranger);
    opened.journal.retire(large, Settled::default()).await.expect("it is retired");
    assert_eq!(metrics.keys_evicted.get(), u64::from(KEYS));
    assert!(is_known(&opened.journal, "small") && !is_known(&opened.journal, "0"));
    close(opened);

    fill(&stranger);
    let opened = open();
    assert!(opened.segments.is_empty(), "it is retired");
    assert!(is_known(&opened.journal, "small") && !*opened.journal.failed().borrow());
}

/// Invariant I12: a volume is measured by the blocks that are taken, and the journal counts the bytes that it has written.
#[tokio::test]
async fn i12_files_that_are_not_written_any_more_take_what_they_hold() {
    use std::os::unix::fs::MetadataExt;
    let fixture = Fixture { size_limit_bytes: 1 << 20, ..Fixture::new() };
    // A process that ends leaves its newest file as it is; the next one begins another.
    for number in 0..4 {
        let opened = fixture.open();
        append(&opened.journal, "t", number).await;
        close(opened);
    }
    let opened = fixture.open();
    for number in 4..2_000 {
        append(&opened.journal, "t", number).await;
    }
    let mut old = fixture.logs();
    old.pop();
    assert!(old.len() > 5, "{old:?}");
    for path in old {
        let metadata = fs::metadata(&path).expect("the log is there");
        let taken = metadata.blocks() * 512;
        assert!(taken < metadata.len() + (64 << 10), "{}: {taken} of {}", path.display(), metadata.len());
    }
    close(opened);
}
