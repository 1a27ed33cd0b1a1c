use super::*;
use crate::model::DEFAULT_TEXT_FORMAT;
use std::time::Duration;

#[test]
fn istios_default_format_is_understood() {
    Format::parse(DEFAULT_TEXT_FORMAT).unwrap();
}

#[test]
fn wrong_formats_say_what_is_wrong() {
    for (format, says) in [
        ("%REQ(", "no closing `%`"),
        ("%NOPE%", "`%NOPE%` is not an operator"),
        ("%REQ%", "no name"),
        ("%REQ(A%", "no closing parenthesis"),
        ("%REQ(A):x%", "no number"),
        ("%REQ(A)x%", "something follows"),
        ("%RESP(bad name)%", "not a header name"),
        ("%REQ(a?b?c)%", "not a header name"),
        ("%DURATION(x)%", "takes no argument"),
        ("%START_TIME(%!)%", "strftime"),
        ("%START_TIME(%Y%", "no argument"),
    ] {
        let error = Format::parse(format).unwrap_err().to_string();
        assert!(error.contains(says), "{format}: {error}");
    }
}

#[test]
fn two_percent_signs_are_one() {
    let format = Format::parse("100%% %DURATION%").unwrap();
    assert!(matches!(&format.steps[0], Step::Literal(text) if text == "100% "));
    assert_eq!(format.steps.len(), 2);
}

#[test]
fn text_from_outside_cannot_forge_a_line() {
    let mut out = Vec::new();
    Line { out: &mut out }.escaped(b"a\"b\nc\\d\x7f\xff");
    assert_eq!(out, br"a\x22b\x0ac\x5cd\x7f\xff");
}

#[test]
fn start_times_have_milliseconds_and_follow_the_second() {
    let mut times = StartTimes::default();
    let mut out = Vec::new();
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_903_999_007);
    times.write(&mut out, at);
    times.write(&mut out, at + Duration::from_secs(1));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "2026-01-31T23:59:59.007Z2026-02-01T00:00:00.007Z"
    );
}

#[test]
fn a_start_time_may_have_a_format_of_its_own() {
    let format = Format::parse("at %START_TIME(%Y/%m/%d %H:%M:%S.%3f %s)%: %DURATION%").unwrap();
    let Step::StartTime(start_time) = &format.steps[1] else {
        panic!("{:?}", format.steps)
    };
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_903_999_007);
    let mut out = Vec::new();
    Line { out: &mut out }.start_time(start_time, Some(at));
    assert_eq!(out, b"2026/01/31 23:59:59.007 1769903999");
    assert_eq!(format.steps.len(), 4);
}

#[test]
fn details_are_one_word() {
    let mut out = Vec::new();
    Line { out: &mut out }.word_or_dash("no such \"thing\"");
    Line { out: &mut out }.word_or_dash("");
    assert_eq!(out, br"no_such_\x22thing\x22-");
}
