"""Requests that Schemathesis makes out of the OpenAPI, and what is wrong with their answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode, Response, checks
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok

from tests.api.conftest import BEARER
from tests.fixtures.sandbox import token

STREAM = "/api/admin/events"  # it does not end; it has tests of its own
# `/media/{media_id}` fits them too: a GET is told that this is no id, not 405.
TWO_WAYS = frozenset({"/api/admin/media/rewarm", "/api/admin/media/collect"})
CLOSED = "http://127.0.0.1:1/film.mp4"  # nothing is fetched from outside
KEY, TOKEN = "order-4711-shipped", "123456789:AAE-what-BotFather-says"  # the examples
LISTS = ("text/csv", "application/x-ndjson")
REFUSALS = [str(status) for status in range(400, 500)]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
SMALL = 8  # cases of each operation and mode, of those that Schemathesis enumerates
SOME = settings(
    max_examples=4,  # for each operation and mode, beside what Schemathesis enumerates
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    verbosity=Verbosity.quiet,
)
Operation: TypeAlias = APIOperation[Any, Any, Any, Any]
LONG_WAITS = tuple(str(seconds) for one in range(2, 61) for seconds in (one, float(one)))
ONE_OF = (("reply_to_message_id", "reply_parameters"), ("bot", "bots"), ("which", "media_ids"), ("before", "offset"))
UNSAYABLE = (  # by an OpenAPI: how fields go together, and what texts hold
    "has a parse_mode and entities; give one of the two",
    "allow_sending_without_reply goes with a reply",
    "has at most 1024 characters",
    "the list has no column",  # as the query says
    "Telegram knows no public channel or group",
    "there is nothing to send",
    "there is no media item to go with the caption",
    "has one of its own: give one of the two",
    "has at most 4096 characters",
    "offset goes with kind and state alone",
    "give `which`",
    "in `bot`, or several in `bots`",
    "in the years 2000 to 2199",
    "must be one line of plain text",
    "must be plain text, without U+0000",
    "has the character U+0000 in it",
    "no character that can be shown",
    "printable characters",
    "no such type of event",
    "the JSON is cut off or broken",  # as the query says what it is
)


@schemathesis.serializer(*LISTS)
def as_it_is(_: schemathesis.SerializationContext, text: str) -> bytes:
    return text.encode(errors="replace")


def what_fits_is_not_called_malformed(_: object, answer: Response, case: Case[Any]) -> None:
    fits = case.meta is not None and case.meta.generation.mode.is_positive
    if fits and answer.content.startswith(b'{"ok":false,"error":"BAD_REQUEST"'):
        message = answer.json()["message"]
        assert any(words in message for words in UNSAYABLE), message


CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    what_fits_is_not_called_malformed,
]
OF_METHODS = [checks.unsupported_method, checks.allow_header_conformance]


@dataclass(kw_only=True, slots=True)
class Hunt:
    """`answers`: how often each operation answered with each status. `found`: what is wrong, one of a sort."""

    url: str
    session: requests.Session
    small: bool = False
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    found: dict[tuple[str, str], str] = field(default_factory=dict)

    def operations(self) -> list[Operation]:
        schema = schemathesis.openapi.from_url(f"{self.url}/openapi.json")
        schema.config.generation.with_security_parameters = False  # too many wrong tokens would shut us out
        schema.config.checks.negative_data_rejection.expected_statuses = REFUSALS
        found = list(schema.get_all_operations())
        operations = [one.ok() for one in found if isinstance(one, Ok)]
        assert len(operations) == len(found)
        return [one for one in operations if one.path != STREAM]

    def ask(self, operation: Operation) -> None:
        """What Schemathesis enumerates, edge by edge, then some of what Hypothesis thinks of."""
        config = operation.schema.config.generation_for(operation=operation)
        for mode in MODES:
            cases = operation.schema.iter_coverage_cases(operation, generation_modes=[mode], generation_config=config)
            for case in islice(cases, SMALL if self.small else None):
                self._judge(case)
            if not self.small or mode.is_positive:
                self._ask_some(operation, mode)

    def _ask_some(self, operation: Operation, mode: GenerationMode) -> None:
        @seed(1)
        @SOME
        @given(case=operation.as_strategy(generation_mode=mode))
        def some(case: Case[Any]) -> None:
            self._judge(case)

        try:
            some()
        except Unsatisfiable:  # there is nothing to be wrong about
            return

    def _judge(self, case: Case[Any]) -> None:
        if case.media_type in LISTS and not isinstance(case.body, str):
            return  # whatever else was thought of is a text by the time that it is sent
        aim(case, sum(self.answers.values()))
        label = case.operation.label
        if case.query and str(case.query.get("wait")) in LONG_WAITS:  # nothing is warmed meanwhile
            case.query["wait"] = 1
        answer = case.call(session=self.session, headers=dict(BEARER), timeout=10)
        self.answers[label, answer.status_code] += 1
        try:
            case.validate_response(answer, CHECKS if case.path in TWO_WAYS else CHECKS + OF_METHODS, [], spared(case))
        except FailureGroup as failures:
            for failure in failures.exceptions:
                self.found.setdefault((label, type(failure).__name__), f"{label}: {case!r}: {failures}")


def spared(case: Case[Any]) -> list[Any]:
    """A case may be called wrong with nothing wrong in it, when a body that is optional was left out. A list of chat
    ids is read line by line, whatever it is called: a bare number is a line, and told when it is no chat id."""
    if case.path.endswith("/recipients") and case.media_type == "application/json":
        return [checks.negative_data_rejection]
    description = None if case.meta is None else case.meta.phase.data.description
    return [checks.negative_data_rejection] if (description or "").lower() == "positive test case" else []


def aim(case: Case[Any], number: int) -> None:
    """So that the request gets further: nothing that contradicts the rest, and other names than those that are taken.
    `number`: of the request."""
    query, body = case.query, deepcopy(case.body)
    if case.media_type == "application/json":
        query.pop("format", None)  # of a list: it counts, and the body would be no JSON
    for fields in _objects(query, body):
        for first, second in ONE_OF:
            if fields.get(first) is not None and fields.get(second) is not None:
                del fields[second]
        if isinstance(fields.get("url"), str):
            fields["url"] = CLOSED
        if isinstance(fields.get("idempotency_key"), str) and "Idempotency-Key" in case.headers:
            del case.headers["Idempotency-Key"]
        if fields.get("idempotency_key") == KEY:
            fields["idempotency_key"] = f"order-{number}"
        if fields.get("token") == TOKEN:
            fields |= {"token": token(number)} | ({"slug": f"shop-{number}"} if "slug" in fields else {})
    if body != case.body:
        case.body = body
    assert case.meta is not None  # and with a look at it, whether the request is right is judged again


def _objects(*nodes: object) -> Iterator[dict[str, Any]]:
    """They, and the message that is in one."""
    for node in nodes:
        if isinstance(node, dict):
            yield node
            yield from _objects(node.get("message"))
