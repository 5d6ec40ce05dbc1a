"""What transformers makes of chat templates, as JSON on stdout (a fixture of the engine's tests).

Templates that come with models are named by the file that holds them and not copied; the others are written here, to use
what templates in the wild use: tools as JSON, namespaces, macros, loop controls, slices, Python's string methods.
"""

import argparse
import json

from gguf import GGUFReader
from transformers.utils import chat_template_utils

SYSTEM = {"role": "system", "content": "  You are terse.\nAlways. "}
TURNS = [
    {"role": "user", "content": "Grüße, 日本! 🦙 <b>\"quoted\"</b> & 'more'"},
    {"role": "assistant", "content": "Hello.\n"},
    {"role": "user", "content": "\n  What is 2 + 2?  \n"},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather of a <place>, é",
            "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer", "default": 3}}, "required": ["place"]},
        },
        "limits": [1, 2.5, 1e-7, 1e16, 123456789.125, True, None, "\u0001\t\\"],
    }
]
CONVERSATIONS = {
    "one": TURNS[:1],
    "three": TURNS,
    "system": [SYSTEM, *TURNS],
    "call": [TURNS[0], {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"place": "Łódź", "days": 2}}}]}, {"role": "tool", "content": "rain", "tool_call_id": "c1"}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]}],
}

TEMPLATES = {
    "tools": """{{- bos_token }}
{%- if tools is defined and tools %}
    {{- '# Tools\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
        {{- "\\n" + tool.function | tojson(indent=2) }}
        {{- "\\n" ~ tool.limits|tojson(separators=(',', ':')) ~ tool|tojson(ensure_ascii=True, sort_keys=True) }}
        {%- for name, spec in tool.function.parameters.properties.items() %}
            {{- "\\n" + name + ": " + spec['type'] ~ (" = " ~ spec.default if spec.default is defined else "") }}
            {{- " (required)" if name in tool.function.parameters.required }}
        {%- endfor %}
    {%- endfor %}
{%- endif %}
{% for m in messages -%}
    {% if m.tool_calls is defined -%}
        {% for call in m.tool_calls %}<call>{{ call.function.name }}({% for k, v in call.function.arguments|dictsort %}{{ k }}={{ v|tojson }}{{ ", " if not loop.last }}{% endfor %})</call>{% endfor %}
    {%- elif m.content is string -%}
        [{{ m.role|upper }}] {{ m.content|trim }}
    {%- else -%}
        {% for part in m.content %}{% if part.type == 'text' %}{{ part['text'] }}{% else %}<{{ part.type }}>{% endif %}{% endfor %}
    {%- endif %}
{%- endfor %}
{% if add_generation_prompt %}[ASSISTANT]{% endif %}
""",
    "namespace": """{%- set ns = namespace(system='', turns=0, last=none, seen=[]) -%}
{%- for m in messages -%}
    {%- if m['role'] == 'system' -%}{%- set ns.system = ns.system ~ m['content'].strip() -%}{%- continue -%}{%- endif -%}
    {%- set ns.turns = ns.turns + 1 -%}
    {%- set ns.last = m -%}
    {%- set ns.seen = ns.seen + [m.role, {'n': loop.index0}] -%}
{%- endfor -%}
{{ ns.system }}|{{ ns.turns }}|{{ ns.last.role }}|{{ ns.seen }}|{{ ns.seen[1] }}|{{ [true, none, 1.0, 'it\\'s'] }}
{% for m in messages[::-1] %}{% if loop.index > 2 %}{% break %}{% endif %}{{ loop.revindex }}{{ m.role[0] }}{{ m.role[-3:] }} {% endfor %}
{%- set outer = loop is defined %}{{ outer }}
{%- set (a, b) = (1, [2, (3, 4)]) %} {{ a }} {{ b }}""",
    "macros": """{%- macro turn(role, content='(none)', mark=true) -%}
<{{ role }}{{ '!' if mark }}>{{ content }}</{{ role }}>
{%- endmacro -%}
{%- for m in messages %}{% set text = m.content if m.content is string else 'parts' %}
{{ turn(m.role, text, mark=loop.first) }}{{ turn('x') }}
{% generation %}{{ loop.index }}{% endgeneration %}{% endfor -%}
{#- a comment {{ with }} {% braces %} -#}
{% raw %}{{ not this }}{% endraw %}
{%- set text %}
  captured {{ messages|length }}
{% endset %}{{ text|replace('captured', 'kept') }}""",
    "methods": """{% for m in messages %}{% set c = m.content if m.content is string else '' %}
{{ c.strip().split(' ')[0] }}|{{ c.upper() }}|{{ c.startswith('G') }}|{{ c.replace('\\n', '/') }}|{{ c.rstrip() ~ '.' }}|{{ c.find('a') }}|{{ c|length }}|{{ m.get('name', 'nobody') }}|{{ m.keys()|list|join(',') }}
{%- if '</b>' in c %}{{ c.split('</b>')[-1].lstrip(' ') }}{% endif %}|{{ c.title() }}|{{ c|capitalize }}
{% endfor %}{{ messages|map(attribute='role')|join('+') }} {{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ range(1, 8, 3)|list }} {{ 7 // 2 }} {{ 7 % 3 }} {{ 2 ** 3 }} {{ 1 / 2 }} {{ '%s-%d'|format('a', 3) }} {{ 'x' * 3 }}""",
    "refuses": """{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{{ eos_token }}{% endfor %}""",
    "spaces": "  {% if true %}\n  a\n  {% endif %}\n\t{%- for m in messages %}\n    {{ m.role }}\n    {%+ if true %}b{% endif +%}\n  {% endfor %}\nend\n\n",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("smollm", help="SmolLM2-135M-Instruct as GGUF")
    parser.add_argument("llama3", help="tokenizer_config.json of LLaMA 3")
    options = parser.parse_args()
    field = GGUFReader(options.smollm).fields["tokenizer.chat_template"]
    sources = {"smollm2-135m-instruct-q4_1.gguf": field.contents()}
    with open(options.llama3, encoding="utf-8") as file:
        sources["llama3-tokenizer/tokenizer_config.json"] = json.load(file)["chat_template"]
    cases = []
    for name, source in (sources | TEMPLATES).items():
        compiled = chat_template_utils._cached_compile_jinja_template(source)
        for conversation, messages in CONVERSATIONS.items():
            if name in sources and conversation in ("call", "parts"):
                continue
            for prompt in (True, False):
                try:
                    output, error = compiled.render(**variables(conversation, prompt)), None
                except Exception as refusal:
                    output, error = None, str(refusal)
                cases.append({"template": name, "conversation": conversation, "prompt": prompt, "output": output, "error": error})
    # As text, since the order of keys counts.
    texts = {name: {p: json.dumps(variables(name, p == "true"), ensure_ascii=False) for p in ("true", "false")} for name in CONVERSATIONS}
    answer = {"sources": TEMPLATES, "variables": texts, "cases": cases}
    print(json.dumps(answer, ensure_ascii=False, separators=(",", ":")))


def variables(conversation: str, prompt: bool) -> dict:
    tools = None if conversation == "one" else TOOLS
    return {"messages": CONVERSATIONS[conversation], "tools": tools, "add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>"}


if __name__ == "__main__":
    main()
