"""What callers of the library give in place of our types is taken, or refused by the name of the argument."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import ClassVar

import pytest

from telewarm import coercion
from telewarm.errors import UsageError

TRUE, FALSE = True, False


class Colour(Enum):
    RED = "red"


class Text(str):
    __slots__ = ()


class Default:
    """aiogram's mark of a field that has the bot's default."""


class Dumped:
    def model_dump(self, *, exclude_none: bool) -> dict[str, object]:
        return {"text": "so", "exclude_none": exclude_none}


class Converted:
    def to_dict(self) -> dict[str, object]:
        return {"text": "so"}


class MediaItem:
    id = 7


class Circle:
    inner: ClassVar[dict[str, object]] = {}


Circle.inner["self"] = Circle.inner


@pytest.mark.parametrize(
    ("call", "taken"),
    [
        (lambda: coercion.integer("n", 7), 7),
        (lambda: coercion.integer("n", -7, minimum=-9), -7),
        (lambda: coercion.media_id("n", 7), 7),
        (lambda: coercion.media_id("n", MediaItem()), 7),
        (lambda: coercion.to_json("n", {"a": Colour.RED, "b": None, "c": Default(), "d": (1, Text("x"))}),
         {"a": "red", "d": [1, "x"]}),
        (lambda: coercion.to_json("n", Dumped()), {"text": "so", "exclude_none": True}),
        (lambda: coercion.to_json("n", Converted()), {"text": "so"}),
        (lambda: coercion.mapping("n", None), None),
        (lambda: coercion.mapping("n", {"a": [1, 1.5, None]}), {"a": [1, 1.5, None]}),
        (lambda: coercion.mappings("n", None), None),
        (lambda: coercion.mappings("n", [{"a": 1}, Converted()]), [{"a": 1}, {"text": "so"}]),
        (lambda: coercion.text("n", None), None),
        (lambda: coercion.text("n", Text("x")), "x"),
        (lambda: coercion.preview("n", None), None),
        (lambda: coercion.preview("n", "off"), "off"),
        (lambda: coercion.preview("n", Converted()), {"text": "so"}),
        (lambda: coercion.flag("n", FALSE), False),
        (lambda: coercion.seconds("n", math.inf), math.inf),
        (lambda: coercion.required("n", "x"), "x"),
        (lambda: coercion.to_list("n", {1}), [1]),
        (lambda: coercion.names("n", "x"), ["x"]),
        (lambda: coercion.names("n", ("x", "y")), ["x", "y"]),
        (lambda: coercion.is_rate(0.5), True),
        (lambda: coercion.is_rate(TRUE), False),
        (lambda: coercion.is_rate(math.inf), False),
        (lambda: coercion.describe_value("x" * 50), f"'{'x' * 39}…"),
        (lambda: coercion.describe_value(b"secret"), "a bytes"),
    ],
)  # fmt: skip
def test_what_means_one_of_our_values_is_taken(call: Callable[[], object], taken: object) -> None:
    assert call() == taken


@pytest.mark.parametrize(
    "call",
    [
        lambda: coercion.integer("n", TRUE),
        lambda: coercion.integer("n", 0),
        lambda: coercion.integer("n", 2**63),
        lambda: coercion.media_id("n", "7"),
        lambda: coercion.to_json("n", math.nan),
        lambda: coercion.to_json("n", b"x"),
        lambda: coercion.to_json("n", Dumped),
        lambda: coercion.mapping("n", [1]),
        lambda: coercion.mapping("n", Circle.inner),
        lambda: coercion.mappings("n", {"a": 1}),
        lambda: coercion.mappings("n", [1]),
        lambda: coercion.text("n", 7),
        lambda: coercion.preview("n", 7),
        lambda: coercion.flag("n", "no"),
        lambda: coercion.seconds("n", -1),
        lambda: coercion.seconds("n", TRUE),
        lambda: coercion.required("n", ""),
        lambda: coercion.to_list("n", "x"),
        lambda: coercion.to_list("n", {}),
    ],
)
def test_anything_else_is_refused_by_the_name_of_the_argument(call: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=r"^n "):
        call()
