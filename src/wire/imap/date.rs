//! INTERNALDATE as an instant (RFC 3501 §9 `date-time`), as real servers write it.
//!
//! Accepted beside the grammar: one-digit days with or without the leading blank, second 60, and `GMT`, `UT`, `UTC` or `Z` as zone.

/// The instant that `raw` (the text between the quotes, `17-Jul-1996 02:44:25 -0700`) names, in seconds since 1970-01-01T00:00:00Z.
///
/// `None` for anything that names no instant: NIL, a day that the month doesn't have, an hour 24.
#[must_use]
pub fn instant(raw: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(raw).ok()?;
    let mut words = text.split_ascii_whitespace();
    let (date, time, zone) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    Some(days(date)? * 86_400 + seconds(time)? - offset(zone)?)
}

/// `raw` as a client may write it (RFC 3501 §9 `date-time`), with the zone it has: `17-Jul-1996 02:44:25 -0700`.
///
/// `None` where [`instant`] gives none.
#[must_use]
pub fn date_time(raw: &[u8]) -> Option<String> {
    instant(raw)?;
    let mut words = std::str::from_utf8(raw).ok()?.split_ascii_whitespace();
    let (date, time, zone) = (words.next()?, words.next()?, words.next()?);
    let (day, rest) = date.split_once('-')?;
    let time: Vec<&str> = time.split(':').collect();
    let [hour, minute, second] = time.as_slice() else { return None };
    // No grammar forbids a leap second; servers do.
    let second = if *second == "60" { "59" } else { second };
    let zone = if zone.starts_with(['+', '-']) { zone } else { "+0000" };
    Some(format!("{day:0>2}-{rest} {hour:0>2}:{minute:0>2}:{second:0>2} {zone}"))
}

/// An instant as RFC 3501 §9 `date-time`, in UTC; `None` where its year has not four digits.
#[must_use]
pub fn utc(seconds: i64) -> Option<String> {
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let month = MONTHS.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    let second = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    (0..=9999).contains(&year).then(|| format!("{day:02}-{month}-{year:04} {hour:02}:{minute:02}:{second:02} +0000"))
}

/// Year, month and day of the month that lie so many days behind 1970-01-01.
#[must_use]
pub const fn civil(days: i64) -> (i64, i64, i64) {
    // Days since 0000-03-01 in eras of 400 years, whose years begin in March: February's length is no matter then.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + if month <= 2 { 1 } else { 0 }, month, day)
}

/// Days from 1970-01-01 to a date `7-Jul-1996`.
fn days(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 {
        return None;
    }
    let (day, month, year) = (number(day, 2)?, month_number(month)?, number(year, 4)?);
    if day < 1 || day > month_length(year, month) {
        return None;
    }
    // Years counted from March, so that the leap day is the last of its year; then whole 400-year eras of 146,097 days.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn month_number(name: &str) -> Option<i64> {
    let at = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))?;
    i64::try_from(at).ok().map(|at| at + 1)
}

fn month_length(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Seconds since midnight of `02:44:25`.
fn seconds(time: &str) -> Option<i64> {
    let mut parts = time.split(':').map(|part| number(part, 2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(hour * 3600 + minute * 60 + second)
}

/// Seconds east of Greenwich of `-0700`.
fn offset(zone: &str) -> Option<i64> {
    if ["GMT", "UT", "UTC", "Z"].iter().any(|name| name.eq_ignore_ascii_case(zone)) {
        return Some(0);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_at_checked(2).filter(|(_, minutes)| minutes.len() == 2)?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// A number of one to `most` digits and nothing else.
fn number(text: &str, most: usize) -> Option<i64> {
    let plain = !text.is_empty() && text.len() <= most && text.bytes().all(|octet| octet.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{date_time, instant, utc};

    #[test]
    fn an_instant_is_written_so_that_it_is_read_back() {
        for (seconds, text) in [
            (0, "01-Jan-1970 00:00:00 +0000"),
            (-1, "31-Dec-1969 23:59:59 +0000"),
            (1_709_208_000, "29-Feb-2024 12:00:00 +0000"),
        ] {
            assert_eq!(utc(seconds).as_deref(), Some(text));
            assert_eq!(instant(text.as_bytes()), Some(seconds));
        }
        assert_eq!(utc(i64::from(u32::MAX) * 1000), None, "a year of more digits");
    }

    #[test]
    fn dates_as_servers_write_them() {
        for (raw, expected) in [
            ("01-Jan-1970 00:00:00 +0000", 0),
            ("17-Jul-1996 02:44:25 -0700", 837_596_665),
            (" 7-Jul-1996 02:44:25 -0700", 836_732_665),
            ("7-jul-1996 02:44:25 -0700", 836_732_665),
            ("07-Jul-1996 09:44:25 GMT", 836_732_665),
            ("29-Feb-2000 23:59:59 +0000", 951_868_799),
            ("31-Dec-2016 23:59:60 +0000", 1_483_228_800),
            ("01-Mar-2100 00:00:00 +1400", 4_107_492_000),
            ("31-Dec-1969 23:59:59 +0000", -1),
            ("01-Jan-0001 00:00:00 +0000", -62_135_596_800),
            ("12-Jan-2024 05:30:00 +0530", 1_705_017_600),
        ] {
            assert_eq!(instant(raw.as_bytes()), Some(expected), "{raw}");
        }
    }

    #[test]
    fn a_date_is_written_as_the_grammar_wants_it_with_its_own_zone() {
        for (raw, expected) in [
            ("17-Jul-1996 02:44:25 -0700", "17-Jul-1996 02:44:25 -0700"),
            (" 7-Jul-1996 2:4:5 +0530", "07-Jul-1996 02:04:05 +0530"),
            ("7-jul-1996 02:44:25 GMT", "07-jul-1996 02:44:25 +0000"),
            ("31-Dec-2016 23:59:60 +0000", "31-Dec-2016 23:59:59 +0000"),
        ] {
            assert_eq!(date_time(raw.as_bytes()).as_deref(), Some(expected), "{raw}");
        }
        assert_eq!(date_time(b"NIL"), None);
    }

    #[test]
    fn what_names_no_instant() {
        for raw in [
            "",
            "NIL",
            "00-Jan-2000 00:00:00 +0000",
            "30-Feb-2000 00:00:00 +0000",
            "29-Feb-1900 00:00:00 +0000",
            "01-Jan-2000 24:00:00 +0000",
            "01-Jan-2000 00:60:00 +0000",
            "01-Jan-2000 00:00:61 +0000",
            "01-Jan-2000 00:00:00",
            "01-Jan-2000 00:00:00 +00000",
            "01-Jan-2000 00:00:00 0000",
            "01-Jan-2000 00:00:00 +0060",
            "01-Jan-2000 00:00:00 +0000 x",
            "01-Jan-96 00:00:00 +0000",
            "01-Foo-2000 00:00:00 +0000",
            "001-Jan-2000 00:00:00 +0000",
            "+1-Jan-2000 00:00:00 +0000",
            "01-Jan-2000 00:00:00 +\u{e4}00",
        ] {
            assert_eq!(instant(raw.as_bytes()), None, "{raw}");
        }
        assert_eq!(instant(b"01-Jan-2000 00:00:00 \xff"), None);
    }
}
