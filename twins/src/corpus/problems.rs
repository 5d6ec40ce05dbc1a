//! Arithmetic word problems of one to four steps, in GSM8K's form.

use super::{Document, ProblemItem, Side, on_side};
use crate::random::Random;
use std::fmt::Write as _;

/// Largest number that occurs.
pub const MOST: u32 = 200;

const GIRLS: [&str; 10] = ["Ann", "Mia", "Lucy", "Sara", "Emma", "Nora", "Ruth", "Kate", "Lena", "Rosa"];
const BOYS: [&str; 10] = ["Tom", "Ben", "Sam", "Max", "Leo", "Paul", "Jack", "Adam", "Finn", "Carl"];
const THINGS: [&str; 16] = [
    "apples", "books", "marbles", "coins", "cards", "pens", "shells", "stamps", "eggs", "stones", "cookies", "flowers",
    "balls", "stickers", "beads", "oranges",
];
const HOLDERS: [&str; 6] = ["boxes", "bags", "baskets", "jars", "bowls", "drawers"];

/// What is done to the number so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Add,
    Sub,
    Mul,
    Div,
}

impl Op {
    fn sign(self) -> char {
        match self {
            Op::Add => '+',
            Op::Sub => '-',
            Op::Mul => '*',
            Op::Div => '/',
        }
    }

    fn apply(self, left: u32, right: u32) -> u32 {
        match self {
            Op::Add => left + right,
            Op::Sub => left - right,
            Op::Mul => left * right,
            Op::Div => left / right,
        }
    }
}

/// One problem: a chain of operations and its wording.
#[derive(Clone, Debug)]
pub struct Problem {
    start: u32,
    steps: Vec<(Op, u32)>,
    question: String,
    answer: String,
}

/// What stands before the answer, in training as in a suite.
#[must_use]
pub fn prompt(question: &str) -> String {
    format!("Question: {question}\nAnswer:")
}

/// Draws a problem of `side`.
pub fn draw(random: &mut Random, side: Side) -> Problem {
    let (start, steps) = on_side(side, || chain(random), |(start, steps)| key(*start, steps));
    let (question, answer) = Words::draw(random).tell(random, start, &steps);
    Problem { start, steps, question, answer }
}

impl Problem {
    /// The chain of operations, such as `12+7-5`: names, things and wording apart.
    #[must_use]
    pub fn key(&self) -> String {
        key(self.start, &self.steps)
    }

    /// The text to train on.
    #[must_use]
    pub fn document(&self) -> Document {
        Document { text: format!("{} {}", prompt(&self.question), self.answer), key: self.key() }
    }

    /// The last number.
    #[must_use]
    pub fn result(&self) -> u32 {
        self.steps.iter().fold(self.start, |value, &(op, by)| op.apply(value, by))
    }

    /// As a line of `problems_test.jsonl`.
    #[must_use]
    pub fn item(&self, id: usize) -> ProblemItem {
        let (question, answer) = (self.question.clone(), self.answer.clone());
        ProblemItem { id, question, answer, last: self.result().to_string() }
    }
}

fn key(start: u32, steps: &[(Op, u32)]) -> String {
    steps.iter().fold(start.to_string(), |mut key, (op, by)| {
        let _ = write!(key, "{}{by}", op.sign());
        key
    })
}

/// A chain whose numbers stay from 0 to [`MOST`]: products come first, a quotient last, and nothing is left over.
fn chain(random: &mut Random) -> (u32, Vec<(Op, u32)>) {
    let length = *random.pick(&[1, 1, 1, 2, 2, 2, 3, 3, 3, 4]);
    let product = random.between(1, 3) == 1;
    let start = if product { random.between(2, 9) } else { random.between(2, 40) };
    let (mut value, mut steps) = (start, Vec::with_capacity(length));
    while steps.len() < length {
        let divisors: Vec<u32> = (2..=6).filter(|by| value % by == 0 && value > *by).collect();
        let (op, by) = if product && steps.is_empty() {
            (Op::Mul, random.between(2, 12))
        } else if steps.len() + 1 == length && !divisors.is_empty() && random.between(1, 3) == 1 {
            (Op::Div, *random.pick(&divisors))
        } else if random.between(0, 1) == 0 && value + 20 <= MOST {
            (Op::Add, random.between(2, 20))
        } else if value >= 2 {
            (Op::Sub, random.between(1, value.min(20)))
        } else {
            (Op::Add, random.between(2, 20))
        };
        value = op.apply(value, by);
        steps.push((op, by));
    }
    (start, steps)
}

/// Who and what a problem is about.
struct Words {
    name: &'static str,
    he: &'static str,
    him: &'static str,
    other: &'static str,
    thing: &'static str,
    holder: &'static str,
}

impl Words {
    fn draw(random: &mut Random) -> Self {
        let girl = random.between(0, 1) == 0;
        let (names, others) = if girl { (&GIRLS, &BOYS) } else { (&BOYS, &GIRLS) };
        let (he, him) = if girl { ("She", "her") } else { ("He", "him") };
        Self {
            name: *random.pick(names.as_slice()),
            he,
            him,
            other: *random.pick(others.as_slice()),
            thing: *random.pick(&THINGS),
            holder: *random.pick(&HOLDERS),
        }
    }

    /// Question and answer.
    fn tell(&self, random: &mut Random, start: u32, steps: &[(Op, u32)]) -> (String, String) {
        let Words { name, he, thing, holder, .. } = self;
        let (mut question, mut answer, mut value) = (String::new(), String::new(), start);
        if steps[0].0 != Op::Mul {
            question = format!("{name} has {start} {thing}.");
        }
        for (nth, &(op, by)) in steps.iter().enumerate() {
            let sentence = match op {
                Op::Mul => format!("{name} has {start} {holder} with {by} {thing} in each."),
                Op::Add => self.more(random, by),
                Op::Sub => self.fewer(random, by),
                Op::Div => format!("{he} shares them equally among {by} friends."),
            };
            question.push_str(if question.is_empty() { "" } else { " " });
            question.push_str(&sentence);
            let result = op.apply(value, by);
            let sum = format!("{value}{}{by}", op.sign());
            let who = match (op, nth) {
                (Op::Div, _) => "Each friend gets".to_owned(),
                (_, 0) => format!("{name} has"),
                _ => format!("Then {name} has"),
            };
            let _ = writeln!(answer, "{who} {sum}=<<{sum}={result}>>{result} {thing}.");
            value = result;
        }
        let asked = match steps.last() {
            Some((Op::Div, _)) => format!(" How many {thing} does each friend get?"),
            Some((Op::Mul, _)) => format!(" How many {thing} does {name} have?"),
            _ => {
                format!(
                    " How many {thing} does {name} have {}?",
                    random.pick(&["now", "in the end", "left after that"])
                )
            }
        };
        question.push_str(&asked);
        let _ = write!(answer, "#### {value}");
        (question, answer)
    }

    fn more(&self, random: &mut Random, by: u32) -> String {
        let Words { he, him, other, thing, .. } = self;
        match random.between(0, 4) {
            0 => format!("{he} buys {by} more {thing}."),
            1 => format!("{other} gives {him} {by} {thing}."),
            2 => format!("{he} finds {by} {thing}."),
            3 => format!("{he} gets {by} more {thing} from {other}."),
            _ => format!("Then {other} brings {by} more."),
        }
    }

    fn fewer(&self, random: &mut Random, by: u32) -> String {
        let Words { he, other, thing, .. } = self;
        match random.between(0, 4) {
            0 => format!("{he} gives {by} {thing} to {other}."),
            1 => format!("{he} loses {by} {thing}."),
            2 => format!("{he} sells {by} of them."),
            3 => format!("{other} takes {by} {thing} away."),
            _ => format!("Then {by} of the {thing} break."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_right_and_the_last_line_is_the_result() {
        let mut random = Random::new(1, "test");
        for _ in 0..5000 {
            let problem = draw(&mut random, Side::Train);
            let text = problem.document().text;
            let steps: Vec<&str> = text.split("<<").skip(1).map(|part| part.split(">>").next().unwrap()).collect();
            assert!((1..=4).contains(&steps.len()), "{text}");
            for step in steps {
                let (sum, result) = step.split_once('=').unwrap();
                let at = sum.find(['+', '-', '*', '/']).unwrap();
                let (left, right): (u32, u32) = (sum[..at].parse().unwrap(), sum[at + 1..].parse().unwrap());
                let value = match &sum[at..=at] {
                    "+" => left + right,
                    "-" => left - right,
                    "*" => left * right,
                    _ => left / right,
                };
                assert_eq!(value.to_string(), result, "{text}");
                assert!(value <= MOST, "{text}");
            }
            assert!(text.ends_with(&format!("#### {}", problem.result())), "{text}");
        }
    }

    #[test]
    fn a_key_is_the_chain() {
        assert_eq!(key(12, &[(Op::Add, 7), (Op::Div, 19)]), "12+7/19");
    }
}
