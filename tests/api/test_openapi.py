"""The OpenAPI says everything: each route, parameter, field and error with a description and an example."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from telewarm.api.openapi import BOUND_KEYWORDS, RETRY_AFTER_CODES, error_responses
from telewarm.api.schemas.types import MAX_BIGINT
from telewarm.error_catalog import BY_CODE
from tests.api.conftest import Api
from tests.fixtures.sandbox import token

Json = dict[str, Any]


@pytest.fixture
def spec(api: Api) -> Json:
    made: Json = api.telewarm.api().openapi()
    return made


def operations(spec: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in spec["paths"].items():
        yield from ((f"{method.upper()} {path}", operation) for method, operation in methods.items())


def resolved(spec: Json, node: Json) -> Json:
    if "$ref" not in node:
        return node
    found = spec
    for step in node["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def is_compound(spec: Json, schema: Json) -> bool:
    """An object, or a list or a choice of them: its fields have the examples."""
    schema = resolved(spec, schema)
    choices = [one for key in ("anyOf", "oneOf", "allOf") for one in schema.get(key, ())]
    inner = schema.get("items") or schema.get("additionalProperties")
    return (
        "properties" in schema
        or any(is_compound(spec, one) for one in choices)
        or (isinstance(inner, dict) and is_compound(spec, inner))
    )


def has_example(spec: Json, node: Json, schema: Json) -> bool:
    reported = [
        one for where in (node, schema, resolved(spec, schema)) for one in ("example", "examples") if one in where
    ]
    return bool(reported) or is_compound(spec, schema)


def lacks(spec: Json, name: str, node: Json, schema: Json) -> Iterator[str]:
    if not (node.get("description") or schema.get("description")):
        yield f"{name}: no description"
    if not has_example(spec, node, schema):
        yield f"{name}: no example"


def fields(spec: Json, name: str, schema: Json) -> Iterator[str]:
    for field, inner in schema.get("properties", {}).items():
        yield from lacks(spec, f"{name}.{field}", inner, inner)
        yield from fields(spec, f"{name}.{field}", inner)
    for key in ("anyOf", "oneOf", "allOf"):
        for inner in schema.get(key, ()):
            yield from fields(spec, name, inner)
    if isinstance(schema.get("items"), dict):
        yield from fields(spec, f"{name}[]", schema["items"])


def test_every_route_parameter_field_and_answer_is_described_with_an_example(spec: Json) -> None:
    missing = [f"tag {tag['name']}" for tag in spec["tags"] if not tag["description"]]
    tags = {tag["name"] for tag in spec["tags"]}
    for name, operation in operations(spec):
        missing += [f"{name}: no {word}" for word in ("summary", "description") if not operation.get(word)]
        missing += [f"{name}: unknown tag" for tag in operation.get("tags", [None]) if tag not in tags]
        for parameter in operation.get("parameters", ()):
            missing += lacks(spec, f"{name} {parameter['name']}", parameter, parameter["schema"])
        for kind, body in operation.get("requestBody", {}).get("content", {}).items():
            missing += fields(spec, f"{name} {kind}", body["schema"])
            if not is_compound(spec, body["schema"]) and not {"example", "examples"} & body.keys():
                missing.append(f"{name} {kind}: no example of a body")
        missing += answers(spec, name, operation)
    for name, schema in spec["components"]["schemas"].items():
        missing += fields(spec, name, schema)
    assert not missing, "\n".join(missing)


def answers(spec: Json, name: str, operation: Json) -> Iterator[str]:
    good = [(status, one) for status, one in operation["responses"].items() if status.startswith("2")]
    if not good:
        yield f"{name}: no 2xx"
    for status, response in good:
        if response["description"] in {"", "Successful Response"}:
            yield f"{name} {status}: no description"
        for kind, content in response.get("content", {"nothing": {}}).items():
            schema = content.get("schema", {})
            if kind == "application/json" and not is_compound(spec, schema):
                yield f"{name} {status} {kind}: no fields"
            if kind != "application/json" and not {"example", "examples"} & {*content, *schema}:
                yield f"{name} {status} {kind}: no example"


def test_every_error_that_is_documented_exists_with_its_status_and_has_an_example(spec: Json) -> None:
    seen = set()
    for name, operation in operations(spec):
        refused = {status: one for status, one in operation["responses"].items() if status >= "4"}
        assert {"431", "500"} <= refused.keys(), name
        if operation.get("security"):
            assert {"401", "403", "429", "503"} <= refused.keys(), name
        for status, response in refused.items():
            examples = response["content"]["application/json"]["examples"]
            assert examples, f"{name} {status}"
            for code, example in examples.items():
                assert int(status) in BY_CODE[code].statuses, f"{name} {status} {code}"
                assert (example["value"]["error"], example["value"]["ok"]) == (code, False)
                assert f"`{code}`" in response["description"]
                seen.add(code)
            assert ("Retry-After" in response["headers"]) == (
                status == "429" or bool(RETRY_AFTER_CODES & examples.keys())
            )
            properties = resolved(spec, response["content"]["application/json"]["schema"])["properties"]
            assert {"ok", "error", "message", "request_id"} <= properties.keys(), name
    ours = {code for code, known in BY_CODE.items() if known.statuses}
    assert ours - seen == {"METHOD_NOT_ALLOWED"}  # of no route


def bounds(node: object) -> Iterator[tuple[str, object]]:
    """Of all numbers, by keyword."""
    for one in node if isinstance(node, list) else node.values() if isinstance(node, dict) else ():
        yield from bounds(one)
    if isinstance(node, dict):
        yield from ((key, node[key]) for key in BOUND_KEYWORDS & node.keys() if not isinstance(node[key], dict))


def test_bounds_are_told_exactly(spec: Json) -> None:
    reported = list(bounds(spec))
    assert {type(value) for _, value in reported} == {int}
    assert min(value for _, value in reported if isinstance(value, int)) == -MAX_BIGINT
    assert max(value for _, value in reported if isinstance(value, int)) == MAX_BIGINT
    assert '"ge"' not in json.dumps(spec)
    chat = spec["components"]["schemas"]["SendRequest"]["properties"]["chat_id"]["anyOf"][0]
    assert (chat["minimum"], chat["maximum"]) == (-MAX_BIGINT, MAX_BIGINT)


def test_what_has_a_form_is_told_with_it(spec: Json) -> None:
    schemas, paths = spec["components"]["schemas"], spec["paths"]

    def parameter(path: str, method: str, name: str) -> Json:
        [found] = [one for one in paths[f"/api/admin{path}"][method]["parameters"] if one["name"] == name]
        schema: Json = found["schema"]
        return schema

    def fits(schema: Json, *texts: str) -> list[bool]:
        return [re.search(schema["pattern"], text) is not None for text in texts]

    new = schemas["BotCreate"]["properties"]
    assert fits(new["slug"], "shop", "", "-", "a b") == [True, False, False, False]
    assert fits(new["token"], token(0), f" {token(0)}\n", new["token"]["examples"][0], "x:y") == [
        True,
        True,
        True,
        False,
    ]
    assert fits(parameter("/bots", "get", "after"), "shop", "", "a b") == [True, True, False]
    for name in (schemas["TokenCreate"]["properties"]["name"], parameter("/tokens/{name}", "delete", "name")):
        assert fits(name, "ci", "tw_ci", "") == [True, False, False]
    key = schemas["SendRequest"]["properties"]["idempotency_key"]
    assert (key["minLength"], key["maxLength"]) == (1, 200)
    for path in ("/bots/{slug}/media", "/bots/{slug}/media/batch"):
        assert {"const": "", "type": "string"} in parameter(path, "post", "kind")["anyOf"]


def test_adding_what_is_just_being_deleted_is_a_documented_conflict(spec: Json) -> None:
    assert "409" in spec["paths"]["/api/admin/bots/{slug}/media"]["post"]["responses"]


def test_it_is_whole_in_itself_and_asks_for_a_token_where_one_is_needed(spec: Json) -> None:
    text = json.dumps(spec)
    for found in text.split('"$ref": "')[1:]:
        assert resolved(spec, {"$ref": found.partition('"')[0]}) is not None
    assert "ValidationError" not in text
    assert "x-codes" not in text
    asking = {path for path, methods in spec["paths"].items() for one in methods.values() if one.get("security")}
    assert asking >= {path for path in spec["paths"] if path.startswith("/api/admin")}
    assert not asking & {"/healthz", "/readyz"}


def test_a_route_cannot_document_an_error_that_does_not_exist() -> None:
    with pytest.raises(LookupError):
        error_responses("NO_SUCH")
    with pytest.raises(LookupError):
        error_responses((418, "BAD_REQUEST"))
    assert set(error_responses("NOT_FOUND", (415, "BAD_REQUEST"))) == {404, 415}


def test_bodies_say_that_nothing_else_is_taken_and_which_other_names_are(spec: Json) -> None:
    for name, operation in operations(spec):
        for kind, body in operation.get("requestBody", {}).get("content", {}).items():
            schema = resolved(spec, body["schema"])
            for one in schema.get("anyOf", [schema]):
                if "properties" in (found := resolved(spec, one)):
                    assert found.get("additionalProperties") is False, f"{name} {kind}"
    fields = spec["components"]["schemas"]["SendRequest"]["properties"]
    assert "also `disable_notification`" in fields["silent"]["description"]
    assert "also `link_preview_options`" in fields["link_preview"]["description"]
    assert (
        "also `start_at`" in spec["components"]["schemas"]["BroadcastStart"]["properties"]["starts_at"]["description"]
    )
    upload = spec["paths"]["/api/admin/bots/{slug}/media"]["post"]["requestBody"]["content"]["application/json"]
    assert {"width", "height", "duration"} <= upload["schema"]["properties"].keys()
