//! What a schema asks for, in words, however schemars spells it.

use serde_json::Value;

use crate::units::format_means;

/// What a schema asks for, in words.
pub(crate) fn kind(schema: &Value, root: &Value) -> String {
    let schema = resolve(schema, root);
    if let Some(choices) = choices(schema, root) {
        return match choices.as_slice() {
            [] => "nothing".to_owned(),
            [one] => format!("`{one}`"),
            [init @ .., last] => format!("{} or {last}", init.join(", ")),
        };
    }
    if let Some(format) = schema["format"].as_str().and_then(format_means) {
        return format.to_owned();
    }
    if let Some(variants) = schema["anyOf"].as_array() {
        let some = variants.iter().find(|variant| variant["type"] != "null");
        return some.map_or_else(|| "nothing".to_owned(), |variant| kind(variant, root));
    }
    match type_names(schema).first().copied() {
        Some("string") => "a text".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("number") => "a number".to_owned(),
        Some("integer") => match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
            (Some(low), Some(high)) => format!("a whole number from {low} to {high}"),
            (Some(low), None) => format!("a whole number, at least {low}"),
            _ => "a whole number".to_owned(),
        },
        Some("array") => format!("a list, each {}", kind(&schema["items"], root)),
        Some("object") => match schema["properties"].as_object() {
            Some(fields) if !fields.is_empty() => {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                let open = if schema["additionalProperties"].is_object() { " and others" } else { "" };
                format!("a mapping with the fields {}{open}", names.join(", "))
            }
            _ => "a mapping".to_owned(),
        },
        _ => "anything".to_owned(),
    }
}

/// Follows `$ref`s within the document.
pub(crate) fn resolve<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    while let Some(target) = schema["$ref"].as_str().and_then(|r| root.pointer(r.trim_start_matches('#'))) {
        schema = target;
    }
    schema
}

/// The types of a schema but `null`.
pub(crate) fn type_names(schema: &Value) -> Vec<&str> {
    let names = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    names.into_iter().filter(|name| *name != "null").collect()
}

/// The texts of an enumeration, however it is spelled. None if it is none.
pub(crate) fn choices<'a>(schema: &'a Value, root: &'a Value) -> Option<Vec<&'a str>> {
    let schema = resolve(schema, root);
    if let Some(one) = schema["const"].as_str() {
        return Some(vec![one]);
    }
    if let Some(several) = schema["enum"].as_array() {
        return Some(several.iter().filter_map(Value::as_str).collect());
    }
    let variants = schema["oneOf"].as_array().or(schema["anyOf"].as_array())?;
    let mut all = Vec::new();
    for variant in variants.iter().filter(|variant| variant["type"] != "null") {
        all.extend(choices(variant, root)?);
    }
    Some(all)
}
