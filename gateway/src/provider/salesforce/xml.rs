//! A walk through a foreign XML document that can only go forward, and only so deep.
//!
//! It must not know SOAP. No document type is taken, so there are no entities beyond the five that XML itself defines;
//! depth, attributes and namespaces are bounded; names are compared by namespace, never by the prefix a sender chose.
//! The surprising thing: nothing is kept of what is walked past, so a document costs the memory of its longest value.

use std::borrow::Cow;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesDecl, BytesStart, Event};
use quick_xml::name::{Namespace, QName, ResolveResult};
use quick_xml::reader::NsReader;

use crate::provider::Malformed;

/// Deepest nesting. Real messages nest seven levels.
const DEPTH: usize = 16;
/// Attributes of one element, namespaces included. Real elements carry three.
const ATTRIBUTES: usize = 32;
/// Namespaces in scope at one place. Real messages have five.
const NAMESPACES: usize = 64;
/// Longest element name or type taken over.
const NAME_BYTES: usize = 256;

/// The namespace of `nil` and `type`.
const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

const ILL_FORMED: Malformed = Malformed("the body is not well-formed XML");

/// One element's opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// Its namespace, empty for none.
    pub(super) space: String,
    /// Its name inside the namespace.
    pub(super) name: String,
    /// It says that it has no value.
    pub(super) nil: bool,
    /// The type it says to have.
    pub(super) kind: Option<Type>,
}

/// A type named in an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Type {
    /// Its namespace, empty for none.
    pub(super) space: String,
    /// Its name inside the namespace.
    pub(super) name: String,
}

impl Element {
    /// Whether it is the element `name` of `space`.
    pub(super) fn is(&self, space: &str, name: &str) -> bool {
        self.space == space && self.name == name
    }
}

/// What stands at the current place.
enum Node<'b> {
    Open(Element),
    Text(Cow<'b, str>),
    Close,
    End,
}

/// Stands somewhere inside a document.
pub(super) struct Walk<'b> {
    reader: NsReader<&'b [u8]>,
    depth: usize,
    /// An empty element was opened and its closing is still to come.
    closing: bool,
}

impl<'b> Walk<'b> {
    /// At the beginning of `body`.
    pub(super) fn new(body: &'b [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(body).map_err(|_| Malformed("the body is not UTF-8"))?;
        let mut reader = NsReader::from_str(text);
        reader.resolver_mut().set_max_namespace_bindings(NAMESPACES);
        Ok(Self { reader, depth: 0, closing: false })
    }

    /// The next child of the element around this place; `None` once that element is closed, or the document ended.
    /// The caller then walks the child with [`Walk::child`], [`Walk::text`] or [`Walk::skip`] until it is closed.
    pub(super) fn child(&mut self) -> Result<Option<Element>, Malformed> {
        loop {
            match self.next()? {
                Node::Open(element) => return Ok(Some(element)),
                Node::Close | Node::End => return Ok(None),
                Node::Text(text) if text.trim_ascii().is_empty() => {}
                Node::Text(_) => return Err(Malformed("text stands where only elements may")),
            }
        }
    }

    /// The text of the element just opened, which must hold no other element; closes it.
    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        match self.content()? {
            Content::Text(text) => Ok(text),
            Content::Child(..) => Err(Malformed("an element stands where only text may")),
        }
    }

    /// The text of the element just opened and closed; or, where it holds elements, the first of them, just opened.
    pub(super) fn content(&mut self) -> Result<Content, Malformed> {
        let mut text = String::new();
        loop {
            match self.next()? {
                Node::Text(more) => text.push_str(&more),
                Node::Close => return Ok(Content::Text(text)),
                Node::Open(child) if text.trim_ascii().is_empty() => return Ok(Content::Child(child)),
                Node::Open(_) => return Err(Malformed("text and elements are mixed")),
                Node::End => return Err(ILL_FORMED),
            }
        }
    }

    /// Walks past the element just opened without keeping anything of it.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        let outside = self.depth - 1;
        while self.depth > outside {
            if matches!(self.next()?, Node::End) {
                return Err(ILL_FORMED);
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Node<'b>, Malformed> {
        if std::mem::take(&mut self.closing) {
            self.depth -= 1;
            return Ok(Node::Close);
        }
        loop {
            // Every fault of the reader is one of form; what it would say may hold parts of the body.
            return match self.reader.read_event().map_err(|_| ILL_FORMED)? {
                Event::Start(start) => self.open(&start),
                Event::Empty(start) => {
                    self.closing = true;
                    self.open(&start)
                }
                Event::End(_) => {
                    self.depth -= 1;
                    Ok(Node::Close)
                }
                Event::Text(text) => visible(text.xml10_content()).map(Node::Text),
                Event::CData(text) => visible(text.xml10_content()).map(Node::Text),
                Event::GeneralRef(reference) => entity(&reference).map(|c| Node::Text(Cow::Owned(c.into()))),
                Event::DocType(_) => Err(Malformed("the body has a document type, which is never taken")),
                Event::Decl(declaration) => match utf8(&declaration) {
                    true => continue,
                    false => Err(Malformed("the body declares another encoding than UTF-8")),
                },
                Event::Comment(_) | Event::PI(_) => continue,
                Event::Eof if self.depth > 0 => Err(ILL_FORMED),
                Event::Eof => Ok(Node::End),
            };
        }
    }

    fn open(&mut self, start: &BytesStart<'_>) -> Result<Node<'b>, Malformed> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Malformed("the body nests too deeply"));
        }
        let (space, name) = self.reader.resolver().resolve_element(start.name());
        let mut element =
            Element { space: bound(space)?, name: short(name.into_inner())?.to_owned(), nil: false, kind: None };
        for (place, attribute) in start.attributes().enumerate() {
            let attribute = attribute.map_err(|_| ILL_FORMED)?;
            if place >= ATTRIBUTES {
                return Err(Malformed("an element has too many attributes"));
            }
            let (space, name) = self.reader.resolver().resolve_attribute(attribute.key);
            if bound(space)? != INSTANCE {
                continue;
            }
            let value = attribute.normalized_value(XmlVersion::Explicit1_0).map_err(|_| ILL_FORMED)?;
            match name.into_inner() {
                "nil" => element.nil = matches!(value.trim(), "true" | "1"),
                "type" => element.kind = Some(self.type_of(value.trim())?),
                _ => {}
            }
        }
        Ok(Node::Open(element))
    }

    /// Resolves the name of a type as a name of an element, whose prefix means what it means at this place.
    fn type_of(&self, value: &str) -> Result<Type, Malformed> {
        let (name, prefix) = QName(short(value)?).decompose();
        let space = bound(self.reader.resolver().resolve_prefix(prefix, true))?;
        Ok(Type { space, name: name.into_inner().to_owned() })
    }
}

/// What an element holds.
pub(super) enum Content {
    /// Text only, maybe none; the element is closed.
    Text(String),
    /// Elements; the first was just opened.
    Child(Element),
}

fn bound(resolved: ResolveResult<'_>) -> Result<String, Malformed> {
    match resolved {
        ResolveResult::Bound(Namespace(space)) => short(space).map(str::to_owned),
        ResolveResult::Unbound => Ok(String::new()),
        ResolveResult::Unknown(_) => Err(Malformed("a prefix has no namespace")),
    }
}

fn short(name: &str) -> Result<&str, Malformed> {
    if name.len() <= NAME_BYTES { Ok(name) } else { Err(Malformed("a name is too long")) }
}

/// No declared encoding is UTF-8, by the XML recommendation.
fn utf8(declaration: &BytesDecl<'_>) -> bool {
    match declaration.encoding() {
        None => true,
        Some(encoding) => encoding.is_ok_and(|name| name.eq_ignore_ascii_case("utf-8")),
    }
}

/// The character behind a reference: by its number, or one of the five names.
fn entity(reference: &quick_xml::events::BytesRef<'_>) -> Result<char, Malformed> {
    let named = || match &**reference {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => None,
    };
    let found = reference.resolve_char_ref().map_err(|_| ILL_FORMED)?.or_else(named);
    found.filter(|c| is_visible(*c)).ok_or(Malformed("the body uses an entity that XML does not define"))
}

fn visible(text: Cow<'_, str>) -> Result<Cow<'_, str>, Malformed> {
    if text.chars().all(is_visible) { Ok(text) } else { Err(Malformed("the body holds characters that XML forbids")) }
}

/// The `Char` production of XML 1.0. Surrogates cannot stand in a `char`.
const fn is_visible(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the whole document; answers its leaves.
    fn leaves(body: &str) -> Result<Vec<String>, Malformed> {
        let mut walk = Walk::new(body.as_bytes())?;
        let mut out = Vec::new();
        let mut depth = 0;
        loop {
            match walk.next()? {
                Node::Open(element) => {
                    depth += 1;
                    out.push(format!("{depth} {{{}}}{}", element.space, element.name));
                }
                Node::Text(text) => out.push(format!("'{text}'")),
                Node::Close => depth -= 1,
                Node::End => return Ok(out),
            }
        }
    }

    #[test]
    fn names_are_told_by_namespace_and_text_is_unescaped() {
        let body = r#"<?xml version="1.0" encoding="utf-8"?><a xmlns="one" xmlns:p="two"><p:b>x&lt;&#233;&#x1F600;<![CDATA[<]]></p:b><c xmlns=""/><!-- no --></a>"#;
        let expected = ["1 {one}a", "2 {two}b", "'x'", "'<'", "'é'", "'😀'", "'<'", "2 {}c"];
        assert_eq!(leaves(body).unwrap(), expected);
    }

    #[test]
    fn a_type_is_resolved_where_it_stands() {
        let body =
            r#"<a xmlns:i="http://www.w3.org/2001/XMLSchema-instance" xmlns:s="types" i:type="s:T"><b i:nil="1"/></a>"#;
        let mut walk = Walk::new(body.as_bytes()).unwrap();
        let a = walk.child().unwrap().unwrap();
        assert_eq!(a.kind, Some(Type { space: "types".to_owned(), name: "T".to_owned() }));
        assert!(walk.child().unwrap().unwrap().nil);
        assert_eq!(walk.text().unwrap(), "");
        assert_eq!(walk.child(), Ok(None));
        assert_eq!(walk.child(), Ok(None), "the document has ended");
    }

    #[test]
    fn what_could_hurt_is_refused() {
        let deep = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
        let wide = |n: usize| format!("<a {}/>", (0..n).map(|i| format!("b{i}=''")).collect::<Vec<_>>().join(" "));
        let spaces = |n: usize| format!("<a {}/>", (0..n).map(|i| format!("xmlns:b{i}='x' ")).collect::<String>());
        assert!(leaves(&deep(16)).is_ok());
        assert!(leaves(&wide(32)).is_ok() && leaves(&spaces(32)).is_ok());
        for body in [
            "<!DOCTYPE a><a/>",
            "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>",
            "<a>&e;</a>",
            "<a>&nbsp;</a>",
            "<a>&#0;</a>",
            "<a>&#1;</a>",
            "<a>&#xD800;</a>",
            "<a>\u{1}</a>",
            "<a>&</a>",
            "<a",
            "<a>",
            "</a>",
            "<a></b>",
            "<p:a/>",
            "<a b='1' b='2'/>",
            "<a b=1/>",
            "<?xml version='1.0' encoding='UTF-16'?><a/>",
            &deep(17),
            &wide(33),
            &spaces(200),
            &format!("<{}/>", "a".repeat(257)),
        ] {
            assert!(leaves(body).is_err(), "{body:.60}");
        }
        assert_eq!(Walk::new(b"<a>\xff</a>").err(), Some(Malformed("the body is not UTF-8")));
    }
}
