//! A reader of SOQL: the part that clients of row data use.
//!
//! `SELECT fields | COUNT() FROM object [WHERE …] [ORDER BY …] [LIMIT n] [OFFSET n]`, with comparisons, `LIKE`, `IN`,
//! `AND`, `OR`, `NOT` and parentheses, as Salesforce's SOQL reference writes them. Pure; it knows no records: values
//! come through a closure. Anything else is refused, never guessed. The surprising thing: text is compared without
//! case, and `AND` may not be mixed with `OR` without parentheses.

mod eval;

pub(crate) use eval::order;

/// Longest query that is read.
const LONGEST: usize = 100_000;
/// Deepest nesting of parentheses.
const DEEPEST: usize = 16;

/// A query that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    /// Selected fields; empty for `COUNT()`.
    pub(crate) fields: Vec<String>,
    pub(crate) from: String,
    pub(crate) filter: Option<Condition>,
    pub(crate) order: Vec<Order>,
    pub(crate) limit: Option<usize>,
    pub(crate) offset: usize,
}

/// One sort key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) field: String,
    pub(crate) descending: bool,
    pub(crate) nulls_last: bool,
}

/// A condition of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Compare { field: String, op: Op, literal: Literal },
    OneOf { field: String, literals: Vec<Literal>, negated: bool },
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Like,
}

/// A value in a query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Text(String),
    Number(f64),
    Bool(bool),
    Null,
    Date(String),
    /// Microseconds since the Unix epoch.
    Instant(i64),
}

impl Literal {
    /// Whether the literal stands in quotes.
    pub(crate) const fn is_quoted(&self) -> bool {
        matches!(self, Self::Text(_))
    }
}

/// Why a query is refused; the text is for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(String);

fn malformed<T>(what: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(what.into()))
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Mark(&'static str),
}

/// Reads a query.
pub(crate) fn parse(text: &str) -> Result<Query, Malformed> {
    if text.len() > LONGEST {
        return malformed("SOQL statements cannot be longer than 100000 characters.");
    }
    let mut reader = Reader { tokens: tokens(text)?, at: 0 };
    let query = reader.query()?;
    match reader.peek() {
        None => Ok(query),
        Some(token) => malformed(format!("unexpected token: {token:?}")),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, Malformed> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let taken = if first == '\'' {
            let (token, len) = quoted(rest)?;
            out.push(Token::Text(token));
            len
        } else if let Some(mark) =
            ["<=", ">=", "!=", "<>", "=", "<", ">", "(", ")", ","].into_iter().find(|m| rest.starts_with(m))
        {
            out.push(Token::Mark(if mark == "<>" { "!=" } else { mark }));
            mark.len()
        } else {
            let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '+' | '-');
            let len = rest.find(|c| !word(c)).unwrap_or(rest.len());
            if len == 0 {
                return malformed(format!(
                    "line 1:{} no viable alternative at character '{first}'",
                    text.len() - rest.len()
                ));
            }
            out.push(Token::Word(rest[..len].to_owned()));
            len
        };
        rest = rest[taken..].trim_start();
    }
    Ok(out)
}

/// A quoted text at the start of `rest`, and its length in bytes with the quotes.
fn quoted(rest: &str) -> Result<(String, usize), Malformed> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => return Ok((text, at + 1)),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some(c @ ('\'' | '"' | '\\' | '_' | '%')) => text.push(c),
                Some('n' | 'N') => text.push('\n'),
                Some('r' | 'R') => text.push('\r'),
                Some('t' | 'T') => text.push('\t'),
                Some(c) => return malformed(format!("Illegal string escape: \\{c}")),
                None => break,
            },
            c => text.push(c),
        }
    }
    malformed("Expecting closing quote")
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(w)) if w.eq_ignore_ascii_case(word))
    }

    fn skip_word(&mut self, word: &str) -> bool {
        let hit = self.is_word(word);
        self.at += usize::from(hit);
        hit
    }

    fn skip_mark(&mut self, mark: &str) -> bool {
        let hit = matches!(self.peek(), Some(Token::Mark(m)) if *m == mark);
        self.at += usize::from(hit);
        hit
    }

    fn need_word(&mut self, word: &str) -> Result<(), Malformed> {
        if self.skip_word(word) { Ok(()) } else { malformed(format!("unexpected token, expecting {word}")) }
    }

    fn need_mark(&mut self, mark: &str) -> Result<(), Malformed> {
        if self.skip_mark(mark) { Ok(()) } else { malformed(format!("unexpected token, expecting '{mark}'")) }
    }

    fn name(&mut self) -> Result<String, Malformed> {
        match self.peek() {
            Some(Token::Word(w)) if w.starts_with(|c: char| c.is_ascii_alphabetic()) && !is_reserved(w) => {
                let name = w.clone();
                self.at += 1;
                Ok(name)
            }
            other => malformed(format!("unexpected token: {other:?}, expecting a name")),
        }
    }

    fn query(&mut self) -> Result<Query, Malformed> {
        self.need_word("SELECT")?;
        let mut fields = Vec::new();
        if self.skip_word("COUNT") {
            self.need_mark("(")?;
            self.need_mark(")")?;
        } else {
            fields.push(self.name()?);
            while self.skip_mark(",") {
                fields.push(self.name()?);
            }
        }
        self.need_word("FROM")?;
        let from = self.name()?;
        let filter = if self.skip_word("WHERE") { Some(self.condition(0)?) } else { None };
        let order = if self.skip_word("ORDER") { self.order()? } else { Vec::new() };
        let limit = if self.skip_word("LIMIT") { Some(self.count()?) } else { None };
        let offset = if self.skip_word("OFFSET") { self.count()? } else { 0 };
        Ok(Query { fields, from, filter, order, limit, offset })
    }

    fn count(&mut self) -> Result<usize, Malformed> {
        let number = match self.peek() {
            Some(Token::Word(w)) => w.parse().ok(),
            _ => None,
        };
        self.at += 1;
        number.map_or_else(|| malformed("expecting a whole number"), Ok)
    }

    fn order(&mut self) -> Result<Vec<Order>, Malformed> {
        self.need_word("BY")?;
        let mut keys = Vec::new();
        loop {
            let field = self.name()?;
            let descending = self.skip_word("DESC");
            if !descending {
                self.skip_word("ASC");
            }
            let nulls_last = if self.skip_word("NULLS") {
                let last = self.skip_word("LAST");
                if !last {
                    self.need_word("FIRST")?;
                }
                last
            } else {
                false
            };
            keys.push(Order { field, descending, nulls_last });
            if !self.skip_mark(",") {
                return Ok(keys);
            }
        }
    }

    fn condition(&mut self, depth: usize) -> Result<Condition, Malformed> {
        if depth > DEEPEST {
            return malformed("the condition is nested too deeply");
        }
        let first = self.term(depth)?;
        let joiner = ["AND", "OR"].into_iter().find(|w| self.is_word(w));
        let Some(joiner) = joiner else { return Ok(first) };
        let mut parts = vec![first];
        while self.skip_word(joiner) {
            parts.push(self.term(depth)?);
        }
        if self.is_word("AND") || self.is_word("OR") {
            return malformed("AND and OR need parentheses between them");
        }
        Ok(if joiner == "AND" { Condition::All(parts) } else { Condition::Any(parts) })
    }

    fn term(&mut self, depth: usize) -> Result<Condition, Malformed> {
        if self.skip_word("NOT") {
            if depth > DEEPEST {
                return malformed("the condition is nested too deeply");
            }
            return Ok(Condition::Not(Box::new(self.term(depth + 1)?)));
        }
        if self.skip_mark("(") {
            let inner = self.condition(depth + 1)?;
            self.need_mark(")")?;
            return Ok(inner);
        }
        let field = self.name()?;
        let negated = self.skip_word("NOT");
        if negated || self.is_word("IN") {
            self.need_word("IN")?;
            self.need_mark("(")?;
            let mut literals = vec![self.literal()?];
            while self.skip_mark(",") {
                literals.push(self.literal()?);
            }
            self.need_mark(")")?;
            return Ok(Condition::OneOf { field, literals, negated });
        }
        let op = self.op()?;
        Ok(Condition::Compare { field, op, literal: self.literal()? })
    }

    fn op(&mut self) -> Result<Op, Malformed> {
        if self.skip_word("LIKE") {
            return Ok(Op::Like);
        }
        let marks = [("=", Op::Eq), ("!=", Op::Ne), ("<", Op::Lt), ("<=", Op::Le), (">", Op::Gt), (">=", Op::Ge)];
        let hit = marks.into_iter().find(|(m, _)| self.skip_mark(m));
        hit.map_or_else(|| malformed("expecting a comparison"), |(_, op)| Ok(op))
    }

    fn literal(&mut self) -> Result<Literal, Malformed> {
        let literal = match self.peek() {
            Some(Token::Text(t)) => Some(Literal::Text(t.clone())),
            Some(Token::Word(w)) => plain_literal(w),
            _ => None,
        };
        self.at += 1;
        literal.map_or_else(|| malformed("unexpected token, expecting a value; text needs quotes"), Ok)
    }
}

fn is_reserved(word: &str) -> bool {
    let words = [
        "SELECT", "FROM", "WHERE", "ORDER", "LIMIT", "OFFSET", "AND", "OR", "NOT", "IN", "LIKE", "NULL", "TRUE",
        "FALSE",
    ];
    words.iter().any(|r| r.eq_ignore_ascii_case(word))
}

fn plain_literal(word: &str) -> Option<Literal> {
    match word.to_ascii_lowercase().as_str() {
        "null" => return Some(Literal::Null),
        "true" => return Some(Literal::Bool(true)),
        "false" => return Some(Literal::Bool(false)),
        _ => {}
    }
    if let Ok(number) = word.parse::<f64>() {
        return number.is_finite().then_some(Literal::Number(number));
    }
    if let Ok(instant) = word.parse::<jiff::Timestamp>() {
        return Some(Literal::Instant(instant.as_microsecond()));
    }
    word.parse::<jiff::civil::Date>().ok().map(|d| Literal::Date(d.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_for_reads_is_read() {
        let query =
            parse(r"select Id, Email FROM Contact WHERE Email IN ('o\'hara@example.com', 'b\\c')").expect("good");
        assert_eq!(query.fields, ["Id", "Email"]);
        assert_eq!(query.from, "Contact");
        let literals = vec![Literal::Text("o'hara@example.com".into()), Literal::Text("b\\c".into())];
        assert_eq!(query.filter, Some(Condition::OneOf { field: "Email".into(), literals, negated: false }));
    }

    #[test]
    fn order_limit_and_times_are_read() {
        let query = parse(
            "SELECT Id FROM Lead WHERE SystemModstamp >= 2026-01-01T00:00:00Z ORDER BY SystemModstamp DESC NULLS LAST, Id LIMIT 5 OFFSET 2",
        );
        let query = query.expect("good");
        assert_eq!((query.limit, query.offset, query.order.len()), (Some(5), 2, 2));
        assert_eq!(query.order[0], Order { field: "SystemModstamp".into(), descending: true, nulls_last: true });
        assert_eq!(query.order[1], Order { field: "Id".into(), descending: false, nulls_last: false });
        let expected = Literal::Instant(1_767_225_600_000_000);
        assert_eq!(
            query.filter,
            Some(Condition::Compare { field: "SystemModstamp".into(), op: Op::Ge, literal: expected })
        );
        assert_eq!(parse("SELECT COUNT() FROM Lead").expect("good").fields, Vec::<String>::new());
    }

    #[test]
    fn what_is_not_soql_is_refused() {
        for bad in [
            "",
            "SELECT FROM Contact",
            "SELECT Id Contact",
            "SELECT Id FROM Contact WHERE",
            "SELECT Id FROM Contact WHERE Email = a",
            "SELECT Id FROM Contact WHERE Email = 'a",
            "SELECT Id FROM Contact WHERE Email IN ()",
            "SELECT Id FROM Contact;",
            "SELECT Id FROM Contact WHERE Email = 'a\\x'",
            "SELECT Id FROM Contact WHERE A = 1 AND B = 2 OR C = 3",
            "SELECT * FROM Contact",
            "SELECT Id FROM Contact LIMIT x",
            "DELETE FROM Contact",
            "SELECT Id FROM Contact extra",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let deep = format!("SELECT Id FROM C WHERE {}A = 1{}", "(".repeat(40), ")".repeat(40));
        assert!(parse(&deep).is_err());
    }
}
