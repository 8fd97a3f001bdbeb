//! A journal with one bit that is wrong, with an end that is missing, or with a stretch of zeroes: each place there is.

use super::retries::{append_keyed, is_known};
use super::*;

/// In memory where there is such a folder: thousands of journals are opened.
fn quick_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a temporary folder can be made")
}

/// A journal that only reads: it cannot hold its reserve, which costs more than all the rest of its start.
fn reading_journal() -> Fixture {
    let fixture = Fixture { folder: quick_folder(), size_limit_bytes: 1 << 30 };
    fs::create_dir(fixture.path().join("reserve")).expect("it can be made");
    fixture
}

/// The one file of a journal.
struct Original {
    name: std::ffi::OsString,
    bytes: Vec<u8>,
    /// Where its frames begin, the end of the last one included. The first frame is the schema, the others are batches.
    starts: Vec<usize>,
}

impl Original {
    async fn with_batches(count: u32) -> Self {
        let fixture = Fixture::new();
        let opened = fixture.open();
        for number in 0..count {
            append(&opened.journal, "t", number).await;
        }
        close(opened);
        let (path, bytes, starts) = frames(&fixture);
        Self { name: path.file_name().expect("it has a name").to_owned(), bytes, starts }
    }

    /// A journal of these bytes.
    fn changed(&self, bytes: &[u8]) -> Fixture {
        let fixture = reading_journal();
        fs::write(fixture.path().join(&self.name), bytes).expect("it can be written");
        fixture
    }

    fn batches(&self) -> u32 {
        u32::try_from(self.starts.len() - 2).expect("there are few")
    }
}

/// The bodies of a journal that has at most one segment.
fn all_bodies(fixture: &Fixture, opened: &OpenedJournal) -> Vec<String> {
    opened.segments.iter().flat_map(|segment| bodies(fixture.path(), &segment.contents)).collect()
}

/// Opens, and answers what is left and how many places are damaged.
fn opened_and_closed(fixture: &Fixture) -> (Vec<String>, u64) {
    let opened = fixture.open();
    let found = (all_bodies(fixture, &opened), opened.damaged);
    close(opened);
    found
}

#[tokio::test]
async fn each_bit_that_is_wrong_costs_one_frame_at_the_most_and_is_told() {
    let original = Original::with_batches(4).await;
    let last = original.batches() - 1;
    for bit in 0..original.bytes.len() * 8 {
        let at = bit / 8;
        let mut bytes = original.bytes.clone();
        bytes[at] ^= 1 << (bit % 8);
        let fixture = original.changed(&bytes);
        if at < frame::LOG_HEADER_BYTES {
            let error = fixture.try_open().expect_err("its head is damaged");
            let is_version = (8..12).contains(&at);
            let is_refused = match error {
                JournalError::UnknownVersion { .. } => is_version,
                JournalError::DamagedLog { .. } => !is_version,
                _ => false,
            };
            assert!(is_refused, "bit {bit}: {error}");
            assert_eq!(fs::read(fixture.path().join(&original.name)).expect("it is there"), bytes, "bit {bit}");
            continue;
        }
        let hit = original.starts.iter().rposition(|start| *start <= at).expect("it lies in a frame");
        let (found, damaged) = opened_and_closed(&fixture);
        match u32::try_from(hit).expect("there are few") {
            // Without the schema no batch can be read: all are set aside.
            0 => assert_eq!((found, damaged), (vec![], 1), "bit {bit}"),
            hit => {
                let mut kept = numbers(0, last + 1);
                kept.remove((hit - 1) as usize);
                assert_eq!(found, kept, "bit {bit}");
                // What is wrong at the very end cannot be told from what a power cut tears.
                assert_eq!(damaged, u64::from(hit - 1 < last), "bit {bit}");
            }
        }
    }
}

#[tokio::test]
async fn each_end_that_is_missing_costs_what_it_held_and_nothing_else() {
    let original = Original::with_batches(4).await;
    for length in 0..original.bytes.len() {
        let fixture = original.changed(&original.bytes[..length]);
        if length < frame::LOG_HEADER_BYTES {
            let error = fixture.try_open().expect_err("its head is not whole");
            assert!(matches!(error, JournalError::DamagedLog { .. }), "{length} bytes: {error}");
            continue;
        }
        let whole_frames = original.starts.iter().skip(1).filter(|end| **end <= length).count();
        let kept = u32::try_from(whole_frames.saturating_sub(1)).expect("there are few");
        assert_eq!(opened_and_closed(&fixture), (numbers(0, kept), 0), "{length} bytes");
    }
}

/// A stretch of zeroes was once taken for the end of what was written, and the acknowledged batches behind it were gone
/// without a word.
#[tokio::test]
async fn zeroes_in_the_middle_are_damage_and_what_stands_behind_them_survives() {
    let original = Original::with_batches(4).await;
    for (first, last) in [(1, 1), (2, 2), (1, 2), (2, 3)] {
        let mut bytes = original.bytes.clone();
        bytes[original.starts[first]..original.starts[last + 1]].fill(0);
        let kept: Vec<_> = numbers(0, 4)
            .into_iter()
            .enumerate()
            .filter(|(number, _)| !(first..=last).contains(&(number + 1)))
            .map(|(_, body)| body)
            .collect();
        assert_eq!(opened_and_closed(&original.changed(&bytes)), (kept, 1), "frames {first} to {last}");
    }
    let padded = [original.bytes.as_slice(), &[0; 4_096]].concat();
    assert_eq!(opened_and_closed(&original.changed(&padded)), (numbers(0, 4), 0), "reserved space is no damage");
}

/// The keys of batches that are in the lake stand in the key log alone.
#[tokio::test]
async fn each_bit_that_is_wrong_in_the_key_log_costs_the_keys_of_one_segment_at_the_most() {
    let source = Fixture::new();
    let opened = source.open();
    let names = ["first", "second", "third"];
    for name in names {
        let appended = append_keyed(&opened.journal, "t", now_seconds(), name).await;
        opened.journal.seal(appended.segment, SealReason::Request).await.expect("the disk works");
        opened.journal.retire(appended.segment, Settled::default()).await.expect("the disk works");
    }
    close(opened);
    let path = Path::new("keys/0000000000000001.log");
    let bytes = fs::read(source.path().join(path)).expect("the key log can be read");
    let log = source.logs().pop().expect("there is a newest file");
    for bit in frame::LOG_HEADER_BYTES * 8..bytes.len() * 8 {
        let fixture = reading_journal();
        let mut copy = bytes.clone();
        copy[bit / 8] ^= 1 << (bit % 8);
        fs::create_dir(fixture.path().join("keys")).expect("it can be made");
        fs::write(fixture.path().join(path), copy).expect("it can be written");
        fs::copy(&log, fixture.path().join(log.file_name().expect("it has a name"))).expect("it can be copied");
        let opened = fixture.open();
        let known = names.iter().filter(|name| is_known(&opened.journal, name)).count();
        assert_eq!(known, 2, "bit {bit}");
        assert!(opened.journal.keys().len() == 2, "bit {bit}: a key was invented");
        close(opened);
    }
}
