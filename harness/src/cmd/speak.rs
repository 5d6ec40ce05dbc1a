//! What `generate` and `chat` share: how tokens are chosen, how text is shown as it comes, what is recorded.

use crate::error::Error;
use anyhow::Result;
use engine::generate::{Sampling, StopReason, TextStream, WhenFull};
use engine::tokenizer::Tokenizer;
use serde::Serialize;
use std::io::Write as _;
use std::ops::ControlFlow;

/// Options of every command that makes text.
#[derive(clap::Args)]
pub struct Speaking {
    /// 0 is greedy
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Sample from the most likely K tokens (0: all)
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Sample from the smallest set of tokens that holds this probability
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Sample from tokens at least this many times as likely as the likeliest (0: all)
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Makes tokens that came up before less likely (1: no)
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Seed of the sampler
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ends before this text comes up (may be repeated)
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// When the context is full: stop, fail, or drop the older half of the tokens after the first --keep and go on
    #[arg(long, value_enum, default_value_t = Full::Stop)]
    context_full: Full,
    /// Tokens at the beginning that stay when others are dropped
    #[arg(long, default_value_t = 1)]
    keep: usize,
}

/// `--context-full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Full {
    Stop,
    Error,
    Shift,
}

impl Speaking {
    /// How the tokens of turn `turn` are chosen: each has a seed of its own.
    pub fn sampling(&self, turn: u64) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed.wrapping_add(turn),
        }
    }

    /// What is done when the context is full.
    pub fn when_full(&self) -> WhenFull {
        match self.context_full {
            Full::Stop => WhenFull::Stop,
            Full::Error => WhenFull::Error,
            Full::Shift => WhenFull::Shift { keep: self.keep },
        }
    }

    /// The same, as it is recorded.
    pub fn context_full(&self) -> &'static str {
        match self.context_full {
            Full::Stop => "stop",
            Full::Error => "error",
            Full::Shift => "shift",
        }
    }
}

/// Why an answer ended, as it is recorded; `Caller` is told apart by whether a stop string came up.
pub fn stop_name(stop: StopReason, stop_string: bool) -> &'static str {
    match stop {
        StopReason::Eos => "eos",
        StopReason::MaxTokens => "max_tokens",
        StopReason::ContextFull => "context_full",
        StopReason::Caller if stop_string => "stop_string",
        StopReason::Caller => "interrupted",
    }
}

/// The special tokens that had a part.
#[derive(Serialize)]
pub struct Special {
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    /// Whether the tokens begin with a BOS that the text did not ask for.
    bos_added: bool,
    /// Every token that ends a generation.
    stop_tokens: Vec<u32>,
}

impl Special {
    /// Those of a tokenizer.
    pub fn of(tokenizer: &Tokenizer, bos_added: bool) -> Special {
        let (bos, eos, eot) = (tokenizer.bos(), tokenizer.eos(), tokenizer.eot());
        Special { bos, eos, eot, bos_added, stop_tokens: tokenizer.stops().to_vec() }
    }
}

/// The text as it comes: shown at once, unless it goes into JSON.
pub struct Text<'a> {
    tokenizer: &'a Tokenizer,
    stream: TextStream,
    show: bool,
    whole: String,
    error: Option<anyhow::Error>,
}

impl<'a> Text<'a> {
    /// Text that ends before one of `stops` comes up.
    pub fn new(tokenizer: &'a Tokenizer, stops: &[String], show: bool) -> Text<'a> {
        let stream = TextStream::new(stops.iter().cloned());
        Text { tokenizer, stream, show, whole: String::new(), error: None }
    }

    /// Adds a token; breaks at a stop string or an error, which [`Text::finish`] tells.
    pub fn push(&mut self, token: u32) -> ControlFlow<()> {
        let added = self.tokenizer.piece(token).map(|bytes| self.stream.push(bytes));
        match added.map_err(anyhow::Error::from).and_then(|text| self.add(&text)) {
            Ok(()) if self.stream.stopped() => ControlFlow::Break(()),
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Whether a stop string has come up.
    pub fn stopped(&self) -> bool {
        self.stream.stopped()
    }

    fn add(&mut self, text: &str) -> Result<()> {
        self.whole.push_str(text);
        if self.show {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
        }
        Ok(())
    }

    /// All of it, and whether its reader has left, which is no error.
    ///
    /// # Errors
    /// A token beyond the vocabulary, or stdout that cannot be written to.
    pub fn finish(mut self) -> Result<(String, bool)> {
        let rest = self.stream.finish();
        let result = self.error.take().map_or(Ok(()), Err).and_then(|()| self.add(&rest));
        let gone = |error: &anyhow::Error| {
            error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
        };
        match result {
            Ok(()) => Ok((self.whole, false)),
            Err(error) if gone(&error) => Ok((self.whole, true)),
            Err(error) => Err(error),
        }
    }
}

/// What a user should know, on stderr.
pub fn tell(notes: &[String]) {
    notes.iter().for_each(|note| eprintln!("note: {note}"));
}

/// The error for a command that needs text of a model that has none.
pub fn needs_tokenizer(what: &str) -> Error {
    Error::Usage(format!("{what} needs a model with a tokenizer"))
}
