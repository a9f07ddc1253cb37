"""Compares what the client uses with an OpenAPI document: every operation, parameter and field, and every field's type."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Tuple, get_args, get_origin, get_type_hints

from squall_client import _api, _models
from squall_client._decode import camel, optional

Schema = Dict[str, Any]


def differences(document: Dict[str, Any]) -> List[str]:
    """Empty: the document has all that the client relies on."""
    found: List[str] = []
    schemas: Dict[str, Schema] = document["components"]["schemas"]
    for operation in _api.ALL:
        found += _operation(document, operation)
    for model in _models.SCHEMAS:
        schema = schemas.get(model.SCHEMA)
        found += [f"no schema {model.SCHEMA}"] if schema is None else _fields(model, model.SCHEMA, schema, schemas)
    for event in _models.EVENTS:
        found += _event(event, schemas)
    return found


def _operation(document: Dict[str, Any], operation: _api.Operation) -> List[str]:
    name = f"{operation.method.upper()} {operation.path}"
    described = document["paths"].get(operation.path, {}).get(operation.method)
    if described is None:
        return [f"no operation {name}"]
    found = []
    parameters = {(one["in"], one["name"]) for one in described.get("parameters", [])}
    wanted = {("path", "run")} if "{run}" in operation.path else set()
    if operation is _api.STREAM:
        wanted.add(("header", _api.LAST_EVENT_ID))
    found += [f"{name}: no parameter {kind} {parameter}" for kind, parameter in sorted(wanted - parameters)]
    if operation.sends is not None:
        body = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        if _named(body) != operation.sends:
            found.append(f"{name}: its body is {body}, and {operation.sends} is sent")
        schema = document["components"]["schemas"].get(operation.sends, {})
        found += [f"{operation.sends}: no field {one}" for one in operation.fields if one not in schema.get("properties", {})]
        missing = set(schema.get("required", [])) - set(operation.fields)
        found += [f"{operation.sends}: {one} is required and not sent" for one in sorted(missing)]
    elif described.get("requestBody", {}).get("required"):
        found.append(f"{name}: wants a body")
    answer = described["responses"].get(str(operation.status))
    if answer is None:
        return found + [f"{name}: never answers {operation.status}"]
    if operation.answers is not None:
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        if _named(schema) != operation.answers:
            found.append(f"{name}: answers {schema}, and {operation.answers} is read")
    return found


def _named(schema: Schema) -> str:
    return str(schema.get("$ref", "")).rsplit("/", 1)[-1]


def _event(event: Any, schemas: Dict[str, Schema]) -> List[str]:
    whole = schemas["RunEvent"]
    of_all = {name for name in ("seq", "event") if name not in whole.get("properties", {})}
    for branch in whole.get("oneOf", []):
        if branch.get("properties", {}).get("event", {}).get("const") == event.EVENT:
            found = [f"RunEvent: no {name}" for name in of_all if name not in branch["properties"]]
            return found + _fields(event, f"RunEvent {event.EVENT}", branch, schemas)
    return [f"RunEvent: no event {event.EVENT}"]


def _fields(model: Any, name: str, schema: Schema, schemas: Dict[str, Schema]) -> List[str]:
    properties, required = _properties(schema, schemas)
    hints = get_type_hints(model)
    found = []
    for field in dataclasses.fields(model):
        if field.name in _models.OWN_FIELDS:
            continue
        key = camel(field.name)
        if key not in properties:
            found.append(f"{name}: no field {key}")
            continue
        hint, may_be_null = optional(hints[field.name])
        defaulted = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if key not in required and not defaulted:
            found.append(f"{name}/{key}: may be absent, and the client needs it")
        wanted = _wanted(hint)
        said, nullable = _said(properties[key], schemas)
        if nullable and not may_be_null:
            found.append(f"{name}/{key}: may be null, and the client needs it")
        if said != wanted:
            found.append(f"{name}/{key}: is {said}, and {wanted} is read")
    return found


def _properties(schema: Schema, schemas: Dict[str, Schema]) -> Tuple[Dict[str, Schema], List[str]]:
    """With those of what it is made of (a flattened struct)."""
    properties, required = dict(schema.get("properties", {})), list(schema.get("required", []))
    for part in schema.get("allOf", []) + ([{"$ref": schema["$ref"]}] if "$ref" in schema else []):
        inner, needed = _properties(_resolved(part, schemas), schemas)
        properties.update(inner)
        required += needed
    return properties, required


def _resolved(schema: Schema, schemas: Dict[str, Schema]) -> Schema:
    while "$ref" in schema and len(schema) <= 2:
        schema = schemas[_named(schema)]
    return schema


def _wanted(hint: Any) -> str:
    if dataclasses.is_dataclass(hint):
        return str(getattr(hint, "SCHEMA"))
    if get_origin(hint) is list:
        return f"list of {_wanted(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"map of {_wanted(get_args(hint)[1])}"
    return {str: "string", int: "integer", float: "number", bool: "boolean"}[hint]


def _said(schema: Schema, schemas: Dict[str, Schema]) -> Tuple[str, bool]:
    """The type in the same words, and whether null is one of its values."""
    if "anyOf" in schema:
        inner = [part for part in schema["anyOf"] if part.get("type") != "null"]
        return _said(inner[0], schemas)[0], len(inner) < len(schema["anyOf"])
    name = _named(schema)
    if name:
        target = schemas[name]
        return (name, False) if target.get("type") == "object" else _said(target, schemas)
    if "oneOf" in schema:
        kinds = {_said(part, schemas)[0] for part in schema["oneOf"]}
        return " or ".join(sorted(kinds)), False
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else list(types)
    nullable = "null" in types
    types = [kind for kind in types if kind != "null"]
    kind = types[0] if len(types) == 1 else str(types)
    if kind == "array":
        return f"list of {_said(schema['items'], schemas)[0]}", nullable
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_said(schema['additionalProperties'], schemas)[0]}", nullable
    return kind, nullable
