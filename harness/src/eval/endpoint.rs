//! A client of servers that speak OpenAI's completions protocol.
