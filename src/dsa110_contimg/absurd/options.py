"""Values of JSON built into the annotated types of Python: options of stages, parameters of tasks."""

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

_MOST_SHOWN = 100  # characters of what was given
_ALIKE = 0.5  # of 1, of a name or of one of its words: niter means max_minor_iterations


class OptionsError(ValueError):
    """The options do not fit the function; trying again cannot help."""

    retryable = False


def build(kind: Any, value: Any, where: str = "options") -> Any:
    """Return ``value``, as JSON gives it, as an instance of the annotated type ``kind``.

    Knows dataclasses (nested too), Pydantic models, tuples, lists, dicts, optionals and other unions, ``Literal``, str,
    int, float and bool; an int is accepted where a float is asked for.

    Raises
    ------
    OptionsError
        A key is missing or unknown, or a value is of another type; the message says where.
    """
    if dataclasses.is_dataclass(kind) or hasattr(kind, "model_validate"):
        return _build_record(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _build_union(arguments, value, where)
    if origin is typing.Literal:
        return _expect(value in arguments, value, where, f"one of {list(arguments)}")
    if origin is tuple or kind is tuple:
        return _build_tuple(arguments, value, where)
    if origin is list:
        _expect(isinstance(value, list), value, where, "a list")
        return [build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(origin or kind, type) and issubclass(origin or kind, Mapping):
        _expect(isinstance(value, dict), value, where, "an object")
        return {key: build(arguments[1] if arguments else Any, item, f"{where}.{key}") for key, item in value.items()}
    return _build_scalar(kind, value, where)


def _expect(fits: bool, value: Any, where: str, wanted: str) -> Any:
    if not fits:
        raise OptionsError(f"{where} is {shown(value)}; give {wanted}")
    return value


def shown(value: Any) -> str:
    """Return a value as it stands in a message: what is long, its beginning."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."


def unknown(name: str, value: Any, known: Sequence[str]) -> str:
    """Say that a name is unknown, with the nearest one that is known, and all that are."""
    near = nearest(name, known)
    meant = f"did you mean {near!r}? " if near else ""
    there = f"there are {', '.join(known)}" if known else "there is nothing to choose"
    return f"{shown(name)} is unknown, given as {shown(value)}; {meant}{there}"


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the name that is most like one that was given, or one of whose words is; None where none is alike."""
    near = max(known, key=lambda one: _likeness(name, one), default="")
    return near if _likeness(name, near) >= _ALIKE else None


def _likeness(name: str, known: str) -> float:
    words = (known, *known.split("_"))
    return max(difflib.SequenceMatcher(None, name[:_MOST_SHOWN], word).ratio() for word in words)


def _build_record(kind: Any, value: Any, where: str) -> Any:
    if hasattr(kind, "model_validate"):
        return _build_model(kind, value, where)
    _expect(isinstance(value, dict), value, where, f"an object with the fields of {kind.__name__}")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    required = {
        name for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }  # fmt: skip
    if missing := sorted(required - value.keys()):
        raise OptionsError(f"{where} lacks {', '.join(missing)}")
    if strange := sorted(value.keys() - fields.keys()):
        raise OptionsError(f"{where}: {unknown(strange[0], value[strange[0]], sorted(fields))}")
    hints = typing.get_type_hints(kind)
    built = {name: build(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    try:
        return kind(**built)
    except OptionsError:
        raise
    except ValueError as error:  # its own __post_init__
        raise OptionsError(f"{where}: {error}") from error


def _build_model(kind: Any, value: Any, where: str) -> Any:
    """Build a Pydantic model; Pydantic itself is not imported here, whoever has a model has done so."""
    try:
        return kind.model_validate(value)
    except ValueError as error:
        problems = error.errors() if hasattr(error, "errors") else ()
        reasons = (f"{'.'.join([where, *map(str, one['loc'])])} is {one['input']!r}; {one['msg']}" for one in problems)
        raise OptionsError("; and ".join(reasons) or f"{where}: {error}") from error


def _build_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    reasons = []
    for kind in sorted(kinds, key=lambda kind: kind is float):  # an int fits int before float
        try:
            return build(kind, value, where)
        except OptionsError as error:
            reasons.append(str(error))
    raise OptionsError("; or ".join(reasons))


def _build_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    _expect(isinstance(value, list), value, where, "a list")
    if not kinds:
        return tuple(value)
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    _expect(len(kinds) == len(value), value, where, f"a list of {len(kinds)}")
    return tuple(build(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _build_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is None or kind is type(None):
        return _expect(value is None, value, where, "null")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        _expect(abs(value) <= sys.float_info.max, value, where, f"a number below {sys.float_info.max:g}")
        return float(value)
    _expect(type(value) is kind, value, where, f"a value of type {getattr(kind, '__name__', kind)}")
    return value
