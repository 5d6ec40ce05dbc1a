//! Everything the program comes with: models, engines and suites, embedded in the binary.

use crate::definition::Suite;
use crate::error::Error;
use crate::model::{EngineSpec, ModelFile, ModelSpec, Shape, with_hint};
use serde::Deserialize;

const MODELS: &str = include_str!("../models.toml");
const ENGINES: &str = include_str!("../engines.toml");
const SUITES: &[(&str, &str)] = &[
    ("accuracy.toml", include_str!("../definitions/accuracy.toml")),
    ("accuracy-twins.toml", include_str!("../definitions/accuracy-twins.toml")),
    ("base3.toml", include_str!("../definitions/base3.toml")),
    ("x86-quick.toml", include_str!("../definitions/x86-quick.toml")),
    ("x86-full.toml", include_str!("../definitions/x86-full.toml")),
    ("depth.toml", include_str!("../definitions/depth.toml")),
    ("gate.toml", include_str!("../definitions/gate.toml")),
    ("head.toml", include_str!("../definitions/head.toml")),
    ("limits.toml", include_str!("../definitions/limits.toml")),
    ("sparse.toml", include_str!("../definitions/sparse.toml")),
    ("peers.toml", include_str!("../definitions/peers.toml")),
    ("peers-avx2.toml", include_str!("../definitions/peers-avx2.toml")),
    ("smoke.toml", include_str!("../definitions/smoke.toml")),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireModels {
    synthetic: Vec<Shape>,
    file: Vec<ModelFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireEngines {
    engine: Vec<EngineSpec>,
}

/// The models and engines that suites can name, and the suites that come with the program.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// All models.
    pub models: Vec<ModelSpec>,
    /// All engines.
    pub engines: Vec<EngineSpec>,
}

impl Catalogue {
    /// The embedded definitions.
    ///
    /// # Errors
    /// None in a tested build: the embedded files are checked by this crate's tests.
    pub fn embedded() -> Result<Catalogue, Error> {
        Catalogue::parse(MODELS, "models.toml", ENGINES, "engines.toml")
    }

    /// Reads models and engines from TOML texts.
    ///
    /// # Errors
    /// Syntax, unknown keys, repeated names, shapes that can't be.
    pub fn parse(models: &str, models_origin: &str, engines: &str, engines_origin: &str) -> Result<Catalogue, Error> {
        let parse = |origin: &str, e: toml::de::Error| Error::Parse {
            origin: origin.to_owned(),
            message: with_hint(&e.to_string()),
        };
        let wire: WireModels = toml::from_str(models).map_err(|e| parse(models_origin, e))?;
        let engines: WireEngines = toml::from_str(engines).map_err(|e| parse(engines_origin, e))?;
        let mut all = Vec::new();
        for model in
            wire.synthetic.into_iter().map(ModelSpec::Synthetic).chain(wire.file.into_iter().map(ModelSpec::File))
        {
            add_model(&mut all, model, models_origin)?;
        }
        Ok(Catalogue { models: all, engines: engines.engine })
    }

    /// The model called `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the nearest name.
    pub fn model(&self, name: &str) -> Result<&ModelSpec, Error> {
        let found = self.models.iter().find(|m| m.name() == name);
        found.ok_or_else(|| Error::unknown("model", name, self.models.iter().map(ModelSpec::name)))
    }

    /// The engine called `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the nearest name.
    pub fn engine(&self, name: &str) -> Result<&EngineSpec, Error> {
        let found = self.engines.iter().find(|e| e.name == name);
        found.ok_or_else(|| Error::unknown("engine", name, self.engines.iter().map(|e| e.name.as_str())))
    }

    /// All suites that come with the program.
    ///
    /// # Errors
    /// None in a tested build.
    pub fn suites(&self) -> Result<Vec<Suite>, Error> {
        SUITES.iter().map(|(origin, text)| Suite::parse(text, origin, self)).collect()
    }

    /// The suite called `name` among those that come with the program.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the nearest name.
    pub fn suite(&self, name: &str) -> Result<Suite, Error> {
        let mut suites = self.suites()?;
        match suites.iter().position(|s| s.name == name) {
            Some(index) => Ok(suites.swap_remove(index)),
            None => Err(Error::unknown("suite", name, suites.iter().map(|s| s.name.as_str()))),
        }
    }
}

/// Adds a model after checking its shape and that its name is new.
pub(crate) fn add_model(models: &mut Vec<ModelSpec>, model: ModelSpec, origin: &str) -> Result<(), Error> {
    let bad = |key: &str, expected: &str, found: &str| Error::Value {
        origin: origin.to_owned(),
        key: format!("model `{}`: {key}", model.name()),
        expected: expected.to_owned(),
        found: found.to_owned(),
    };
    if models.iter().any(|m| m.name() == model.name()) {
        return Err(bad("name", "a name that no other model has", model.name()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if model.name().is_empty() || !model.name().chars().all(plain) {
        return Err(bad("name", "letters, digits, `-`, `.` and `_`", model.name()));
    }
    match &model {
        ModelSpec::Synthetic(shape) => shape.validate(origin)?,
        ModelSpec::File(file) => {
            if file.file.contains(['/', '\\']) || file.file.is_empty() || file.file == ".." {
                return Err(bad("file", "a plain file name, looked for in the data folder", &file.file));
            }
            if file.sha256.len() != 64 || !file.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad("sha256", "64 hexadecimal digits", &file.sha256));
            }
        }
    }
    models.push(model);
    Ok(())
}
