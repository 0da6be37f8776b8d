"""Base class of request bodies: unknown fields and query parameters are refused, aliases are accepted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, get_args, get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from telewarm.api.error_responses import HttpError
from telewarm.sending.extra_options import place_of

SIGNED_URL_PARAMETERS = frozenset({"expires", "signature"})  # of signed URLs
MAX_NAME_CHARACTERS = 60  # characters of a name that nobody knows


class RequestBody(BaseModel):
    """A JSON body. `aliases`: other names of its fields, Telegram's own among them. An unknown field is refused."""

    model_config = ConfigDict(extra="forbid")
    aliases: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the aliases to the fields' schemas."""
        schema = handler(core)
        fields = handler.resolve_ref_schema(schema)["properties"]
        for field in set(cls.aliases.values()):
            others = ", ".join(f"`{name}`" for name, meant in cls.aliases.items() if meant == field)
            fields[field]["description"] = f"{fields[field].get('description', '')} (also {others})".strip()
        return schema

    @model_validator(mode="before")
    @classmethod
    def _resolve_aliases(cls, data: Any) -> Any:  # noqa: ANN401 - whatever came
        if not isinstance(data, dict) or data.keys() <= cls.model_fields.keys():
            return data
        return {_resolve_field(cls, name, data): value for name, value in data.items()}


def _resolve_field(body: type[RequestBody], name: object, data: Mapping[Any, Any]) -> str:
    """Return the field that a name stands for. Raises ValueError."""
    if name in body.model_fields:
        return str(name)
    field = body.aliases.get(str(name))
    if field is None:
        if "extra" in body.model_fields and (place := place_of(str(name))) is not None:
            raise ValueError(place)
        words = unknown_name_message("field", str(name), [*body.model_fields, *body.aliases])
        more = "; any other parameter of the Bot API goes into `extra`" if "extra" in body.model_fields else ""
        raise ValueError(words + more)
    if field in data or any(body.aliases.get(str(other)) == field for other in data if other != name):
        raise ValueError(f"{name} is another name of {field}: give one of them")
    return field


def unknown_name_message(what: str, name: str, names: Iterable[str]) -> str:
    """Return the message for an unknown name."""
    known = sorted(names)
    shown = name if len(name) <= MAX_NAME_CHARACTERS else f"{name[:MAX_NAME_CHARACTERS]}…"
    close = get_close_matches(name, known, n=1)
    if close:
        return f"there is no {what} {shown!r} here; did you mean {close[0]!r}?"
    return f"there is no {what} {shown!r} here; there is {', '.join(known) or 'none'}"


async def check_query_parameters(request: Request) -> None:
    """Raise HttpError for an unknown query parameter, or a repeated one that is not a list."""
    if not request.scope["query_string"]:
        return
    route = request.scope["route"]
    assert isinstance(route, APIRoute)  # noqa: S101 - a dependency of such routes alone
    known: dict[int, Mapping[str, bool]] = request.app.state.query_parameters  # by route, which live as long as the app
    if id(route) not in known:
        signed = dict.fromkeys(SIGNED_URL_PARAMETERS, False) if "/media/preview/" in route.path else {}
        known[id(route)] = signed | _query_parameters(route.dependant)
    for name in request.query_params:
        if name not in known[id(route)]:
            words = unknown_name_message("query parameter", name, known[id(route)])
            raise HttpError(422, "BAD_REQUEST", f"{name[:MAX_NAME_CHARACTERS]}: {words}")
        if not known[id(route)][name] and len(request.query_params.getlist(name)) > 1:
            raise HttpError(422, "BAD_REQUEST", f"{name}: it is there more than once: give it once")


def _query_parameters(dependant: Dependant) -> dict[str, bool]:
    """Return the query parameters of a route with its dependencies, and whether each is a list."""
    found = {one.alias: _is_list(one.field_info.annotation) for one in dependant.query_params}
    for inner in dependant.dependencies:
        found |= _query_parameters(inner)
    return found


def _is_list(annotation: object) -> bool:
    return any(get_origin(one) is list for one in (annotation, *get_args(annotation)))
