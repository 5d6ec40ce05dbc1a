//! Chat templates: from messages to the text that a model was trained to answer.
//!
//! Templates are Jinja, as Hugging Face's `apply_chat_template` reads them: blocks trimmed, `raise_exception`, `tojson` and
//! `strftime_now` as there, Python's methods on strings and maps, `{% generation %}` passed over. They come out of files that
//! nobody vouches for: what a rendering may cost is bounded (see the limits below).

mod guard;
mod json;
mod render;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use minijinja::Value;

/// Longest template, in bytes. The longest in use are of some 30 KiB.
pub const MOST_SOURCE: usize = 64 << 10;
/// Longest conversation, in bytes.
pub const MOST_INPUT: usize = 2 << 20;

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }
}

/// Formats the present time by a pattern of C's `strftime`; the engine has no clock of its own.
pub type Strftime = fn(&str) -> std::result::Result<String, String>;

/// What a template may ask for besides the messages.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// How the vocabulary writes BOS, for templates that put it first themselves.
    pub bos: &'a str,
    /// How it writes EOS.
    pub eos: &'a str,
    /// Whether the text ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// The clock, for templates that name the date; without it they find `strftime_now` undefined.
    pub strftime: Option<Strftime>,
}

/// A template that parses.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    name: String,
    /// Guarded source: see [`guard`].
    source: String,
    notes: Vec<String>,
}

/// BitNet b1.58 2B4T's, by its report (arXiv 2504.12285, section 3.2.2).
const BITNET: &str = "{{ bos_token }}{% for message in messages %}\
{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' + '\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

/// The same as the model's `tokenizer_config.json` has it: no line breaks.
const BITNET_HF: &str = "{{ bos_token }}{% for message in messages %}\
{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}\
{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

/// LLaMA 3's.
const LLAMA3: &str = "{{ bos_token }}{% for message in messages %}\
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

/// `ChatML`, of Qwen, SmolLM and many others, without a system message of its own.
const CHATML: &str = "{% for message in messages %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The templates that need no file.
pub const BUILT_IN: [(&str, &str); 4] =
    [("bitnet", BITNET), ("bitnet-hf", BITNET_HF), ("llama3", LLAMA3), ("chatml", CHATML)];

/// Stands in the template that bitnet.cpp's converter writes into every file, with which 2B4T never stops: it was trained
/// on another.
const KNOWN_WRONG: &str = "BITNETAssistant: ";

impl ChatTemplate {
    /// A template from its source; `name` stands in errors.
    ///
    /// # Errors
    /// [`Error::Chat`] if it is too long, or no template.
    pub fn new(name: &str, source: &str) -> Result<ChatTemplate> {
        let bad = |reason| Error::Chat { template: name.to_owned(), reason };
        if source.len() > MOST_SOURCE {
            return Err(bad(format!("expected at most {MOST_SOURCE} bytes, found {}", source.len())));
        }
        let source = guard::guarded(source).map_err(bad)?;
        render::check(&source).map_err(bad)?;
        Ok(ChatTemplate { name: name.to_owned(), source, notes: Vec::new() })
    }

    /// One of [`BUILT_IN`].
    ///
    /// # Errors
    /// [`Error::Chat`] for another name, with those there are.
    pub fn built_in(name: &str) -> Result<ChatTemplate> {
        let Some((_, source)) = BUILT_IN.iter().find(|(known, _)| *known == name) else {
            let reason = format!("no built-in template has this name: expected one of {}", built_in_names());
            return Err(Error::Chat { template: name.to_owned(), reason });
        };
        ChatTemplate::new(name, source)
    }

    /// The template that came with a tokenizer, if one did. The one that is known to be wrong is replaced by `bitnet`, which
    /// the notes tell.
    ///
    /// # Errors
    /// [`Error::Chat`] if it is no template.
    pub fn of(tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
        let Some(found) = tokenizer.chat_templates().first() else {
            return Ok(None);
        };
        if found.source.contains(KNOWN_WRONG) {
            let mut template = ChatTemplate::built_in("bitnet")?;
            let why =
                "the file's chat template (\"Human: .. BITNETAssistant: ..\") is not what the model was trained on";
            template.notes.push(format!("{why}: the built-in `bitnet` takes its place"));
            return Ok(Some(template));
        }
        ChatTemplate::new(&found.name, &found.source).map(Some)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a user should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The text of a conversation.
    ///
    /// # Errors
    /// [`Error::Chat`] if the template refuses the messages, fails, or costs more than it may.
    pub fn render(&self, messages: &[Message], frame: &Frame<'_>) -> Result<String> {
        let list =
            messages.iter().map(|m| Value::from_pairs([("role", m.role.as_str()), ("content", m.content.as_str())]));
        let variables = Value::from_pairs([
            ("messages", list.collect::<Value>()),
            ("bos_token", Value::from(frame.bos)),
            ("eos_token", Value::from(frame.eos)),
            ("add_generation_prompt", Value::from(frame.add_generation_prompt)),
        ]);
        let bytes = messages.iter().map(|m| m.role.len() + m.content.len() + 64).sum();
        self.run(variables, bytes, frame.strftime)
    }

    /// As [`ChatTemplate::render`], with all variables (`messages`, `tools`, `add_generation_prompt`, `bos_token` ..) from a
    /// JSON object, whose order of keys is kept.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`], or `variables` is no JSON object.
    pub fn render_json(&self, variables: &str) -> Result<String> {
        let parsed: Value = serde_json::from_str(variables).map_err(|e| self.error(format!("variables: {e}")))?;
        if parsed.kind() != minijinja::value::ValueKind::Map {
            return Err(self.error(format!("variables: expected a JSON object, found a {}", parsed.kind())));
        }
        self.run(parsed, variables.len(), None)
    }

    fn run(&self, variables: Value, bytes: usize, strftime: Option<Strftime>) -> Result<String> {
        if bytes > MOST_INPUT {
            return Err(self.error(format!("expected a conversation of at most {MOST_INPUT} bytes, found {bytes}")));
        }
        render::render(&self.source, variables, bytes, strftime).map_err(|reason| self.error(reason))
    }

    fn error(&self, reason: String) -> Error {
        Error::Chat { template: self.name.clone(), reason }
    }
}

/// The names of [`BUILT_IN`], for messages.
pub fn built_in_names() -> String {
    BUILT_IN.map(|(name, _)| name).join(", ")
}
