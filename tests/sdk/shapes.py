"""Every shape that the official SDKs know, made from their own types: `variants(type)` gives the least value of a type, that
with each further member and each arm of each union in turn, and one with every member."""

from __future__ import annotations

import collections.abc
import datetime
import enum
import inspect
import types
import typing
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pydantic
import typing_extensions

DEPTH = 9  # types within types; what is deeper is left out where it may be


BREADTH = 3  # types within types in which each member and each arm of a union is tried; further in, the least and the whole


class TooDeep(Exception):
    """A member that must be there lies too deep."""


def variants(kind: Any, name: str = "value", inside: tuple = ()) -> list:
    """Values of a type; `name` is the member that holds them, and what a text says."""
    origin = get_origin(kind)
    if origin in (Annotated, typing_extensions.Required, typing_extensions.NotRequired, typing.Required, typing.NotRequired):
        return variants(get_args(kind)[0], name, inside)
    if origin in (Union, types.UnionType):
        arms = [arm for arm in get_args(kind) if arm is not type(None)]
        found, refused = [], 0
        for arm in arms:
            try:
                found += variants(arm, name, inside)
            except TooDeep:
                refused += 1
        if not found:
            raise TooDeep
        return distinct(found)
    if origin is Literal:
        return [get_args(kind)[0]]
    if origin in (list, collections.abc.Iterable, collections.abc.Sequence, typing_extensions.Sequence, set, tuple):
        inner = [arg for arg in get_args(kind) if arg is not Ellipsis] or [Any]
        return [[value] for value in variants(inner[0], name, inside)]
    if origin in (dict, collections.abc.Mapping):
        return [{f"{name} key": value} for value in variants(get_args(kind)[1], name, inside)]
    if isinstance(kind, typing.TypeVar) or kind in (Any, object):
        return [f"any {name}"]
    if kind in (dict, collections.abc.Mapping):
        return [{f"{name} key": f"any {name}"}]
    if isinstance(kind, typing_extensions.TypeAliasType) or isinstance(kind, getattr(typing, "TypeAliasType", ())):
        return variants(kind.__value__, name, inside)
    if inspect.isclass(kind):
        return of_class(kind, name, inside)
    if origin is typing.IO or kind is typing.IO:
        raise TooDeep  # open files: no JSON
    raise TypeError(f"{name}: {kind!r}")


def of_class(kind: type, name: str, inside: tuple) -> list:
    if issubclass(kind, pydantic.BaseModel):
        members = {key: (field.alias or key, field.annotation, field.is_required()) for key, field in kind.model_fields.items()}
        return of_members(kind, members, inside)
    if typing_extensions.is_typeddict(kind):
        hints = typing_extensions.get_type_hints(kind, include_extras=True)
        return of_members(kind, {key: (key, hint, is_required(hint)) for key, hint in hints.items()}, inside)
    simple = {str: [f"some {name.replace('_', ' ')}"], bool: [True], int: [3], float: [0.5], bytes: [b"bytes"]}
    if kind in simple:
        return simple[kind]
    if kind is datetime.datetime:
        return ["2026-01-02T03:04:05Z"]
    if issubclass(kind, enum.Enum):
        return [next(iter(kind)).value]
    raise TooDeep  # paths and the like: no JSON


def is_required(hint: Any) -> bool:
    """The parameters' types are all written with what must be there marked."""
    return get_origin(hint) in (typing_extensions.Required, typing.Required)


def of_members(kind: type, members: dict, inside: tuple) -> list:
    if kind in inside or len(inside) >= DEPTH:
        raise TooDeep
    inside = (*inside, kind)
    whole, least, more = {}, {}, []
    for key, hint, required in members.values():
        try:
            found = variants(hint, key, inside)
        except TooDeep:
            if required:
                raise
            continue
        whole[key] = found[0]
        if required:
            least[key] = found[0]
        if len(inside) <= BREADTH:
            more += [(key, value) for value in found]
    return distinct([least, *({**least, key: value} for key, value in more), whole])


def distinct(values: list) -> list:
    seen, out = set(), []
    for value in values:
        if repr(value) not in seen:
            seen.add(repr(value))
            out.append(value)
    return out
