//! Every bound of the sidecar, named and derived.
//!
//! Owns: the numbers. Does not own: where they are enforced. No queue, buffer, file count or wait of this crate
//! is without one of these.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A request body on the wire. Unit: bytes. Large enough for thousands of records a call, small enough that the
/// bodies of [`IN_FLIGHT_BODY_BYTES_MAX`] fit a sidecar's memory. Past it: 413.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// Bodies that are being received, checked and journaled at one time. Unit: bytes that have arrived. Past it a request
/// waits for [`IN_FLIGHT_WAIT_MAX`], then 503. [`BODY_BYTES_MAX`] of it are for one body alone that found no other room.
pub const IN_FLIGHT_BODY_BYTES_MAX: usize = 64 << 20;

/// How long a request waits for room among the bodies in flight each time it needs more, and for its turn to be checked.
pub const IN_FLIGHT_WAIT_MAX: Duration = Duration::from_secs(5);

/// A body after decompression. Unit: bytes. Past it: 413. Eight times [`BODY_BYTES_MAX`], which is what event records
/// shrink by; [`CHECKS_MAX`] of them are in memory at one time, since compressed bodies are checked in turn.
pub const DECODED_BYTES_MAX: usize = 64 << 20;

/// How many times longer a body may become by decompression, past [`EXPANSION_FREE_BYTES`]. Past it: 413. Repetitive logs
/// shrink twentyfold; a thousandfold is made to fill a memory.
pub const EXPANSION_MAX: usize = 20;

/// What any body may become by decompression. Unit: bytes.
pub const EXPANSION_FREE_BYTES: usize = 1 << 20;

/// The window of a zstd body. Unit: bits of its length in bytes; 8 MiB, which RFC 9659 has every receiver offer and no sender
/// exceed. Past it: 400.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Connections of one port at one time; the next ones wait in the kernel's queue. Each port has its own, so that
/// applications never keep a probe out.
pub const CONNECTIONS_MAX: usize = 256;

/// Time for a request's header lines, and for a connection's first request of either protocol. Slower: the connection is
/// closed.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between an answer and the next request of a connection, while there is room for others; else [`HEADER_TIMEOUT`]. Longer
/// than what clients keep their connections for (90 s in Go's `http.DefaultTransport`): who closes first cuts nobody off.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Requests under way on one HTTP/2 connection; the client holds further ones back. RFC 9113, 6.5.2 asks for no less.
pub const HTTP2_STREAMS_MAX: u32 = 100;

/// What an HTTP/2 client may send ahead of what is read, on one stream and on its whole connection. Unit: bytes. All
/// [`CONNECTIONS_MAX`] together hold 64 MiB at the most, which is only so while bodies wait for room.
pub const HTTP2_WINDOW_BYTES: u32 = 256 << 10;

/// Header lines of one HTTP/2 request. Unit: bytes, by the count of RFC 9113, 10.5.1.
pub const HTTP2_HEADER_BYTES_MAX: u32 = 16 << 10;

/// How often an HTTP/2 client that says nothing is asked whether it is still there, and how long it has to answer.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);

/// Time for a request's body. Slower: 408.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Rest of a body that is read and forgotten when a request is answered before its body was read, so that a client
/// that sends before it listens gets the answer. Unit: bytes. Past it the connection is closed.
pub const UNREAD_BODY_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;

/// How long such a rest is read. Shorter than [`CONNECTION_DRAIN_WAIT`], so that it delays no end of the process.
pub const UNREAD_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// One record. Unit: bytes of its JSON text. Past it: 422.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// Records in one request. Past it: 422.
pub const RECORDS_MAX: usize = 100_000;

/// Keys and values of one body. Past it: 422. Each takes 16 bytes on the scanner's tape, 128 MiB together: 100,000
/// records of 40 fields, which is more than a body of common size holds.
pub const VALUES_MAX: usize = 8 << 20;

/// Records of one request times the columns that have a value in it. Past it: 422. A column is decoded with a place for
/// each record, so that a body of one wide record and many empty ones would grow a thousandfold: this many values of
/// 8 bytes are 64 MiB. As many as [`RECORDS_MAX`] records of 83 columns.
pub const CELLS_MAX: usize = 8 << 20;

/// By how much the records of one request that do not fit may be longer in quarantine than they were sent, which those of
/// CSV are: each is kept with the names of its fields. Unit: bytes; past it: 422. As long as a body may be.
pub const ASIDE_BYTES_MAX: usize = 8 << 20;

/// Long bodies that are checked at one time. Past it a request waits for [`IN_FLIGHT_WAIT_MAX`], then 503. A small pod
/// has two cores, so more would not be faster; the tapes of a dense body take 16 times its bytes ([`VALUES_MAX`]), 256
/// MiB for two of them.
pub const CHECKS_MAX: usize = 2;

/// Nesting of a body, the outermost bracket being the first level. Past it: 400. The encoder was seen to crash
/// at 10,000 levels; 64 is far beyond what records hold.
pub const DEPTH_MAX: usize = 64;

/// Columns of one table, with the fields inside of them at every depth. A record that has one more does not fit.
pub const COLUMNS_MAX: usize = 1_000;

/// Values of the footer of a Parquet file, or of the header of a page, fields and elements alike; each takes 40 bytes. Past it:
/// 400. A footer has about 40 for each column of a row group. It may grow and never shrink: accepted bodies are read again.
pub const PARQUET_THRIFT_ITEMS_MAX: usize = 500_000;

/// Levels of the footer of a Parquet file, structures and lists alike. Past it: 400. What is defined has 8. It may grow and
/// never shrink.
pub const PARQUET_THRIFT_DEPTH_MAX: usize = 32;

/// A name in the schema of a Parquet file, which is repeated for each column below it. Unit: bytes; past it: 400. Longer than the
/// name of any column. It may grow and never shrink.
pub const PARQUET_NAME_BYTES_MAX: usize = 1_024;

/// Levels of a type: lists and structs within each other. Deeper values of a new column are kept as json. Far below
/// [`DEPTH_MAX`].
pub const TYPE_DEPTH_MAX: usize = lakeingest_crds::type_name::TYPE_DEPTH_MAX;

/// Values in the lists of one record. Unit: elements times the columns that a file has for each. Past it the record does
/// not fit: a list of structs is written as all fields of each, a thousandfold of what was sent. As many values of 8 bytes
/// are 8 MiB.
pub const RECORD_CELLS_MAX: usize = 1 << 20;

/// Names of an object of a new column, in its first batch; an object with more is kept as json. Objects have few names when
/// these are fields, and many when they are data: a name for each user or day.
pub const INFERRED_FIELDS_MAX: usize = 100;

/// Tables that one process takes records for; those that it knows from the lake alone do not count. Past it a request
/// for another table gets 422. Each may have an open segment, and each segment becomes at least one file.
pub const TABLES_MAX: usize = 1_000;

/// How long `/ingest` and `/flush` wait for the lake before they answer 202, unless `?wait=` says otherwise.
pub const LAKE_WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// The longest `?wait=`.
pub const LAKE_WAIT_MAX: Duration = Duration::from_secs(300);

/// How long a flush that `/ingest` asked for is held back so that calls that arrive together share a file.
/// Unit: wall time. One call more than doubles no latency (an upload takes as long), and a closed loop of eight
/// clients makes one file instead of eight.
pub const INGEST_LINGER: Duration = Duration::from_millis(20);

/// A log file of the journal. Unit: bytes. When it is reached the next file is begun; a smaller size would make
/// more files, a larger one would hold disk longer after its segments are retired.
pub const LOG_FILE_BYTES: u64 = 64 << 20;

/// A journal that has this part of its bound is crowded: a half. What keeps its oldest file from being removed is sealed if it
/// is open, and old files are written anew without what is in the lake, so that one table that cannot be delivered does not
/// fill the other half with what others have delivered.
pub const JOURNAL_CROWDED_PARTS: u64 = 2;

/// An old log file is written anew if half of it is in the lake, and at least this part of a log file: 1 MiB of 64 MiB. With
/// the first, what is copied frees as much as it takes, so that all of it together is never more than what was delivered, and
/// no byte is copied more than six times; with the second, no copy is made for a few kilobytes.
pub const LOG_ANEW_PARTS: u64 = 64;

/// Most tables of an answer of `/tables`, and of the page: with a thousand columns each some 5 MiB of text.
pub const TABLES_IN_ANSWER_MAX: usize = 100;

/// Log files that are written anew between two group commits, while requests wait, if little is copied of them.
pub const LOG_FILES_ANEW_MAX: usize = 4;

/// No other log file is written anew before the next group commit once this part of a log file was copied: 16 MiB of 64 MiB.
/// Of one file half are copied at the most.
pub const LOG_ANEW_PAUSE_PARTS: u64 = 4;

/// What a log file counts as at the least: a block of its volume. Unit: bytes. Files of which nothing is left stay while an
/// older one is needed, one for each that was written meanwhile.
pub const LOG_FILE_BYTES_MIN: u64 = 4 << 10;

/// Disk that is reserved ahead in a log file, so that an append does not fail for lack of space halfway.
/// Unit: bytes.
pub const LOG_RESERVE_BYTES: u64 = 1 << 20;

/// Share of the journal's volume that the journal may take, in percent. The rest is for the plans and seals that
/// bring the backlog down, and keeps the volume's owner from evicting the pod.
pub const JOURNAL_SHARE_PERCENT: u64 = 80;

/// Disk that the journal holds in a file of its own and gives up when the volume is full, so that what is buffered
/// can still be sealed, planned and retired. Unit: bytes. A plan is at most about a megabyte (its quarantined records,
/// 10,000 lines of some 100 bytes), and [`DELIVERIES_MAX`] are written at one time; seals, retirements and the head of
/// a log file take less than a kilobyte each. With [`JOURNAL_SHARE_PERCENT`] it fits the smallest volume, 32 MiB.
pub const JOURNAL_RESERVE_BYTES: u64 = 4 << 20;

/// Age of the newest batch of a journal that is not in the lake yet, past which the journal is not delivered unless that
/// is asked for. Descriptions of files that were compacted or expired are kept as long, and only they tell that a segment
/// was in the lake.
pub const JOURNAL_LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Idempotency keys that a journal remembers; a small volume has room for fewer ([`KEY_DISK_BYTES`]). Past it the oldest is
/// forgotten, which is counted. Each takes some 200 bytes of memory, 50 MiB together.
pub const KEYS_MAX: usize = 1 << 18;

/// What a key may take in the key log, its share of its segment's entry included. Unit: bytes. An entry of a key has at most
/// 240; the rest is for segments with few keys.
pub const KEY_DISK_BYTES: u64 = 512;

/// Keys of one entry of the key log.
pub const KEYS_IN_RECORD_MAX: usize = 1_000;

/// How long an idempotency key is remembered.
pub const KEY_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Age by the wall clock at which a key is not taken in at a start. Twice [`KEY_AGE_MAX`]: a wall clock that is wrong by
/// a day forgets no key early.
pub const KEY_AGE_AT_START_MAX: Duration = Duration::from_secs(48 * 60 * 60);

/// Length of an idempotency key. Unit: bytes. Past it: 400.
pub const KEY_BYTES_MAX: usize = 255;

/// Frames that share one `fdatasync` at the most. Eight connections' worth of single records for each of
/// [`CONNECTIONS_MAX`] would not fit more often than this.
pub const COMMIT_GROUP_FRAMES_MAX: usize = 1_024;

/// A group commit that takes longer is shown in `/health`: a slow disk takes a tenth of it.
pub const JOURNAL_STALL: Duration = Duration::from_secs(5);

/// How long a request waits for its group commit. Past it the answer is `unknown`: the batch may be stored or not.
pub const APPEND_WAIT_MAX: Duration = Duration::from_secs(30);

/// Commands that wait for the journal's thread. Every request has at most one; further ones wait for room.
pub const JOURNAL_QUEUE_MAX: usize = 1_024;

/// The largest payload of a frame. Unit: bytes. A body and its description; a length beyond it is damage.
pub const FRAME_PAYLOAD_BYTES_MAX: u32 = 80 << 20;

/// Events that wait for the flush worker.
pub const FLUSH_QUEUE_MAX: usize = 4_096;

/// Segments that are on their way to the lake at one time. Each may have encoded files on the scratch volume,
/// and [`PUTS_MAX`] uploads at a time.
pub const DELIVERIES_MAX: usize = 4;

/// Segments that the scratch volume must have room for; one is sealed at this part of the volume's size, if `flush.maxBytes`
/// is not less. Half of the volume is for what the encoder spills, the other for the files of [`DELIVERIES_MAX`].
pub const SEGMENTS_ON_SCRATCH: u64 = 2 * DELIVERIES_MAX as u64;

/// Files of one segment that are put at one time. A backfill's segment has a file for each of its days.
pub const PUTS_MAX: usize = 4;

/// Segments whose outcome is remembered for callers that ask late.
pub const OUTCOMES_MAX: usize = 4_096;

/// Jobs that wait for the encoder's thread; as many as there can be deliveries.
pub const ENCODE_QUEUE_MAX: usize = DELIVERIES_MAX;

/// Memory of the encoder's database for a table without columns. Unit: bytes. What does not fit spills to the scratch
/// volume. Segments of 128 MiB with a few columns were seen to need no more.
pub const ENCODE_MEMORY_BYTES: u64 = 100 << 20;

/// Memory of the encoder's database for each column of a table. Unit: bytes. The database holds a block of 256 KiB
/// for each column while rows are appended and another when they are read, and its Parquet writer a page and a
/// dictionary, which is short where there are many (`encode::copy`): a table of 1,000 columns was seen to fail at half of this,
/// and with dictionaries of their own length at all of it.
pub const ENCODE_COLUMN_BYTES: u64 = 768 << 10;

/// Failures of the encoder on one segment after which single records are suspected.
pub const ENCODE_FAILURES_MAX: u32 = 2;

/// How long a rescue works on a journal of which nothing gets into its table, if it is not told. The slowest transfer of the
/// longest file that is not given up, more than twice.
pub const RESCUE_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Records of one segment that are taken out of it because the encoder fails on them. Each is found by encoding some 40
/// parts of the segment; more than this are no accident of a record.
pub const POISON_ROWS_MAX: usize = 100;

/// Rows times columns with a value in a segment. Unit: values; past it the segment is sealed. 16 Mi values of 8 bytes
/// are 128 MiB, as much as `flush.maxBytes` lets through by its default.
pub const SEGMENT_CELLS_MAX: u64 = 16 << 20;

/// Days in a segment, each of which becomes a file; past it the segment is sealed. Requests under way at that moment
/// may bring more: one each, or up to [`BATCH_PARTITIONS_MAX`] where records have days of their own.
pub const SEGMENT_PARTITIONS_MAX: usize = 64;

/// Days under which the records of one request can lie, where each has its own.
pub const BATCH_PARTITIONS_MAX: usize = 64;

/// Schemas in a segment; past it the segment is sealed. Columns that come one by one would else make a schema for each
/// request, of which each holds all columns before it: 64 of 1,000 columns are some 25 MiB.
pub const SEGMENT_SCHEMAS_MAX: usize = 64;

/// Fields of all schemas together that segments have which are not in the lake yet, each schema once. Past it a request that
/// brings another schema is refused, 429 or 503; requests of known columns are not, nor is the first schema of a table of which
/// nothing waits. A field is some 330 bytes (its name three
/// times, its type), so these are some 130 MiB: as many as 400 tables of 1,000 columns, or 28 columns that came one by one in
/// each of 1,000 tables.
pub const WAITING_SCHEMA_FIELDS_MAX: usize = 400_000;

/// Files that a segment becomes, about; past it the segment is sealed: one for each of its days, and as many times that as
/// its bodies have [`ROW_GROUP_BYTES_MAX`], where its records are long.
pub const SEGMENT_FILES_MAX: u64 = 256;

/// Descriptions of one segment that are looked for, so that the look has an end: many times [`SEGMENT_FILES_MAX`], which
/// counts the bodies of a segment and not the values that they become, nor its quarantine.
pub const DESCRIPTIONS_MAX: u32 = 65_536;

/// What a row group of a file is built from, before compression. Unit: bytes. The writer holds a row group in memory
/// more than once; readers want a row group to be worth a request.
pub const ROW_GROUP_BYTES: u64 = 8 << 20;

/// What a row group of a file may hold, and 2,048 rows on their way to files, beside one slice of a body of 8 MiB that takes
/// them past it. Unit: bytes of what is digested of the rows. The encoder holds either more than once: with three quarters of
/// it in texts that do not compress, the database was seen to need all of [`ENCODE_MEMORY_BYTES`]. Where the records of a
/// segment are so long its rows are split between files, and the names of those depend on this.
pub const ROW_GROUP_BYTES_MAX: u64 = 32 << 20;

/// Rows of a row group at the most: the engines' own default.
pub const ROW_GROUP_ROWS_MAX: u64 = 122_880;

/// Sealed segments that may wait for the lake before a table of which one waits gets another sealed only because it is
/// full. An outage then makes few large segments instead of many small ones, at most one more for each table, and a table
/// that cannot be delivered keeps no other from the lake.
pub const BACKLOG_SEGMENTS_MAX: usize = 64;

/// A file of less is counted as a small one. Unit: bytes. A reader of a bucket spends some tens of milliseconds on a file
/// before its first row, in which it could read about as much.
pub const SMALL_FILE_BYTES: u64 = 16 << 20;

/// Reasons that `/health` lists.
pub const REASONS_MAX: usize = 256;

/// The least and the most that a client is asked to wait while the journal has no room. Unit: seconds. In between it is what
/// was measured; the least is for an outage, in which nothing can be, and a client that comes every few seconds costs nothing.
pub const RETRY_AFTER_FULL: RangeInclusive<u32> = 5..=60;

/// The first wait after a failed attempt at the lake.
pub const RETRY_FIRST: Duration = Duration::from_millis(200);

/// The longest wait between two attempts at the lake: short enough that a repaired bucket is used at once,
/// long enough that a hundred pods do not hammer a broken one.
pub const RETRY_MAX: Duration = Duration::from_secs(15);

/// How long a transfer to or from the lake may not move before it is given up and tried again. With [`RETRY_MAX`] a
/// stalled upload is tried again within a minute.
pub const TRANSFER_STALL: Duration = Duration::from_secs(30);

/// The slowest transfer that is waited for, beside one [`TRANSFER_STALL`]. Unit: bytes a second. A quarter of the
/// slowest line that is to work well (a file of 128 MiB in two minutes). Fast enough that what the kernel holds of a
/// connection (some 4 MiB) has left within a stall, so that a slow line is not taken for a stalled one.
pub const TRANSFER_FLOOR: u64 = 256 << 10;

/// Time to connect to the lake.
pub const LAKE_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A request to the lake without a large body, its answer included.
pub const LAKE_REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// At an endpoint that replaces objects: the longest that a look at a key and the put of a small object there may take
/// together. Past it the object counts as not put.
pub const AGREEMENT_PUT_MAX: Duration = Duration::from_secs(4);

/// At an endpoint that replaces objects: how long after a put it is looked whose object stayed. Longer than
/// [`AGREEMENT_PUT_MAX`], so that whoever saw the key free before has put by then.
pub const AGREEMENT_WAIT: Duration = Duration::from_secs(5);

/// An object of the lake that is read into memory (a registry, a description). Unit: bytes.
pub const LAKE_OBJECT_BYTES_MAX: u64 = 16 << 20;

/// Age at which a segment is sealed while the pod is about to end: the application may still write, and what is left
/// at the end has to fit the end's time.
pub const HURRIED_AGE: Duration = Duration::from_secs(1);

/// How long requests may wait for the lake once the process ends; then they are answered 202. Shorter than
/// [`CONNECTION_DRAIN_WAIT`], so that the answer gets out.
pub const LAKE_WAIT_AT_END: Duration = Duration::from_secs(5);

/// What of a pod's grace period is left for the last answers and the exit, after the buffered rows had their time.
pub const EXIT_MARGIN: Duration = Duration::from_secs(3);

/// What the buffered rows get at least, however late the process is told to end.
pub const DRAIN_WAIT_MIN: Duration = Duration::from_secs(1);

/// How long `started` and `drain` wait for the process that serves.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the end of the process waits for requests that are being answered.
pub const CONNECTION_DRAIN_WAIT: Duration = Duration::from_secs(10);
