//! Values of each type as JSON: whole and broken numbers, texts, times, with extremes among them.
//!
//! Owns: how each is written. Does not own: which record has which (`values`).

use std::fmt::Write as _;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

pub(super) fn whole(random: &mut StdRng) -> String {
    match random.random_range(0..8) {
        0 => i64::MAX.to_string(),
        1 => i64::MIN.to_string(),
        2 => random.random::<i64>().to_string(),
        _ => random.random_range(-1_000..1_000).to_string(),
    }
}

/// With a fraction or an exponent always, so that a column which is inferred is one of doubles.
pub(super) fn real(random: &mut StdRng) -> String {
    match random.random_range(0..12) {
        0 => "1.7976931348623157e308".to_owned(),
        1 => "5e-324".to_owned(),
        2 => "2.2250738585072011E-308".to_owned(),
        3 => "-0.0".to_owned(),
        4 => "9007199254740993.0".to_owned(),
        5 => "0.1000000000000000055511151231257827021181583404541015625".to_owned(),
        6 => format!("{}.0e-{}", random.random::<u64>(), random.random_range(0..300)),
        7 => loop {
            let value = f64::from_bits(random.random());
            if value.is_finite() {
                break format!("{value:e}");
            }
        },
        _ => format!("{}.{}", random.random_range(-1_000..1_000), random.random_range(0..1_000_000)),
    }
}

/// A text of any characters but NUL.
pub(super) fn text(random: &mut StdRng) -> String {
    const PIECES: [&str; 16] = [
        "a",
        "Zürich",
        "\u{1f30a}",
        "\u{e9}",
        "e\u{301}",
        "\"",
        "\\",
        "/",
        "\n",
        "\u{1}",
        "\u{7f}",
        "\u{2028}",
        "\u{fffd}",
        "\u{10ffff}",
        "null",
        "1",
    ];
    let length = random.random_range(0..6);
    (0..length).map(|_| *PIECES.choose(random).expect("there are some")).collect()
}

/// A text as JSON: characters as they are, or escaped.
pub(super) fn quoted(text: &str, random: &mut StdRng) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        let must_be = character < ' ' || matches!(character, '"' | '\\');
        if must_be || random.random_range(0..10) == 0 {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(quoted, "\\u{unit:04x}").expect("a string can be written");
            }
        } else {
            quoted.push(character);
        }
    }
    quoted.push('"');
    quoted
}

pub(super) fn day(random: &mut StdRng) -> String {
    let year = match random.random_range(0..10) {
        0 => 1,
        1 => 9_999,
        2 => 1_582,
        _ => random.random_range(1_900..2_100),
    };
    format!("{year:04}-{:02}-{:02}", random.random_range(1..=12), random.random_range(1..=28))
}

pub(super) fn moment(random: &mut StdRng) -> String {
    // No time of these is before the first or after the last year, whatever its zone.
    let year = random.random_range(2..9_999);
    let zone = match random.random_range(0..3) {
        0 => format!("+{:02}:{:02}", random.random_range(0..24), random.random_range(0..60)),
        1 => format!("-{:02}:{:02}", random.random_range(0..24), random.random_range(0..60)),
        _ => "Z".to_owned(),
    };
    let digits = random.random_range(0..=6);
    let fraction = match digits {
        0 => String::new(),
        _ => format!(".{:0digits$}", random.random_range(0..10_u32.pow(u32::try_from(digits).expect("it is small")))),
    };
    let mut of_day = |below: u32| random.random_range(0..below);
    let (hour, minute, second) = (of_day(24), of_day(60), of_day(60));
    let (month, day) = (1 + of_day(12), 1 + of_day(28));
    format!("\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}\"")
}

pub(super) fn uuid(random: &mut StdRng) -> String {
    let hex = format!("{:032x}", random.random::<u128>());
    let text = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    format!("\"{}\"", if random.random::<bool>() { text.to_uppercase() } else { text })
}

/// With as many digits as the type has or fewer, as a number or as text.
pub(super) fn decimal(precision: u32, scale: u32, random: &mut StdRng) -> String {
    let digits = random.random_range(1..=precision);
    let mut text: String = (0..digits).map(|_| char::from(b'0' + random.random_range(0..10))).collect();
    let scale = usize::try_from(scale).expect("it is small");
    if scale > 0 {
        while text.len() <= scale {
            text.insert(0, '0');
        }
        text.insert(text.len() - scale, '.');
    }
    // JSON has no number that begins with a zero before another digit.
    let trimmed = text.trim_start_matches('0');
    let mut text =
        if trimmed.is_empty() || trimmed.starts_with('.') { format!("0{trimmed}") } else { trimmed.to_owned() };
    if random.random::<bool>() {
        text.insert(0, '-');
    }
    // A whole number beyond 64 bits is no number here: whatever the column, it has to be a text.
    let is_number = text.contains('.') || text.parse::<i64>().is_ok();
    if is_number && random.random::<bool>() { text } else { format!("\"{text}\"") }
}

/// Any JSON up to a depth.
pub(super) fn any(random: &mut StdRng, depth: u32) -> String {
    match random.random_range(0..if depth == 0 { 5 } else { 7 }) {
        0 => "false".to_owned(),
        1 => whole(random),
        2 => real(random),
        3 | 4 => quoted(&text(random), random),
        5 => {
            let length = random.random_range(0..4);
            format!("[{}]", (0..length).map(|_| any(random, depth - 1)).collect::<Vec<_>>().join(", "))
        }
        _ => {
            let length = random.random_range(0..4);
            let members = (0..length).map(|key| {
                format!("{}: {}", quoted(&format!("{key}{}", text(random)), random), any(random, depth - 1))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
    }
}
