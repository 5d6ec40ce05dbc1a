//! A chat template and, behind a zero byte if there is one, variables in JSON.

use engine::chat::{ChatTemplate, Frame, Message};

use super::refused;

/// Renders a conversation, and the variables given.
pub fn run(data: &[u8]) -> bool {
    let input = String::from_utf8_lossy(data);
    let (source, variables) = input.split_once('\0').map_or((&*input, None), |(source, json)| (source, Some(json)));
    let template = match ChatTemplate::new("template", source) {
        Ok(template) => template,
        Err(error) => return refused("template", &error),
    };
    let messages = [("system", "Be brief."), ("user", " What is {{ 1 }}?\n"), ("assistant", "é"), ("user", "")];
    let messages = messages.map(|(role, content)| Message::new(role, content));
    for add_generation_prompt in [false, true] {
        let strftime = |pattern: &str| Ok(pattern.to_owned());
        let frame = Frame { bos: "<s>", eos: "</s>", add_generation_prompt, strftime: Some(strftime) };
        rendered(template.render(&messages, &frame));
    }
    if let Some(variables) = variables {
        rendered(template.render_json(variables));
    }
    true
}

/// No text is far longer than its fuel.
fn rendered(result: engine::Result<String>) {
    match result {
        Ok(text) => assert!(text.len() < 64 << 20, "{} bytes", text.len()),
        Err(error) => {
            refused("template", &error);
        }
    }
}
