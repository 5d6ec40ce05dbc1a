//! `chat`: a conversation with a model, in the form that it was trained on.

use super::speak::{self, Speaking, Special, Text, stop_name};
use super::talk::Talk;
use crate::error::Error;
use crate::local;
use anyhow::{Context as _, Result, bail};
use engine::chat::{self, ChatTemplate, Frame, Message};
use engine::generate::{Conversation, Turn, WhenFull};
use engine::tokenizer::Tokenizer;
use serde::Serialize;
use signal_hook::consts::SIGINT;
use std::io::{BufRead, IsTerminal as _, Read as _, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Longest line of a user.
const MAX_LINE: u64 = 1 << 20;
/// Positions that a conversation has unless more are asked for: a cache of the longest context some models
/// claim fits no ordinary machine.
const USUAL_CONTEXT: usize = 4096;

/// Arguments of `chat`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    talk: Talk,
    /// What the model is told before all else
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Instead of the file's chat template: a built-in one (bitnet, bitnet-hf, llama3, chatml), another of the file's by its
    /// name, or a file
    #[arg(long, value_name = "NAME|FILE")]
    template: Option<String>,
    /// Tokens of an answer at most
    #[arg(long, default_value_t = 1024)]
    max_tokens: usize,
    /// Longest context in tokens (default: the model's, at most 4096)
    #[arg(long)]
    context: Option<usize>,
    #[command(flatten)]
    speaking: Speaking,
    /// A line of JSON an answer
    #[arg(long)]
    json: bool,
}

/// A line of JSON.
#[derive(Serialize)]
struct Output<'a> {
    turn: usize,
    engine: &'a str,
    isa: String,
    threads: usize,
    template: &'a str,
    special: Special,
    /// The whole conversation up to the answer.
    prompt_tokens: &'a [u32],
    /// Those of them that the cache held already.
    reused_tokens: usize,
    tokens: &'a [u32],
    text: &'a str,
    context: usize,
    context_full: &'static str,
    dropped_tokens: usize,
    stop: &'static str,
    ttft_ns: u64,
    decode_ns: &'a [u64],
}

/// Runs `chat`: user turns from stdin, a line each, answers on stdout.
///
/// # Errors
/// Whatever is wrong with model, template or options.
pub fn run(args: &Args) -> Result<u8> {
    args.talk.refuse_bounded()?;
    let (opened, tokenizer) = args.talk.open()?;
    let tokenizer = tokenizer?;
    let template = template(args, &tokenizer)?;
    speak::tell(template.notes());
    let context = args.context.unwrap_or_else(|| opened.model.config().context.min(USUAL_CONTEXT));
    let conversation = Conversation::new(opened.session(context, local::kv(args.talk.kv))?);
    let interrupted = Arc::new(AtomicBool::new(false));
    // In this order: a second Ctrl-C finds the flag set and ends the program.
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&interrupted))?;
    signal_hook::flag::register(SIGINT, Arc::clone(&interrupted))?;
    let messages = args.system.iter().map(|text| Message::new("system", text)).collect();
    let (isa, threads) = (opened.kernels.isa().to_string(), opened.pool.threads());
    let mut chat = Chat { args, tokenizer: &tokenizer, template, conversation, messages, interrupted, isa, threads };
    let shows = std::io::stdin().is_terminal() && !args.json;
    let mut input = std::io::stdin().lock();
    while let Some(line) = chat.line(&mut input, shows)? {
        if chat.turn(line)?.is_break() {
            break;
        }
    }
    Ok(0)
}

/// The template asked for, else the file's.
fn template(args: &Args, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
    let built_in = chat::built_in_names();
    let Some(wanted) = &args.template else {
        let none = format!("{} has no chat template: give --template FILE, or one of {built_in}", args.talk.model);
        return ChatTemplate::of(tokenizer)?.ok_or_else(|| Error::Usage(none).into());
    };
    if chat::BUILT_IN.iter().any(|(name, _)| name == wanted) {
        return Ok(ChatTemplate::built_in(wanted)?);
    }
    if let Some(own) = tokenizer.chat_templates().iter().find(|own| own.name == *wanted) {
        return Ok(ChatTemplate::new(&own.name, &own.source)?);
    }
    let path = Path::new(wanted);
    if !path.is_file() {
        let own: Vec<&str> = tokenizer.chat_templates().iter().map(|own| own.name.as_str()).collect();
        let own = if own.is_empty() { String::new() } else { format!(", of the model's own ({})", own.join(", ")) };
        bail!(Error::Usage(format!("--template: expected a file, one of {built_in}{own}, found {wanted}")));
    }
    let mut source = String::new();
    let file = std::fs::File::open(path).and_then(|f| f.take(chat::MOST_SOURCE as u64 + 1).read_to_string(&mut source));
    file.map_err(|error| Error::Input(format!("{wanted}: {error}")))?;
    Ok(ChatTemplate::new(wanted, &source)?)
}

/// The present time, in UTC.
fn strftime(pattern: &str) -> std::result::Result<String, String> {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(pattern, &now).map_err(|error| error.to_string())
}

struct Chat<'a> {
    args: &'a Args,
    tokenizer: &'a Tokenizer,
    template: ChatTemplate,
    conversation: Conversation<'a>,
    messages: Vec<Message>,
    interrupted: Arc<AtomicBool>,
    isa: String,
    threads: usize,
}

impl Chat<'_> {
    /// The next line that says something; `None` at the end.
    fn line(&self, input: &mut impl BufRead, shows: bool) -> Result<Option<String>> {
        loop {
            if shows {
                print!("> ");
                std::io::stdout().flush()?;
            }
            // While nothing is answered, one Ctrl-C is enough.
            self.interrupted.store(true, Ordering::SeqCst);
            let mut line = Vec::new();
            let read = input.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line);
            self.interrupted.store(false, Ordering::SeqCst);
            if read.context("reading stdin")? == 0 {
                return Ok(None);
            }
            if line.len() as u64 > MAX_LINE {
                bail!(Error::Input(format!("stdin: expected lines of at most {MAX_LINE} bytes")));
            }
            let line = String::from_utf8(line).map_err(|error| Error::Input(format!("stdin: {error}")))?;
            let line = line.trim_end_matches(['\n', '\r']);
            if !line.trim().is_empty() {
                return Ok(Some(line.to_owned()));
            }
        }
    }

    /// Answers a line; breaks when nothing more can be said.
    fn turn(&mut self, line: String) -> Result<ControlFlow<()>> {
        self.messages.push(Message { role: "user".to_owned(), content: line });
        let frame = Frame {
            bos: self.tokenizer.bos_text(),
            eos: self.tokenizer.eos_text(),
            add_generation_prompt: true,
            strftime: Some(strftime),
        };
        // The template writes BOS itself where the model wants it.
        let prompt = self.tokenizer.encode(&self.template.render(&self.messages, &frame)?, false)?;
        let speaking = &self.args.speaking;
        let sampling = speaking.sampling((self.messages.len() as u64 - 1) / 2);
        let mut text = Text::new(self.tokenizer, &speaking.stop, !self.args.json);
        let interrupted = &self.interrupted;
        let on_token = |token| match interrupted.load(Ordering::SeqCst) {
            true => ControlFlow::Break(()),
            false => text.push(token),
        };
        let stops = self.tokenizer.stops();
        let when_full = speaking.when_full();
        let answer = self.conversation.answer(&prompt, self.args.max_tokens, stops, sampling, when_full, on_token);
        let turn = match answer {
            Err(error @ engine::Error::ContextFull { .. }) if when_full == WhenFull::Stop => {
                eprintln!("note: {error}: the conversation ends (--context-full shift would go on)");
                return Ok(ControlFlow::Break(()));
            }
            answer => answer?,
        };
        let stop = stop_name(turn.made.stop, text.stopped());
        let (text, gone) = text.finish()?;
        let written =
            if self.args.json { self.write(&prompt, &turn, &text, stop)? } else { super::say("").map(|()| true)? };
        self.messages.push(Message { role: "assistant".to_owned(), content: text });
        Ok(if gone || !written { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Writes a line of JSON; whether anybody still reads.
    fn write(&self, prompt: &[u32], turn: &Turn, text: &str, stop: &'static str) -> Result<bool> {
        let output = Output {
            turn: self.messages.iter().filter(|message| message.role == "user").count(),
            engine: &self.args.talk.engine,
            isa: self.isa.clone(),
            threads: self.threads,
            template: self.template.name(),
            special: Special::of(self.tokenizer, false),
            prompt_tokens: prompt,
            reused_tokens: turn.reused,
            tokens: &turn.made.tokens,
            text,
            context: self.conversation.context(),
            context_full: self.args.speaking.context_full(),
            dropped_tokens: turn.dropped,
            stop,
            ttft_ns: turn.made.ttft_ns,
            decode_ns: &turn.made.decode_ns,
        };
        match writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&output)?) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            done => Ok(done.map(|()| true)?),
        }
    }
}
