//! The tokens of a label selector.

/// One token. Its text is kept beside it for error messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Symbols that make no operator, such as `=!`.
    Error,
    End,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Less,
    NotEquals,
    In,
    NotIn,
    Open,
    Close,
    /// A key or a value.
    Identifier,
}

/// Reads all tokens; the last one is `End`.
pub(super) fn tokens(text: &str) -> Vec<(Token, String)> {
    let mut rest = text;
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.chars().next() else { break };
        let (token, text, after) = if is_symbol(first) { symbol(rest) } else { word(rest) };
        tokens.push((token, text));
        rest = after;
    }
    tokens.push((Token::End, String::new()));
    tokens
}

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn word(text: &str) -> (Token, String, &str) {
    let end = text.find(|c: char| is_symbol(c) || matches!(c, ' ' | '\t' | '\r' | '\n')).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let token = match word {
        "in" => Token::In,
        "notin" => Token::NotIn,
        _ => Token::Identifier,
    };
    (token, word.to_owned(), rest)
}

/// The longest run of symbols that is an operator; when even the first makes none, the whole run is an error.
fn symbol(text: &str) -> (Token, String, &str) {
    let end = text.find(|c: char| !is_symbol(c)).unwrap_or(text.len());
    let run = &text[..end];
    // Every operator has one or two symbols, and every single symbol is an operator.
    for length in [2, 1] {
        let Some(head) = run.get(..length) else { continue };
        let token = match head {
            ")" => Token::Close,
            "(" => Token::Open,
            "," => Token::Comma,
            "!" => Token::Not,
            "==" => Token::DoubleEquals,
            "=" => Token::Equals,
            ">" => Token::Greater,
            "<" => Token::Less,
            "!=" => Token::NotEquals,
            _ => continue,
        };
        return (token, head.to_owned(), &text[length..]);
    }
    (Token::Error, run.to_owned(), &text[end..])
}
