//! Can the pages' colours be told apart by everyone? WCAG 2.2, contrast (minimum, AA) and non-text contrast, light and dark.

use std::collections::BTreeMap;

use super::assets::sheet;

/// Text on what it stands on: 4.5 to 1.
const TEXT: [(&str, &str); 23] = [
    ("ink", "page"),
    ("ink", "raised"),
    ("quiet", "page"),
    ("quiet", "raised"),
    ("held", "page"),
    ("held", "raised"),
    ("refuted", "page"),
    ("refuted", "raised"),
    ("aborted", "page"),
    ("aborted", "raised"),
    ("dirty", "page"),
    ("dirty", "raised"),
    ("neutral", "page"),
    ("neutral", "raised"),
    ("bad", "page"),
    ("bad", "raised"),
    ("stop", "page"),
    ("stop", "raised"),
    ("on-stop", "stop"),
    ("on-act", "act"),
    ("act", "page"),
    ("focus", "page"),
    ("focus", "raised"),
];

/// Edges of controls and marks of plots: 3 to 1.
const SHAPES: [(&str, &str); 6] =
    [("edge", "page"), ("edge", "raised"), ("ok", "page"), ("unknown", "page"), ("fault", "page"), ("fault", "raised")];

/// Variables of a part of the sheet.
fn colours(css: &str) -> BTreeMap<String, [u8; 3]> {
    let mut found = BTreeMap::new();
    for declaration in css.split([';', '{', '}']) {
        let Some((name, value)) = declaration.trim().strip_prefix("--").and_then(|rest| rest.split_once(": #")) else {
            continue;
        };
        let channel = |at: usize| value.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let (6, Some(r), Some(g), Some(b)) = (value.len(), channel(0), channel(2), channel(4)) {
            found.insert(name.to_owned(), [r, g, b]);
        }
    }
    found
}

/// Light; dark is what its media queries say, over light.
fn schemes(css: &str) -> (BTreeMap<String, [u8; 3]>, BTreeMap<String, [u8; 3]>) {
    let (mut light, mut dark) = (BTreeMap::new(), BTreeMap::new());
    for (n, part) in css.split("@media (prefers-color-scheme: dark)").enumerate() {
        let end = if n == 0 { 0 } else { part.find("\n}").expect("the query ends") };
        dark.extend(colours(&part[..end]));
        light.extend(colours(&part[end..]));
    }
    let mut whole = light.clone();
    whole.extend(dark);
    (light, whole)
}

/// <https://www.w3.org/TR/WCAG22/#dfn-relative-luminance>
fn luminance(colour: [u8; 3]) -> f64 {
    let linear = |channel: u8| {
        let c = f64::from(channel) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2])
}

fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn the_measure_is_that_of_the_standard() {
    assert!((contrast([0; 3], [255; 3]) - 21.0).abs() < 1e-9);
    assert!((contrast([0x77; 3], [255; 3]) - 4.48).abs() < 0.01);
    assert_eq!(contrast([9, 9, 9], [9, 9, 9]), 1.0);
}

#[test]
fn every_text_and_every_control_can_be_told_from_what_it_stands_on_in_light_and_dark() {
    let (light, dark) = schemes(&sheet());
    assert_ne!(light["page"], dark["page"]);
    let mut weak = Vec::new();
    for (scheme, colours) in [("light", &light), ("dark", &dark)] {
        for (pairs, least) in [(&TEXT[..], 4.5), (&SHAPES[..], 3.0)] {
            for (front, back) in pairs {
                let found = contrast(colours[*front], colours[*back]);
                if found < least {
                    weak.push(format!("{scheme}: {front} on {back} is {found:.2}, must be {least}"));
                }
            }
        }
    }
    assert!(weak.is_empty(), "{weak:#?}");
}

#[test]
fn no_colour_is_anywhere_but_in_a_variable() {
    let css = sheet();
    let is_hex = |rest: &str| rest.bytes().take_while(u8::is_ascii_hexdigit).count() >= 3;
    for line in css.lines().filter(|line| !line.trim_start().starts_with("--") && !line.contains(":root {")) {
        assert!(!line.split('#').skip(1).any(is_hex) && !line.contains("rgb(") && !line.contains("hsl("), "{line}");
    }
}
