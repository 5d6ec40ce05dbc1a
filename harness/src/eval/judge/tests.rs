use super::*;

#[test]
fn gsm8k_by_hand() {
    for (answer, strict, flexible) in [
        ("so 3+4=<<3+4=7>>7.\n#### 7", "7", "7"),
        ("#### 1,234.\n#### 9", "1,234.", "9"),
        ("#### $5", INVALID, "$5"),
        ("nothing", INVALID, INVALID),
        ("It is -12.", INVALID, "-12."),
        ("#### -0.5 and 3", "-0.5", "3"),
    ] {
        assert_eq!((gsm8k_strict(answer).as_str(), gsm8k_flexible(answer).as_str()), (strict, flexible), "{answer}");
    }
    assert!(gsm8k_equal("7", "3+4=7\n#### 7") && gsm8k_equal("1,234.", "#### 1234") && gsm8k_equal("$5", "x #### 5"));
    assert!(!gsm8k_equal("70", "#### 7") && !gsm8k_equal(INVALID, "#### 7") && !gsm8k_equal("7.0", "#### 7"));
}
