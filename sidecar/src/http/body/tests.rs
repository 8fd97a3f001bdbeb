//! Bodies that arrive whole, in parts, and never.

use futures::{FutureExt, StreamExt, stream};

use super::*;

fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), http::HeaderValue::from_static(value))).collect()
}

#[test]
fn what_curl_sends_by_itself_is_json() {
    assert_eq!(format_of(&headers(&[])).ok(), Some(Format::Json));
    let form = headers(&[(header::CONTENT_TYPE, "application/x-www-form-urlencoded")]);
    assert_eq!(format_of(&form).ok(), Some(Format::Json));
    let lines = headers(&[(header::CONTENT_TYPE, "application/x-ndjson; charset=utf-8")]);
    assert_eq!(format_of(&lines).ok(), Some(Format::Ndjson));
    let csv = headers(&[(header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present")]);
    assert_eq!(format_of(&csv).ok(), Some(Format::Csv));
    for refused in ["text/csv; header=absent", "text/csv;charset=ISO-8859-1"] {
        assert!(format_of(&headers(&[(header::CONTENT_TYPE, refused)])).is_err(), "{refused}");
    }
}

#[test]
fn other_types_and_encodings_are_refused() {
    assert!(format_of(&headers(&[(header::CONTENT_TYPE, "text/tab-separated-values")])).is_err());
    let coding = |values: &[&'static str]| {
        let values: Vec<_> = values.iter().map(|value| (header::CONTENT_ENCODING, *value)).collect();
        coding_of(&headers(&values)).ok()
    };
    assert_eq!(coding(&[]), Some(ContentCoding::Identity));
    assert_eq!(coding(&["identity"]), Some(ContentCoding::Identity));
    assert_eq!(coding(&["GZip"]), Some(ContentCoding::Gzip));
    assert_eq!(coding(&["x-gzip"]), Some(ContentCoding::Gzip));
    assert_eq!(coding(&["zstd"]), Some(ContentCoding::Zstd));
    for values in [&["br"][..], &[""], &["gzip, zstd"], &["gzip", "identity"]] {
        assert_eq!(coding(values), None, "{values:?}");
    }
}

/// A body of frames of one mebibyte, of which `arrived` arrive and then nothing more, or its end.
fn body(arrived: usize, has_end: bool) -> Body {
    let frame = Bytes::from(vec![b'x'; 1 << 20]);
    let frames = stream::iter(std::iter::repeat_n(frame, arrived)).map(Ok::<_, std::io::Error>);
    if has_end { Body::from_stream(frames) } else { Body::from_stream(frames.chain(stream::pending())) }
}

fn of_length(length: usize) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_LENGTH, length.into())])
}

fn kind<T>(received: Result<T, Problem>) -> Option<ProblemKind> {
    received.err().map(|problem| problem.kind())
}

#[tokio::test]
async fn bodies_that_never_come_take_no_room_from_one_that_does() {
    let in_flight = InFlight::new(BODY_BYTES_MAX, Duration::ZERO);
    let headers = of_length(BODY_BYTES_MAX);
    let mut silent: Vec<_> = (0..16).map(|_| Box::pin(in_flight.receive(&headers, body(0, false)))).collect();
    for receiving in &mut silent {
        assert!(futures::poll!(receiving).is_pending());
    }
    let received = in_flight.receive(&headers, body(8, true)).await.expect("there is room");
    assert_eq!(received.len(), BODY_BYTES_MAX);
}

#[tokio::test]
async fn a_body_that_finds_no_room_is_refused_and_frees_what_it_had() {
    let in_flight = InFlight::new(BODY_BYTES_MAX + (4 << 20), Duration::ZERO);
    let headers = HeaderMap::new();
    let mut half = Box::pin(in_flight.receive(&headers, body(3, false)));
    assert!(futures::poll!(&mut half).is_pending());
    // One mebibyte of the shared room, then the last room.
    let last = in_flight.receive(&headers, body(8, true)).await.expect("one body always finds room");
    assert_eq!(in_flight.steps.available_permits(), 0);
    assert_eq!(kind(in_flight.receive(&headers, body(1, true)).await), Some(ProblemKind::Busy));
    drop(last);
    assert_eq!(in_flight.steps.available_permits(), (1 << 20) / STEP_BYTES);
    let two = in_flight.receive(&headers, body(2, true)).await.expect("the room is free again");
    assert_eq!(kind(in_flight.receive(&headers, body(2, true)).await), Some(ProblemKind::Busy));
    drop((half, two));
    assert_eq!(in_flight.steps.available_permits(), (4 << 20) / STEP_BYTES);
    assert_eq!(in_flight.last.available_permits(), 1);
}

#[tokio::test]
async fn i12_a_body_has_its_room_for_as_long_as_a_part_of_it_lives() {
    let in_flight = InFlight::new(BODY_BYTES_MAX + (4 << 20), Duration::ZERO);
    let received = in_flight.receive(&HeaderMap::new(), body(4, true)).await.expect("there is room");
    let part = received.slice(7..8);
    drop(received);
    assert_eq!((part.as_ref(), in_flight.steps.available_permits()), (&b"x"[..], 0));
    drop(part);
    assert_eq!(in_flight.steps.available_permits(), (4 << 20) / STEP_BYTES);
}

/// Each has a part of the room and needs more than is left: without the last room all of them would be refused.
#[tokio::test]
async fn bodies_that_fill_the_room_together_are_all_received() {
    let in_flight = InFlight::new(IN_FLIGHT_BODY_BYTES_MAX, IN_FLIGHT_WAIT_MAX);
    let headers = HeaderMap::new();
    let received = stream::iter((0..32).map(|_| in_flight.receive(&headers, Body::from_stream(yielding(8)))));
    let mut received = received.buffer_unordered(32);
    let mut count = 0;
    while let Some(one) = received.next().await {
        assert_eq!(one.expect("there is room in turn").len(), BODY_BYTES_MAX);
        count += 1;
    }
    assert_eq!(count, 32);
}

/// Frames of one mebibyte, with others' turns between them.
fn yielding(count: usize) -> impl futures::Stream<Item = std::io::Result<Bytes>> {
    let frame = Bytes::from(vec![b'x'; 1 << 20]);
    stream::iter(0..count).then(move |_| {
        let frame = frame.clone();
        tokio::task::yield_now().map(|()| Ok(frame))
    })
}

#[tokio::test]
async fn a_body_that_is_longer_than_the_bound_is_refused_with_and_without_its_length() {
    let in_flight = InFlight::default();
    let declared = in_flight.receive(&of_length(BODY_BYTES_MAX + 1), body(0, false)).await;
    assert_eq!(kind(declared), Some(ProblemKind::TooLarge));
    assert_eq!(kind(in_flight.receive(&HeaderMap::new(), body(9, false)).await), Some(ProblemKind::TooLarge));
}
