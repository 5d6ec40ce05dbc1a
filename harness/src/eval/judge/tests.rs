use super::*;

const GSM8K: &str = include_str!("../../../tests/fixtures/judge/gsm8k.txt");
const EQUAL: &str = include_str!("../../../tests/fixtures/judge/math_equal.txt");
const BOXED: &str = include_str!("../../../tests/fixtures/judge/math_boxed.txt");

/// The fields of a fixture's lines.
fn rows<const N: usize>(fixture: &str) -> Vec<[String; N]> {
    let lines = fixture.split('\n').filter(|line| !line.is_empty() && !line.starts_with("//"));
    let fields = |line: &str| line.split(" | ").map(|field| field.replace('⏎', "\n")).collect::<Vec<_>>();
    lines.map(|line| fields(line).try_into().unwrap_or_else(|_| panic!("{N} fields: {line}"))).collect()
}

fn sign(right: bool) -> char {
    if right { 'y' } else { 'n' }
}

#[test]
fn gsm8k_as_checked_by_hand() {
    let rows = rows::<5>(GSM8K);
    assert!(rows.len() >= 200);
    for [output, target, strict, flexible, right] in rows {
        let found = gsm8k(&output, &target);
        assert_eq!((&found.strict.extracted, &found.flexible.extracted), (&strict, &flexible), "{output}");
        let signs: String = [found.strict.right, found.flexible.right].map(sign).iter().collect();
        assert_eq!(signs, right, "{output} against {target}");
    }
}

#[test]
fn math_as_checked_by_hand() {
    let rows = rows::<3>(EQUAL);
    assert!(rows.len() >= 200);
    for [candidate, target, right] in rows {
        assert_eq!(sign(equivalent(&candidate, &target)).to_string(), right, "{candidate} against {target}");
        assert_eq!(sign(equivalent(&target, &candidate)).to_string(), right, "{target} against {candidate}");
        let output = format!("So the answer is $\\boxed{{{candidate}}}$.");
        let expected = Judged { right: right == "y", extracted: candidate };
        assert_eq!(math(&output, &target), expected);
    }
}

#[test]
fn boxes_as_checked_by_hand() {
    for [output, taken] in rows::<2>(BOXED) {
        let output = output.strip_prefix('!').unwrap_or(&output);
        assert_eq!(boxed(output).unwrap_or("[none]"), taken, "{output}");
    }
}

#[test]
fn without_a_box_it_is_wrong() {
    let judged = math("The answer is $5$", "5");
    assert_eq!(judged, Judged { extracted: INVALID.to_owned(), right: false });
    assert!(!math(INVALID, INVALID).right);
}

#[test]
fn a_point_before_the_last_line_break_is_dropped() {
    assert!(gsm8k("[invalid]", "[invalid].").strict.right);
    // The line break itself stays.
    assert!(!gsm8k("18", "#### 18.\n").flexible.right);
}

#[test]
fn integers_are_those_of_python() {
    for (text, expected) in [("1/2", "\\frac{1}{2}"), ("-1/0", "\\frac{-1}{0}"), ("1_0/2", "1_0/2"), ("+1/2", "+1/2")] {
        assert!(equivalent(text, expected), "{text}");
    }
    let long = "1".repeat(4301);
    assert!(!equivalent(&format!("{long} /2"), &format!("{long}/2")));
    let long = "1".repeat(4300);
    assert!(equivalent(&format!("{long} /2"), &format!("\\frac{{{long}}}{{2}}")));
}
