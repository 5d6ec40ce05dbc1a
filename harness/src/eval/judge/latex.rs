//! Answers of MATH: the last box, and notation made alike, after lm-evaluation-harness (commit 4e7e0d47,
//! `tasks/hendrycks_math/utils.py`). Where its code raises an exception, texts are compared as they are.

/// The content of the last `\boxed{..}` with its braces even, or of a last `\boxed x` up to a `$`. `None` without one.
pub fn last_boxed(text: &str) -> Option<&str> {
    const OPEN: &str = "\\boxed ";
    if let Some(at) = text.rfind(OPEN) {
        let rest = &text[at + OPEN.len()..];
        return Some(rest.split('$').next().unwrap_or(rest));
    }
    let start = text.rfind("\\boxed")?;
    let mut depth = 0i64;
    for (at, byte) in text.bytes().enumerate().skip(start) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return text[start..at].strip_prefix("\\boxed{");
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether two answers are the same up to notation (`is_equiv`).
pub fn equivalent(one: &str, other: &str) -> bool {
    match (normalised(one), normalised(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// An answer in the notation that answers are compared in (`strip_string`); `None` where that fails.
pub fn normalised(text: &str) -> Option<String> {
    let mut text = text.to_owned();
    for (from, to) in [
        ("\n", ""),
        ("\\!", ""),
        ("\\\\", "\\"),
        ("tfrac", "frac"),
        ("dfrac", "frac"),
        ("\\left", ""),
        ("\\right", ""),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("\\$", ""),
    ] {
        text = text.replace(from, to);
    }
    text = without_units(&text)?;
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.");
    if text.is_empty() {
        return Some(text);
    }
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    // `k = 5`: a short name before the only `=`.
    if let [name, value] = text.split('=').collect::<Vec<_>>()[..]
        && name.chars().count() <= 2
    {
        text = value.to_owned();
    }
    text = with_braced_roots(&text)?.replace(' ', "");
    text = with_braced_fractions(&text)?;
    if text == "0.5" {
        text = "\\frac{1}{2}".to_owned();
    }
    quotient(&text)
}

/// Without a unit: what follows the only `\text{ ` (`remove_right_units`).
fn without_units(text: &str) -> Option<String> {
    match text.split("\\text{ ").collect::<Vec<_>>()[..] {
        [_] => Some(text.to_owned()),
        [value, _] => Some(value.to_owned()),
        _ => None,
    }
}

/// `\sqrt3` as `\sqrt{3}` (`fix_sqrt`).
fn with_braced_roots(text: &str) -> Option<String> {
    let mut parts = text.split("\\sqrt");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let first = part.chars().next()?;
        out.push_str("\\sqrt");
        match first {
            '{' => out.push_str(part),
            radicand => out.push_str(&format!("{{{radicand}}}{}", &part[radicand.len_utf8()..])),
        }
    }
    Some(out)
}

/// `\frac12` and `\frac1{72}` with braces (`fix_fracs`).
fn with_braced_fractions(text: &str) -> Option<String> {
    let mut parts = text.split("\\frac");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut chars = part.chars();
        let first = chars.next()?;
        out.push_str("\\frac");
        if first == '{' {
            out.push_str(part);
            continue;
        }
        let Some(second) = chars.next() else { return Some(text.to_owned()) };
        let rest = chars.as_str();
        match second {
            '{' => out.push_str(&format!("{{{first}}}{{{rest}")),
            _ => out.push_str(&format!("{{{first}}}{{{second}}}{rest}")),
        }
    }
    Some(out)
}

/// `3/4` as a fraction (`fix_a_slash_b`); `None` where one side is no whole number, which Python's `int` refuses.
fn quotient(text: &str) -> Option<String> {
    let [over, under] = text.split('/').collect::<Vec<_>>()[..] else { return Some(text.to_owned()) };
    match (whole(over)?, whole(under)?) {
        (true, true) => Some(format!("\\frac{{{over}}}{{{under}}}")),
        _ => Some(text.to_owned()),
    }
}

/// Whether a whole number is written as Python writes it; `None` if Python's `int` reads no number.
fn whole(text: &str) -> Option<bool> {
    let trimmed = text.trim();
    let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    let plain = !digits.is_empty()
        && digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    if !plain {
        return None;
    }
    let canonical = digits == "0" || !digits.starts_with('0');
    let signed = text.strip_prefix('-').unwrap_or(text);
    Some(canonical && signed == digits && !digits.contains('_') && text != "-0")
}
