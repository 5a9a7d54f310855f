//! org.sersync1(5): the interfaces in `dist/dbus`, and the errors.

use std::collections::BTreeSet;

use roxmltree::{Document, Node, ParsingOptions};

use crate::page::{read, section};

/// `Flush(t timeout_usec, out b done)`
fn signature(member: Node<'_, '_>) -> String {
    let arguments = member.children().filter(|child| child.has_tag_name("arg"));
    let arguments = arguments.map(|argument| {
        let of = |name| argument.attribute(name).unwrap_or_default();
        let out = if of("direction") == "out" { "out " } else { "" };
        format!("{out}{} {}", of("type"), of("name"))
    });
    let arguments: Vec<_> = arguments.collect();
    format!(
        "{}({})",
        member.attribute("name").unwrap_or_default(),
        arguments.join(", ")
    )
}

/// Methods, signals and properties of an interface, each as a person would write it, with a word in front.
fn members(interface: &str) -> BTreeSet<String> {
    let text = read(&format!("dist/dbus/{interface}.xml"));
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(&text, options).expect("well-formed XML");
    let members = document.descendants().filter_map(|member| {
        let of = |name| member.attribute(name).unwrap_or_default();
        match member.tag_name().name() {
            "method" => Some(format!("Methods {}", signature(member))),
            "signal" => Some(format!("Signals {}", signature(member))),
            "property" => {
                let mut annotations = member.children();
                let is_constant =
                    annotations.any(|child| child.attribute("value") == Some("const"));
                let constant = if is_constant { ", constant" } else { "" };
                Some(format!(
                    "Properties {} ({}{constant})",
                    of("name"),
                    of("type")
                ))
            }
            _ => None,
        }
    });
    members.collect()
}

#[test]
fn every_method_property_and_signal_is_in_the_manual() {
    let page = read("man/org.sersync1.5");
    for interface in ["org.sersync1.Manager", "org.sersync1.Remote"] {
        let mut described = BTreeSet::new();
        let mut kind = "";
        for line in section(&page, interface) {
            if let Some(heading) = line.strip_prefix(".Ss ") {
                kind = heading;
            } else if let Some(member) = line.strip_prefix(".It Fn ") {
                let name = member.split(' ').next().unwrap_or_default();
                let arguments: Vec<_> = member.split('"').skip(1).step_by(2).collect();
                described.insert(format!("{kind} {name}({})", arguments.join(", ")));
            } else if let Some(property) = line.strip_prefix(".It Va ") {
                let (name, kinds) = property.split_once(" Pq ").expect("a property has a type");
                described.insert(format!("{kind} {name} ({})", kinds.replace(" ,", ",")));
            }
        }
        assert_eq!(described, members(interface));
    }
}

#[test]
fn every_error_of_the_bus_is_in_the_manual() {
    let page = read("man/org.sersync1.5");
    let lines = section(&page, "ERROR NAMES");
    let described: BTreeSet<_> = lines
        .iter()
        .filter_map(|line| line.strip_prefix(".It Er org."))
        .collect();
    let source = read("src/dbus/refusal.rs");
    let names = source.lines().filter_map(|line| {
        line.trim()
            .strip_prefix("#[zbus(name = \"")?
            .strip_suffix("\")]")
    });
    assert_eq!(described, names.collect());
}
