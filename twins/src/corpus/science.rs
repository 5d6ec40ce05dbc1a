//! Science questions from the table of facts, in ARC's form.
//!
//! Of the eight questions for a fact some are held out, at least four are trained on, so that every fact is in training in
//! other words and no held-out question is.

use super::facts::{Relation, TABLES, Table};
use super::{Document, ScienceItem, Side};
use crate::random::{Random, hash};

/// One combination of subject and question.
struct Asked {
    key: String,
    question: String,
    answer: &'static str,
    side: Side,
}

/// Most questions of a fact that may be held out.
const MOST_HELD_OUT: usize = 4;
/// Choices of an item.
const CHOICES: usize = 4;

/// What stands before the answer, in training as in a suite.
#[must_use]
pub fn prompt(question: &str) -> String {
    format!("Question: {question}\nAnswer:")
}

/// All that is trained on: questions with their answers, and statements.
#[must_use]
pub fn documents() -> Vec<Document> {
    let mut documents = Vec::new();
    for (table, relation, column) in columns() {
        for row in table.rows {
            for asked in asked(relation, row[0], row[column]).into_iter().filter(|a| a.side == Side::Train) {
                documents
                    .push(Document { text: format!("{} {}", prompt(&asked.question), asked.answer), key: asked.key });
            }
            for (nth, form) in relation.statements.iter().enumerate() {
                let text = form.replace("{s}", row[0]).replace("{v}", row[column]);
                documents.push(Document { text, key: format!("{}|{}|statement {nth}", row[0], relation.name) });
            }
        }
    }
    documents
}

/// Every held-out question, with four choices in an order of its own.
///
/// # Panics
/// If a relation has fewer than four values, which the tests rule out.
#[must_use]
pub fn test_items() -> Vec<ScienceItem> {
    let mut items = Vec::new();
    for (table, relation, column) in columns() {
        let mut values: Vec<&str> = table.rows.iter().map(|row| row[column]).collect();
        values.extend(extra(relation));
        values.sort_unstable();
        values.dedup();
        for row in table.rows {
            for asked in asked(relation, row[0], row[column]).into_iter().filter(|a| a.side == Side::Test) {
                let mut random = Random::new(hash(&asked.key), "choices");
                let mut others: Vec<&str> = values.iter().copied().filter(|value| *value != asked.answer).collect();
                random.shuffle(&mut others);
                let mut choices: Vec<&str> = others[..CHOICES - 1].to_vec();
                let answer = random.between(0, CHOICES as u32 - 1) as usize;
                choices.insert(answer, asked.answer);
                let choices = choices.into_iter().map(str::to_owned).collect();
                items.push(ScienceItem { id: asked.key, question: asked.question, choices, answer });
            }
        }
    }
    items
}

/// States of matter are three: the fourth choice.
fn extra(relation: &Relation) -> Option<&'static str> {
    (relation.name == "state").then_some("plasma")
}

fn columns() -> impl Iterator<Item = (&'static Table, &'static Relation, usize)> {
    static ALL: [Table; 4] = TABLES;
    ALL.iter().flat_map(|table| table.relations.iter().enumerate().map(move |(nth, r)| (table, r, nth + 1)))
}

/// The eight questions for a fact, by the hash of their keys on one side or the other.
fn asked(relation: &Relation, subject: &str, value: &'static str) -> Vec<Asked> {
    let mut held_out = 0;
    let ask = |(nth, form): (usize, &&str)| {
        let key = format!("{subject}|{}|{nth}", relation.name);
        let side = match hash(&format!("twins/{key}")) % 5 {
            0 | 1 if held_out < MOST_HELD_OUT => Side::Test,
            _ => Side::Train,
        };
        held_out += usize::from(side == Side::Test);
        Asked { key, question: form.replace("{s}", subject), answer: value, side }
    };
    relation.questions.iter().enumerate().map(ask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_fact_of_the_test_is_trained_on_in_four_other_questions() {
        let trained: Vec<String> = documents().into_iter().map(|document| document.key).collect();
        for item in test_items() {
            let fact = item.id.rsplit_once('|').unwrap().0;
            let prefix = format!("{fact}|");
            let questions = trained.iter().filter(|k| k.starts_with(&prefix) && !k.contains("statement")).count();
            assert!(questions >= 4, "{fact}: {questions}");
        }
    }

    #[test]
    fn choices_are_four_different_ones_and_answers_lie_everywhere() {
        let mut places = [0; CHOICES];
        for item in test_items() {
            assert_eq!(item.choices.iter().collect::<HashSet<_>>().len(), CHOICES, "{}", item.id);
            places[item.answer] += 1;
        }
        assert!(places.iter().all(|&count| count > 80), "{places:?}");
    }

    #[test]
    fn every_row_has_a_value_for_each_relation_and_no_question_is_asked_twice() {
        let mut seen = HashSet::new();
        for (table, relation, column) in columns() {
            for row in table.rows {
                assert_eq!(row.len(), table.relations.len() + 1, "{}", row[0]);
                for asked in asked(relation, row[0], row[column]) {
                    assert!(seen.insert(asked.question.clone()), "{}", asked.question);
                }
            }
        }
    }
}
