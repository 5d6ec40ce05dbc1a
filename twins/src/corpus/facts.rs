//! The table of facts behind the science questions.

/// A property that subjects have, and how it is asked for.
#[derive(Debug)]
pub struct Relation {
    /// Name, of which canonical keys are made.
    pub name: &'static str,
    /// Questions; `{s}` stands for the subject.
    pub questions: [&'static str; 8],
    /// Statements; `{s}` and `{v}` stand for subject and value.
    pub statements: [&'static str; 2],
}

/// Subjects of one sort: a row is the subject and its value for each relation.
#[derive(Debug)]
pub struct Table {
    /// The columns.
    pub relations: &'static [Relation],
    /// The rows: the subject first.
    pub rows: &'static [&'static [&'static str]],
}

/// All facts.
pub const TABLES: [Table; 4] = [
    Table { relations: &ANIMAL_RELATIONS, rows: &ANIMALS },
    Table { relations: &MATERIAL_RELATIONS, rows: &MATERIALS },
    Table { relations: &TOOL_RELATIONS, rows: &TOOLS },
    Table { relations: &ORGAN_RELATIONS, rows: &ORGANS },
];

const ANIMAL_RELATIONS: [Relation; 4] = [
    Relation {
        name: "class",
        questions: [
            "What kind of animal is {s}?",
            "To which group of animals does {s} belong?",
            "A student sees {s}. What kind of animal is it?",
            "Scientists place {s} in which group?",
            "Which group of animals has {s} in it?",
            "How do scientists class {s}?",
            "Which of these groups does {s} belong to?",
            "What type of living thing is {s}?",
        ],
        statements: ["The group of {s} is {v}.", "Scientists say that {s} is in the group: {v}."],
    },
    Relation {
        name: "habitat",
        questions: [
            "Where does {s} live?",
            "In which place would you find {s}?",
            "What is the home of {s}?",
            "Which habitat is best for {s}?",
            "A student wants to see {s}. Where should the student look?",
            "Which place has what {s} needs to live?",
            "In which habitat does {s} find its food?",
            "Where is {s} most often seen?",
        ],
        statements: ["The home of {s} is {v}.", "You can find {s} in this place: {v}."],
    },
    Relation {
        name: "covering",
        questions: [
            "What covers the body of {s}?",
            "Which body covering does {s} have?",
            "What is on the outside of {s}?",
            "What would you feel if you touched {s}?",
            "Which of these protects the body of {s}?",
            "A student draws {s}. What should cover its body?",
            "What does the skin of {s} have on it?",
            "Which covering helps {s} stay safe?",
        ],
        statements: ["The body of {s} is covered with {v}.", "On the outside {s} has {v}."],
    },
    Relation {
        name: "food",
        questions: [
            "What does {s} eat?",
            "Which food does {s} need?",
            "What is the main food of {s}?",
            "From what does {s} get its energy?",
            "Which of these would {s} eat first?",
            "A keeper feeds {s}. What should the keeper bring?",
            "What does {s} look for when it is hungry?",
            "In a food chain, what is eaten by {s}?",
        ],
        statements: ["The main food of {s} is {v}.", "To stay alive {s} eats {v}."],
    },
];

const ANIMALS: [&[&str]; 26] = [
    &["a robin", "bird", "garden", "feathers", "worms"],
    &["an owl", "bird", "forest", "feathers", "mice"],
    &["a duck", "bird", "pond", "feathers", "water plants"],
    &["a penguin", "bird", "polar ice", "feathers", "fish"],
    &["an eagle", "bird", "mountains", "feathers", "small animals"],
    &["a hen", "bird", "farm", "feathers", "seeds"],
    &["a cow", "mammal", "farm", "hair", "grass"],
    &["a horse", "mammal", "grassland", "hair", "grass"],
    &["a wolf", "mammal", "forest", "fur", "deer"],
    &["a polar bear", "mammal", "polar ice", "fur", "seals"],
    &["a camel", "mammal", "desert", "fur", "dry plants"],
    &["a rabbit", "mammal", "grassland", "fur", "leaves"],
    &["a whale", "mammal", "ocean", "smooth skin", "tiny sea animals"],
    &["a dolphin", "mammal", "ocean", "smooth skin", "fish"],
    &["a squirrel", "mammal", "forest", "fur", "nuts"],
    &["a goat", "mammal", "mountains", "hair", "leaves"],
    &["a shark", "fish", "ocean", "scales", "fish"],
    &["a trout", "fish", "river", "scales", "insects"],
    &["a carp", "fish", "pond", "scales", "water plants"],
    &["a frog", "amphibian", "pond", "wet skin", "insects"],
    &["a newt", "amphibian", "river", "wet skin", "worms"],
    &["a lizard", "reptile", "desert", "scales", "insects"],
    &["a rattlesnake", "reptile", "desert", "scales", "mice"],
    &["a turtle", "reptile", "river", "hard shell", "water plants"],
    &["a bee", "insect", "garden", "hard outer layer", "nectar"],
    &["a butterfly", "insect", "garden", "tiny scales", "nectar"],
];

const MATERIAL_RELATIONS: [Relation; 4] = [
    Relation {
        name: "state",
        questions: [
            "What is the state of {s} in a warm room?",
            "In which state of matter is {s} on a warm day?",
            "Is {s} a solid, a liquid or a gas?",
            "Which state of matter is {s}?",
            "A student studies {s}. Which state of matter is it?",
            "How would you describe the state of {s}?",
            "Which word tells the state of {s}?",
            "As what is {s} found at room temperature?",
        ],
        statements: ["In a warm room the state of {s} is {v}.", "The state of matter of {s} is {v}."],
    },
    Relation {
        name: "source",
        questions: [
            "Where does {s} come from?",
            "From what do people get {s}?",
            "What is the source of {s}?",
            "Which of these gives us {s}?",
            "People need {s}. Where do they get it?",
            "What must be used to make {s}?",
            "Which natural resource gives people {s}?",
            "To have {s}, people first need what?",
        ],
        statements: ["People get {s} from {v}.", "The source of {s} is {v}."],
    },
    Relation {
        name: "use",
        questions: [
            "What is {s} used for?",
            "For which purpose do people use {s}?",
            "Which is a good use of {s}?",
            "A worker buys {s}. What is it for?",
            "What can people do best with {s}?",
            "Which job needs {s}?",
            "How is {s} most often used?",
            "Why do people want {s}?",
        ],
        statements: ["People use {s} for {v}.", "A good use of {s} is {v}."],
    },
    Relation {
        name: "property",
        questions: [
            "Which property does {s} have?",
            "Which is true of {s}?",
            "What can a test show about {s}?",
            "Which words describe {s} best?",
            "What is special about {s}?",
            "A student tests {s}. What will the student find?",
            "How is {s} different from other things?",
            "Which property makes {s} useful?",
        ],
        statements: ["A property of {s}: it {v}.", "Tests show that {s} {v}."],
    },
];

const MATERIALS: [&[&str]; 16] = [
    &["iron", "solid", "rock with ore", "building bridges", "is pulled by a magnet"],
    &["copper", "solid", "rock with ore", "making wires", "carries electricity well"],
    &["gold", "solid", "rock with ore", "making rings", "does not rust"],
    &["glass", "solid", "sand", "making windows", "lets light through"],
    &["wood", "solid", "trees", "making tables", "floats and burns"],
    &["paper", "solid", "trees", "writing letters", "tears easily"],
    &["wool", "solid", "sheep", "making warm clothes", "keeps heat in"],
    &["cotton", "solid", "plants", "making shirts", "soaks up water"],
    &["rubber", "solid", "trees", "making tires", "stretches and bounces"],
    &["salt", "solid", "sea water", "giving food taste", "dissolves in water"],
    &["milk", "liquid", "cows", "making cheese", "is white and pours"],
    &["oil", "liquid", "deep wells", "making fuel", "floats on water and burns"],
    &["rain water", "liquid", "clouds", "growing crops", "turns to ice when cold"],
    &["mercury", "liquid", "rock with ore", "filling old thermometers", "is a metal that pours"],
    &["oxygen", "gas", "green plants", "breathing", "helps fire burn"],
    &["helium", "gas", "deep wells", "filling balloons", "is lighter than air"],
];

const TOOL_RELATIONS: [Relation; 1] = [Relation {
    name: "purpose",
    questions: [
        "What is {s} used for?",
        "For what does a scientist use {s}?",
        "When would a student need {s}?",
        "What can be done with {s}?",
        "A class has {s}. What can the class do with it?",
        "Which task needs {s}?",
        "What is the purpose of {s}?",
        "Why would someone pick {s}?",
    ],
    statements: ["The purpose of {s} is {v}.", "Scientists use {s} for {v}."],
}];

const TOOLS: [&[&str]; 14] = [
    &["a thermometer", "measuring temperature"],
    &["a ruler", "measuring length"],
    &["a balance", "measuring mass"],
    &["a clock", "measuring time"],
    &["a telescope", "looking at stars"],
    &["a microscope", "looking at tiny cells"],
    &["a compass", "finding north"],
    &["a magnet", "picking up iron nails"],
    &["a rain gauge", "measuring rainfall"],
    &["a wind vane", "showing where wind comes from"],
    &["a battery", "storing electric energy"],
    &["a filter", "taking sand out of water"],
    &["a lamp", "changing electricity into light"],
    &["a pulley", "lifting heavy loads"],
];

const ORGAN_RELATIONS: [Relation; 1] = [Relation {
    name: "function",
    questions: [
        "What is the function of {s}?",
        "What does {s} do?",
        "Which job is done by {s}?",
        "How does {s} help a living thing?",
        "Why is {s} important?",
        "What would stop first without {s}?",
        "A living thing uses {s} for what?",
        "Which is the main task of {s}?",
    ],
    statements: ["The function of {s} is {v}.", "Living things use {s} for {v}."],
}];

const ORGANS: [&[&str]; 14] = [
    &["the heart", "pumping blood"],
    &["the lungs", "taking in oxygen"],
    &["the stomach", "breaking down food"],
    &["the brain", "thinking and control"],
    &["the skin", "covering the body"],
    &["the skeleton", "holding the body up"],
    &["the muscles", "moving the bones"],
    &["the eyes", "seeing light"],
    &["the ears", "hearing sound"],
    &["the roots", "taking water from soil"],
    &["the stem", "carrying water up"],
    &["the leaf", "making sugar from sunlight"],
    &["the flower", "making seeds"],
    &["the gills", "breathing under water"],
];
