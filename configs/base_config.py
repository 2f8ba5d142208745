"""Configurations as nested classes: what a field may be called is what the class declares.

A configuration is a class whose attributes are its fields and whose inner classes are its sections::

    class TaskCfg(BaseConfig):
        seed = 1

        class env:
            num_envs = 512

``TaskCfg()`` is an independent copy of all of it, sections included, so that ``cfg.env.num_envs = 64`` changes nothing
but ``cfg``. A field that the class does not declare is an error that suggests the one that was probably meant.
A class or section may name fields of earlier releases in ``_dropped``: files that hold them can still be read.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import difflib
import math
from typing import Any, Iterable, Mapping, Sequence

from cmg_ref.core.shorten import one_line, shortened

__all__ = ["BaseConfig", "ConfigError", "apply_overrides", "check_fields", "class_to_dict", "suggestion"]
__all__ += ["fitted", "literal", "per_joint", "update_from_dict"]

MAX_OVERRIDE_LENGTH = 4096  # characters


class ConfigError(ValueError):
    """A field that does not exist, or a value that does not fit it. The message names the field."""


class BaseConfig:
    """Base of configurations; inner classes become sections of the instance.

    Attributes:
        _dropped: Fields that earlier releases declared and nothing depends on.

    Raises:
        ConfigError: On assigning to a field that the class does not declare.
    """

    _dropped: tuple[str, ...] = ()

    def __init__(self) -> None:
        for name in field_names(self):
            value = getattr(type(self), name)
            if isinstance(value, type):
                section = type(name, (value, BaseConfig), {"__module__": value.__module__})
                section.__qualname__ = f"{type(self).__qualname__}.{name}"
                self.__dict__[name] = section()
            else:
                self.__dict__[name] = copy.deepcopy(value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__:
            raise ConfigError(_unknown(type(self).__qualname__, name, self.__dict__))
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({class_to_dict(self)})"


def field_names(config: BaseConfig) -> list[str]:
    """Names of the fields and sections that the class of a configuration declares, in the order of declaration."""
    names: dict[str, None] = {}
    for owner in reversed(type(config).__mro__):
        if owner not in (object, BaseConfig):
            names.update(dict.fromkeys(name for name in vars(owner) if not name.startswith("_")))
    return list(names)


def class_to_dict(config: Any) -> Any:
    """Nested dictionaries of plain values of a configuration or section; other values are passed on."""
    if isinstance(config, tuple):
        return tuple(map(class_to_dict, config))  # of a NamedTuple too, whose class a checkpoint must not name
    if not isinstance(config, BaseConfig):
        return copy.deepcopy(config)
    return {name: class_to_dict(getattr(config, name)) for name in field_names(config)}


def update_from_dict(config: BaseConfig, values: Mapping[str, Any]) -> None:
    """Set fields from nested dictionaries, for example those of `class_to_dict` read back from a file.

    Args:
        config: What to change.
        values: Field or section names and their values; fields that are not named keep theirs, and those that
            earlier releases had are passed over.

    Raises:
        ConfigError: If a field does not exist or a value is of another kind; nothing is changed then.
    """
    trial = copy.deepcopy(config)
    _update(trial, values, type(config).__qualname__)
    config.__dict__.update(trial.__dict__)


def apply_overrides(config: BaseConfig, overrides: Iterable[str]) -> None:
    """Set fields from command-line arguments such as ``rewards.scales.alive=2``.

    Args:
        config: What to change.
        overrides: ``path.to.field=value`` each; values are Python literals, anything else is taken as text. An entry of
            a dictionary is set by its key, ``path.to.dictionary.key=value``, and the whole by a literal.

    Raises:
        ConfigError: If an argument is not of this form, a field does not exist or a value is of another kind; nothing
            is changed then.
    """
    trial = copy.deepcopy(config)
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"{shortened(override)} is not of the form section.field=value")
        _set(trial, path.strip().split("."), literal(text.strip()), type(config).__qualname__)
    config.__dict__.update(trial.__dict__)


def check_fields(config: BaseConfig, declared: BaseConfig, free: Iterable[str] = ()) -> None:
    """Check that a configuration has no field that another one does not declare.

    A misspelt field of a derived class is otherwise a new field that nobody reads.

    Args:
        config: What to check.
        declared: A configuration of the class whose fields are read.
        free: Sections, by their path, whose fields are not checked here.

    Raises:
        ConfigError: If there is such a field.
    """
    _check(config, declared, type(config).__qualname__, "", set(free))


def per_joint(values: Mapping[str, float], names: Sequence[str], field: str, kind: str = "joint") -> list[float]:
    """A number for each joint, or link, from numbers by parts of their names; the longest part that fits counts.

    Args:
        values: Numbers by parts of names.
        names: Names of the joints.
        field: Where `values` stand, for the message.
        kind: What has these names, for the message.

    Raises:
        ConfigError: If a joint has none, or a part fits no joint.
    """
    unused = [part for part in values if not any(part in name for name in names)]
    if unused:
        raise ConfigError(f"{field}: no {kind} has '{unused[0]}' in its name; they are {', '.join(names)}")
    numbers = []
    for name in names:
        fitting = [part for part in values if part in name]
        if not fitting:
            raise ConfigError(f"{field}: gives nothing for the {kind} '{name}'")
        numbers.append(float(values[max(fitting, key=len)]))
    return numbers


def suggestion(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where a known name is similar, else the known names."""
    choices = sorted(known)
    close = difflib.get_close_matches(name[:100], choices, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; there are {one_line(', '.join(choices))}"


def _unknown(owner: str, name: str, known: Iterable[str]) -> str:
    return f"{one_line(owner, 200)} has no field {shortened(name)}{suggestion(name, known)}"


def _check(config: BaseConfig, declared: BaseConfig, owner: str, path: str, free: set[str]) -> None:
    for name, value in config.__dict__.items():
        inner = f"{path}.{name}" if path else name
        if name not in declared.__dict__:
            raise ConfigError(_unknown(owner, name, declared.__dict__))
        own = getattr(declared, name)
        if isinstance(value, BaseConfig) and isinstance(own, BaseConfig) and inner not in free:
            _check(value, own, f"{owner}.{name}", inner, free)


def _update(config: BaseConfig, values: Mapping[str, Any], owner: str) -> None:
    for name, value in values.items():
        if name in config._dropped and name not in config.__dict__:
            continue
        if isinstance(value, Mapping) and isinstance(config.__dict__.get(name), BaseConfig):
            _update(config.__dict__[name], value, f"{owner}.{name}")
        else:
            _set(config, [name], value, owner)


def _set(config: BaseConfig, path: list[str], value: Any, owner: str) -> None:
    """Set the field that a path of names leads to; the last name may be a key of a dictionary."""
    name, rest = path[0], path[1:]
    if name not in config.__dict__:
        raise ConfigError(_unknown(owner, name, config.__dict__))
    present, owner = config.__dict__[name], f"{owner}.{name}"
    if isinstance(present, BaseConfig):
        if not rest:
            raise ConfigError(f"{owner} is a section; give its fields, as in {name}.field=value")
        _set(present, rest, value, owner)
    elif isinstance(present, dict) and len(rest) == 1:
        key = rest[0]
        if present and key not in present:
            raise ConfigError(_unknown(owner, key, map(str, present)))
        present[key] = fitted(value, present.get(key), f"{owner}.{key}")
    elif rest:
        raise ConfigError(f"{owner} is a {type(present).__name__} and has no fields such as {shortened(rest[0])}")
    elif value is None and _may_be_none(type(config), name):
        setattr(config, name, None)
    else:
        setattr(config, name, fitted(value, present, owner))


def _may_be_none(section: type[BaseConfig], name: str) -> bool:
    """Whether a field is declared as one that may be None, by its type or by being None."""
    for owner in section.__mro__:
        declared = str(vars(owner).get("__annotations__", {}).get(name, ""))
        if "None" in declared or "Optional" in declared or vars(owner).get(name, 0) is None:
            return True
    return False


def fitted(value: Any, present: Any, path: str) -> Any:
    """Value as the kind of the present one, entries as that of its first: whole numbers become floats, lists tuples.

    Raises:
        ConfigError: It is of another kind; the message begins with ``path``.
    """
    if present is None:
        return value
    if isinstance(present, float) and type(value) in (int, float):
        with contextlib.suppress(OverflowError):
            if math.isfinite(float(value)):
                return float(value)
        raise ConfigError(f"{path} must be a finite number, got {shortened(value)}")
    if type(present) is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(present, (list, tuple)) and isinstance(value, (list, tuple)):
        entries = [fitted(entry, present[0], path) for entry in value] if present else value
        kind: Any = type(present)
        names = getattr(kind, "_fields", None)  # of a NamedTuple
        if names is None:
            return kind(entries)
        try:
            return kind(*entries)
        except TypeError:
            text = f"{path}: each has {len(names)} values ({', '.join(names)}), got {shortened(value)}"
            raise ConfigError(text) from None
    if isinstance(present, dict) and isinstance(value, dict):
        some = next(iter(present.values()), None)
        return {key: fitted(entry, some, f"{path}.{shortened(key)}") for key, entry in value.items()}
    if type(value) is type(present):
        return value
    raise ConfigError(f"{path} is a {type(present).__name__} ({shortened(present)}), not {shortened(value)}")


def literal(text: str) -> Any:
    """A Python literal, also as true, false, null are written elsewhere; else the text itself.

    Raises:
        ConfigError: The text has more than `MAX_OVERRIDE_LENGTH` characters, which no value needs.
    """
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    if len(text) > MAX_OVERRIDE_LENGTH:
        raise ConfigError(f"{shortened(text)} has {len(text):,} characters: at most {MAX_OVERRIDE_LENGTH:,} are read")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # Deep nesting runs out of either.
        return text
