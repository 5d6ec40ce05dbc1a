//! Short stories: a wish, something in the way, what follows from it, an end.

use super::{Document, Side, on_side};
use crate::random::Random;

const HEROES: [(&str, &str, &str); 14] = [
    ("Lily", "she", "her"),
    ("Mia", "she", "her"),
    ("Ann", "she", "her"),
    ("Emma", "she", "her"),
    ("Rosa", "she", "her"),
    ("Kate", "she", "her"),
    ("Nora", "she", "her"),
    ("Tom", "he", "his"),
    ("Ben", "he", "his"),
    ("Sam", "he", "his"),
    ("Leo", "he", "his"),
    ("Max", "he", "his"),
    ("Finn", "he", "his"),
    ("Paul", "he", "his"),
];
const FRIENDS: [&str; 8] = ["dog", "cat", "bird", "brother", "sister", "friend", "mother", "father"];
const OPENINGS: [&str; 5] = ["One day", "Once upon a time", "One sunny morning", "Last summer", "On a quiet day"];
const PLACES: [&str; 8] =
    ["the park", "the forest", "the river", "the garden", "the farm", "the beach", "the hill", "the market"];
const WISHES: [&str; 8] = [
    "fly a kite",
    "find a big shell",
    "pick some flowers",
    "build a house of wood",
    "look for birds",
    "play with a red ball",
    "draw a tree",
    "eat a sweet apple",
];
/// What happened, what it led to, and how it was put right.
const TURNS: [(&str, &str, &str); 8] = [
    ("it began to rain", "got very wet", "ran home and sat by the fire"),
    ("the wind was too strong", "lost {his} hat", "looked for the hat behind a tree"),
    ("the sun went down", "could not see the way", "followed the lights of the village"),
    ("there was a deep hole", "fell in and hurt a knee", "called for help until someone came"),
    ("the bridge was broken", "could not go on", "made a new bridge of wood"),
    ("a big dog barked", "was afraid", "gave the dog some bread"),
    ("there was snow on the path", "was cold", "put on a warm coat"),
    ("it was very hot", "was thirsty", "drank cold water from a spring"),
];
const ENDINGS: [&str; 4] = [
    "In the end they were both happy.",
    "They laughed and went home together.",
    "From then on they always went there together.",
    "That night {he} slept well.",
];

/// A hero with pronouns, or a turn: cause, effect and remedy.
type Three = (&'static str, &'static str, &'static str);

/// Draws a story of `side`.
pub fn draw(random: &mut Random, side: Side) -> Document {
    let choose = |random: &mut Random| {
        let hero = *random.pick(&HEROES);
        let plot = (*random.pick(&PLACES), *random.pick(&WISHES), *random.pick(&TURNS));
        (hero, *random.pick(&FRIENDS), plot)
    };
    let key = |(hero, friend, plot): &(Three, &str, (&str, &str, Three))| {
        format!("{}|{friend}|{}|{}|{}", hero.0, plot.0, plot.1, plot.2.0)
    };
    let drawn = on_side(side, || choose(random), key);
    let key = key(&drawn);
    let ((name, he, his), friend, (place, wish, (cause, effect, remedy))) = drawn;
    let (opening, ending) = (random.pick(&OPENINGS), random.pick(&ENDINGS));
    let capital = if he == "she" { "She" } else { "He" };
    let text = format!(
        "{opening}, {name} went to {place} with {his} {friend}. {capital} wanted to {wish}. But {cause}, so {name} \
         {effect}. {capital} {remedy}. The {friend} stayed with {name} all the time. {ending}"
    );
    Document { text: text.replace("{his}", his).replace("{he}", he), key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_causes_stay_what_they_are() {
        let mut random = Random::new(1, "test");
        for _ in 0..500 {
            let story = draw(&mut random, Side::Train);
            let name = story.key.split('|').next().unwrap();
            assert!(story.text.matches(name).count() >= 3, "{}", story.text);
            let (cause, effect, _) = TURNS.iter().find(|turn| story.text.contains(turn.0)).unwrap();
            let effect = effect.replace("{his} ", "");
            assert!(story.text.contains(effect.split(' ').next_back().unwrap()), "{cause}: {}", story.text);
            assert!(!story.text.contains('{'), "{}", story.text);
        }
    }
}
