"""JSON to the classes of `_models`: what is missing or of another type is an error that names its place."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Tuple, Type, TypeVar, Union, get_args, get_origin, get_type_hints

from ._models import OWN_FIELDS
from .errors import Unreachable

T = TypeVar("T")


def camel(name: str) -> str:
    """`p99_us` to `p99Us`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def optional(hint: Any) -> Tuple[Any, bool]:
    """`Optional[X]` to X and True."""
    if get_origin(hint) is Union:
        inner = [argument for argument in get_args(hint) if argument is not type(None)]
        return inner[0], True
    return hint, False


def decode(kind: Type[T], value: Any, place: str = "") -> T:
    """Fields that the class does not have are passed over: a newer coordinator says more."""
    if not isinstance(value, dict):
        raise _differs(place, "an object", value)
    hints = get_type_hints(kind)
    arguments: Dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name in OWN_FIELDS:
            arguments[field.name] = value
            continue
        name = camel(field.name)
        hint, may_lack = optional(hints[field.name])
        defaulted = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in value or (value[name] is None and may_lack):
            if not (may_lack or defaulted):
                raise _differs(f"{place}/{name}", "something", None)
            if may_lack:
                arguments[field.name] = None
            continue
        arguments[field.name] = _value(hint, value[name], f"{place}/{name}")
    return kind(**arguments)


def _value(hint: Any, value: Any, place: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return decode(hint, value, place)
    origin = get_origin(hint)
    if origin is list:
        if not isinstance(value, list):
            raise _differs(place, "a list", value)
        (inner,) = get_args(hint)
        return [_value(inner, item, f"{place}/{index}") for index, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise _differs(place, "an object", value)
        _, inner = get_args(hint)
        return {key: _value(inner, item, f"{place}/{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # True is an int for Python, and none for JSON.
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise _differs(place, hint.__name__, value)
    return value


def _differs(place: str, wanted: str, value: Any) -> Unreachable:
    shown = repr(value)[:80]
    return Unreachable(
        f"the coordinator answered something else than expected: {wanted} at {place or '/'}, found {shown} "
        "(this client and squalld of the same version understand each other)"
    )
