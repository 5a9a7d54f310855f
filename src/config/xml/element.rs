//! One element of the file while it is being read.
//!
//! Whoever reads an element asks for every attribute and child it may have; what is left when the reading is done is
//! unknown and reported, with the nearest of the names that were asked for. So the code that reads is the schema, and
//! there is no second list to keep equal to it.

use roxmltree::Node;

use super::super::problem::{At, Problems};
use super::super::quote;
use super::super::suggest::nearest;

/// An attribute as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Attribute {
    pub(in crate::config) name: &'static str,
    pub(in crate::config) value: String,
    pub(in crate::config) at: At,
}

/// An element that is being read.
pub(super) struct Element<'d, 'p, 't> {
    node: Node<'d, 'd>,
    problems: &'p mut Problems<'t>,
    attributes: Vec<&'static str>,
    children: Vec<&'static str>,
    content_ignored: bool,
}

impl<'d, 'p, 't> Element<'d, 'p, 't> {
    /// Reads `node` with `read` and reports whatever `read` did not ask for.
    pub(super) fn read<T>(
        node: Node<'d, 'd>,
        problems: &'p mut Problems<'t>,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut element = Self {
            node,
            problems,
            attributes: Vec::new(),
            children: Vec::new(),
            content_ignored: false,
        };
        let result = read(&mut element);
        element.report_the_rest();
        result
    }

    /// Where the element starts.
    pub(super) fn at(&self) -> At {
        At(self.node.range().start)
    }

    pub(super) fn problems(&mut self) -> &mut Problems<'t> {
        self.problems
    }

    /// The attribute `name`, if it is there.
    pub(super) fn attribute(&mut self, name: &'static str) -> Option<Attribute> {
        self.attributes.push(name);
        let attribute = self.node.attribute_node(name)?;
        Some(Attribute {
            name,
            value: attribute.value().to_owned(),
            at: At(attribute.range().start),
        })
    }

    /// The only child `name`, if it is there. A second one is an error.
    pub(super) fn child<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&mut Element<'d, '_, 't>) -> T,
    ) -> Option<T> {
        let mut found = self.children(name, |element| (element.at(), read(element)));
        for (at, _) in found.iter().skip(1) {
            self.problems.error(
                *at,
                format!(
                    "`{name}` may appear only once in `{}`; remove one of them",
                    self.name()
                ),
            );
        }
        found.truncate(1);
        found.pop().map(|(_, child)| child)
    }

    /// All children `name`, in the order of the file.
    pub(super) fn children<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&mut Element<'d, '_, 't>) -> T,
    ) -> Vec<T> {
        self.children.push(name);
        self.node
            .children()
            .filter(|child| is_named(*child, name))
            .map(|child| Element::read(child, self.problems, &mut read))
            .collect()
    }

    /// Reports nothing in this element, because the element itself is unknown.
    pub(super) fn ignore_content(&mut self) {
        self.content_ignored = true;
    }

    fn name(&self) -> &'d str {
        self.node.tag_name().name()
    }

    fn report_the_rest(mut self) {
        if self.content_ignored {
            return;
        }
        self.report_unknown_attributes();
        for child in self.node.children() {
            if child.is_element() {
                self.report_unknown_child(child);
            } else if child.is_text() {
                self.report_text(child);
            }
        }
    }

    fn report_unknown_attributes(&mut self) {
        for attribute in self.node.attributes() {
            let name = attribute.name();
            if attribute.namespace().is_none() && self.attributes.contains(&name) {
                continue;
            }
            let text = format!(
                "unknown attribute {} of `{}`; {}",
                quote(name),
                self.name(),
                advice(name, &self.attributes, "it has no attributes")
            );
            self.problems.error(At(attribute.range().start), text);
        }
    }

    fn report_unknown_child(&mut self, child: Node<'d, 'd>) {
        let name = child.tag_name().name();
        if self.children.iter().any(|known| is_named(child, known)) {
            return;
        }
        let text = format!(
            "unknown element {} in `{}`; {}",
            quote(name),
            self.name(),
            advice(name, &self.children, "it holds no elements")
        );
        self.problems.error(At(child.range().start), text);
    }

    fn report_text(&mut self, child: Node<'d, 'd>) {
        let text = child.text().unwrap_or_default();
        let words = text.trim();
        let Some(first) = words.lines().next() else {
            return;
        };
        // As it is written: lines may end otherwise there.
        let raw = &child.document().input_text()[child.range()];
        let written = raw.strip_prefix("<![CDATA[").unwrap_or(raw).trim_start();
        let start = child.range().end - written.len();
        let text = format!(
            "text between elements has no effect: {}; write a comment as <!-- … -->",
            quote(first)
        );
        self.problems.warning(At(start), text);
    }
}

fn is_named(node: Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().namespace().is_none() && node.tag_name().name() == name
}

/// What to write instead of `name`.
fn advice(name: &str, known: &[&'static str], if_none: &str) -> String {
    if let Some(meant) = nearest(name, known.iter().copied()) {
        if meant == name {
            return "write it without a namespace".to_owned();
        }
        return format!("did you mean `{meant}`?");
    }
    if known.is_empty() {
        return format!("{if_none}, so remove it");
    }
    format!("known here: `{}`", known.join("`, `"))
}
