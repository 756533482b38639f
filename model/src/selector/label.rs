//! Label selectors: equality and set-based requirements, joined by commas that mean *and*.

use std::collections::BTreeSet;

use super::SelectorError;
use super::lexer::{Token, tokens};
use crate::field::FieldError;
use crate::syntax;
use crate::types::TextMap;

/// A parsed label selector. The empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Missing,
    In(BTreeSet<String>),
    /// Also of objects that have no such label.
    NotIn(BTreeSet<String>),
    Greater(i64),
    Less(i64),
}

impl LabelSelector {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`.
    ///
    /// # Errors
    /// With apimachinery's text for the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        let mut requirements = Vec::new();
        loop {
            match parser.peek() {
                (Token::Identifier | Token::Not, _) => {
                    let requirement = parser
                        .requirement()
                        .map_err(|e| SelectorError::new(format!("unable to parse requirement: {}", e.message)))?;
                    requirements.push(requirement);
                    match parser.next() {
                        (Token::End, _) => return Ok(Self { requirements }),
                        (Token::Comma, _) => match parser.peek() {
                            (Token::Identifier | Token::Not, _) => {}
                            (_, found) => return Err(expected(&found, "identifier after ','")),
                        },
                        (_, found) => return Err(expected(&found, "',' or 'end of string'")),
                    }
                }
                (Token::End, _) => return Ok(Self { requirements }),
                (_, found) => return Err(expected(&found, "!, identifier, or 'end of string'")),
            }
        }
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &TextMap) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }
}

impl Requirement {
    fn matches(&self, labels: &TextMap) -> bool {
        let value = labels.get(&self.key);
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::In(values) => value.is_some_and(|v| values.contains(v)),
            Test::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Test::Greater(bound) => number().is_some_and(|n| n > *bound),
            Test::Less(bound) => number().is_some_and(|n| n < *bound),
        }
    }
}

fn expected(found: &str, what: &str) -> SelectorError {
    SelectorError::new(format!("found '{found}', expected: {what}"))
}

struct Parser {
    /// Ends with `Token::End`, which is never passed.
    tokens: Vec<(Token, String)>,
    at: usize,
}

impl Parser {
    /// The token here; `in` and `notin` are identifiers wherever no operator stands.
    fn peek(&self) -> (Token, String) {
        let (token, text) = self.operator();
        let token = if matches!(token, Token::In | Token::NotIn) { Token::Identifier } else { token };
        (token, text)
    }

    fn operator(&self) -> (Token, String) {
        self.tokens.get(self.at).cloned().unwrap_or((Token::End, String::new()))
    }

    fn next(&mut self) -> (Token, String) {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let (mut token, mut key) = self.next();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next();
        }
        if token != Token::Identifier {
            return Err(expected(&key, "identifier"));
        }
        // Kubernetes has no path here and prints Go's word for that.
        report(check_key("<nil>", &key))?;
        if negated {
            // `!key=value` leaves the operator for the caller to stumble upon, as upstream's parser does.
            return Ok(Requirement { key, test: Test::Missing });
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(Requirement { key, test: Test::Exists });
        }
        let (operator, found) = self.operator();
        self.at += 1;
        let values = match operator {
            Token::In | Token::NotIn => self.values()?,
            Token::Equals | Token::DoubleEquals | Token::NotEquals | Token::Greater | Token::Less => {
                BTreeSet::from([self.exact_value()?])
            }
            _ => return Err(expected(&found, "in, notin, =, ==, !=, gt, lt")),
        };
        let test = test(operator, &key, values)?;
        Ok(Requirement { key, test })
    }

    /// `(a,b)`. Empty items stand for the empty value, as in `(,a)`.
    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let (token, found) = self.next();
        if token != Token::Open {
            return Err(SelectorError::new(format!("found '{found}' expected: '('")));
        }
        let mut values = BTreeSet::new();
        match self.peek() {
            (Token::Close, _) => {
                self.at += 1;
                return Ok(values);
            }
            (Token::Identifier | Token::Comma, _) => {}
            (_, found) => return Err(expected(&found, "',', ')' or identifier")),
        }
        loop {
            match self.next() {
                (Token::Identifier, value) => {
                    values.insert(value);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => break,
                        (_, found) => return Err(expected(&found, "',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek().0 {
                        Token::Close => {
                            values.insert(String::new());
                            break;
                        }
                        Token::Comma => {
                            self.at += 1;
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, found) => return Err(expected(&found, "',', or identifier")),
            }
        }
        match self.next() {
            (Token::Close, _) => Ok(values),
            (_, found) => Err(expected(&found, "')'")),
        }
    }

    /// The value after `=` and its like; nothing there is the empty value.
    fn exact_value(&mut self) -> Result<String, SelectorError> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Identifier, value) => Ok(value),
            (_, found) => Err(expected(&found, "identifier")),
        }
    }
}

fn test(operator: Token, key: &str, values: BTreeSet<String>) -> Result<Test, SelectorError> {
    let mut errors = Vec::new();
    let set = matches!(operator, Token::In | Token::NotIn);
    if set && values.is_empty() {
        let none = serde_json::Value::Array(Vec::new());
        errors.push(FieldError::invalid("values", none, "for 'in', 'notin' operators, values set can't be empty"));
    }
    let mut bound = 0;
    for (index, value) in values.iter().enumerate() {
        if matches!(operator, Token::Greater | Token::Less) {
            match value.parse() {
                Ok(number) => bound = number,
                Err(_) => errors.push(FieldError::invalid(
                    format!("values[{index}]"),
                    value.as_str(),
                    "for 'Gt', 'Lt' operators, the value must be an integer",
                )),
            }
        }
        let problems = syntax::label_value(value);
        if !problems.is_empty() {
            let path = format!("values[{index}][{key}]");
            errors.push(FieldError::invalid(path, value.as_str(), problems.join("; ")));
        }
    }
    report(errors)?;
    Ok(match operator {
        Token::In | Token::Equals | Token::DoubleEquals => Test::In(values),
        Token::Greater => Test::Greater(bound),
        Token::Less => Test::Less(bound),
        _ => Test::NotIn(values),
    })
}

fn check_key(path: &str, key: &str) -> Vec<FieldError> {
    let problems = syntax::qualified_name(key);
    if problems.is_empty() { Vec::new() } else { vec![FieldError::invalid(path, key, problems.join("; "))] }
}

/// One error as it is, several as Go prints an aggregate: `[a, b]`.
fn report(errors: Vec<FieldError>) -> Result<(), SelectorError> {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [] => Ok(()),
        [one] => Err(SelectorError::new(one.clone())),
        several => Err(SelectorError::new(format!("[{}]", several.join(", ")))),
    }
}
