from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest

from ciba_core.values.json import FrozenMapping, JsonFault, dumps, freeze, is_array_of, parse_object


def nested(levels: int) -> bytes:
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


OBJECTS: list[tuple[bytes, dict[str, Any]]] = [
    (b"{}", {}),
    (b' \r\n\t{"a" : 1}\n', {"a": 1}),
    (
        b'{"a":1.50,"b":-1,"c":1e2,"d":true,"e":null}',
        {"a": 1.5, "b": -1, "c": 100.0, "d": True, "e": None},
    ),
    ('{"ä":"€😀"}'.encode(), {"ä": "€😀"}),
    (rb'{"a":"\ud83d\ude00"}', {"a": "😀"}),
    (b'{"a":{"b":1},"c":{"b":1}}', {"a": {"b": 1}, "c": {"b": 1}}),
    (b'{"a":' + b"9" * 64 + b"}", {"a": int("9" * 64)}),
    (rb'{"a":"[[[[[[{{{{{{\"[[[[[[","b":"\\"}', {"a": '[[[[[[{{{{{{"[[[[[[', "b": "\\"}),
    (b'{"a":[[]],"b":[[]],"c":[[]],"d":[[]],"e":[[]]}', {name: [[]] for name in "abcde"}),
]


@pytest.mark.parametrize(("body", "expected"), OBJECTS)
def test_objects_are_parsed(body: bytes, expected: dict[str, Any]) -> None:
    """HTTP-05: JSON objects come out as they are; brackets in strings are no nesting."""
    assert parse_object(body, depth_limit=5) == {name: freeze(value) for name, value in expected.items()}


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        pytest.param(body, fault, id=f"{fault.name}-{number}")
        for number, (body, fault) in enumerate(
            [
                (b"", JsonFault.SYNTAX),
                (b"<html></html>", JsonFault.SYNTAX),
                (b'{"a":1', JsonFault.SYNTAX),
                (b'{"a":"b', JsonFault.SYNTAX),
                (b"{'a':1}", JsonFault.SYNTAX),
                (b'{"a":1,}', JsonFault.SYNTAX),
                (b'{"a":1}{"a":1}', JsonFault.SYNTAX),
                (b'{"a":1} x', JsonFault.SYNTAX),
                (b" \r\n\t", JsonFault.SYNTAX),
                (b'\x0b{"a":1}', JsonFault.SYNTAX),
                ('{"a":1}\N{NO-BREAK SPACE}'.encode(), JsonFault.SYNTAX),
                (b'{"a":01}', JsonFault.SYNTAX),
                (b'{"a":"\n"}', JsonFault.SYNTAX),
                (b'\xef\xbb\xbf{"a":1}', JsonFault.SYNTAX),
                ('{"a":1}'.encode("utf-16"), JsonFault.SYNTAX),
                ('{"a":1}'.encode("utf-32-le"), JsonFault.SYNTAX),
                (b'{"a":"\xff"}', JsonFault.SYNTAX),
                (b'{"a":"\xc0\xaf"}', JsonFault.SYNTAX),
                (b'{"a":"\xed\xa0\x80"}', JsonFault.SYNTAX),
                (b"[]", JsonFault.NOT_AN_OBJECT),
                (b'"error"', JsonFault.NOT_AN_OBJECT),
                (b"5", JsonFault.NOT_AN_OBJECT),
                (b"null", JsonFault.NOT_AN_OBJECT),
                (b'{"a":1,"a":1}', JsonFault.DUPLICATE),
                (rb'{"a":1,"\u0061":2}', JsonFault.DUPLICATE),
                (b'{"b":[{"a":1,"a":2}]}', JsonFault.DUPLICATE),
                (b'{"a":NaN}', JsonFault.NUMBER),
                (b'{"a":Infinity}', JsonFault.NUMBER),
                (b'{"a":[-Infinity]}', JsonFault.NUMBER),
                (b'{"a":1e999}', JsonFault.NUMBER),
                (b'{"a":-1e999}', JsonFault.NUMBER),
                (b'{"a":' + b"9" * 65 + b"}", JsonFault.NUMBER),
                (b'{"a":' + b"9" * 5000 + b"}", JsonFault.NUMBER),
                (nested(6), JsonFault.DEPTH),
                (b'{"a":' * 6 + b"1" + b"}" * 6, JsonFault.DEPTH),
                (b"[" * 100_000, JsonFault.DEPTH),
                (rb'{"a":"\"","b":' + b"[" * 5 + b"]" * 5 + b"}", JsonFault.DEPTH),
                (rb'{"a":"\ud800"}', JsonFault.TEXT),
                (rb'{"a":["\udc00\ud800"]}', JsonFault.TEXT),
                (rb'{"\ud800":1}', JsonFault.TEXT),
            ]
        )
    ],
)
def test_everything_else_is_a_fault(body: bytes, fault: JsonFault) -> None:
    """HTTP-04, HTTP-05: no BOM, duplicates, NaN, infinities, depth beyond the cap, or broken Unicode."""
    assert parse_object(body, depth_limit=5) is fault


@pytest.mark.parametrize("levels", [4, 5, 32])
def test_depth_limit_is_exact(levels: int) -> None:
    """HTTP-05: a document of just the allowed depth passes, one level more does not."""
    assert isinstance(parse_object(nested(levels), depth_limit=levels), dict)
    beside = nested(levels)[:-1] + b',"b":[[],[]]}'
    assert isinstance(parse_object(beside, depth_limit=levels), dict)
    assert parse_object(nested(levels + 1), depth_limit=levels) is JsonFault.DEPTH


@pytest.mark.parametrize("end", ["", "\\", '"', '"}'])
def test_a_string_without_end_costs_no_more_than_its_length(end: str) -> None:
    """HTTP-05: hostile text takes time in proportion to its size, not to the square of it."""
    hostile = ("[" * 40 + '"' + '\\"' * 40_000 + end).encode()
    start = time.process_time()
    assert isinstance(parse_object(hostile, depth_limit=32), JsonFault)
    assert time.process_time() - start < 5  # a few milliseconds; half a minute when quadratic


def test_faults_say_nothing_of_the_body() -> None:
    """A fault is one of six phrases, fit for a message."""
    assert {fault.value for fault in JsonFault} == {
        "not JSON",
        "JSON, but not an object",
        "a JSON object with a repeated member name",
        "JSON with NaN, Infinity or a number out of range",
        "JSON nested too deeply",
        "JSON with text that is not valid Unicode",
    }


def test_freeze_makes_read_only_copies() -> None:
    """A frozen value does not change with its original, nor by itself, at any level."""
    original: dict[str, Any] = {"a": [1, {"b": "c"}], "d": None, "e": 1.5, "f": True}
    frozen = freeze(original)
    original["a"][1]["b"] = "changed"
    original["d"] = 1
    assert frozen == {"a": (1, {"b": "c"}), "d": None, "e": 1.5, "f": True}
    for mapping in (frozen, frozen["a"][1]):
        assert isinstance(mapping, FrozenMapping)
    assert freeze(frozen) == frozen
    assert freeze(((),)) == ((),)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({1: 2}, TypeError),
        ({"a": {None: 1}}, TypeError),
        ({"a": b"octets"}, TypeError),
        ([{1, 2}], TypeError),
        (object(), TypeError),
        ([float("nan")], ValueError),
        ({"a": float("inf")}, ValueError),
        ({"a": "\ud800"}, ValueError),
        ({"\udfff": 1}, ValueError),
    ],
)
def test_freeze_takes_json_only(value: object, error: type[Exception]) -> None:
    """What JSON cannot say is refused when the value is made, not when it is sent; the message hides it."""
    with pytest.raises(error) as caught:
        freeze(value)
    assert "octets" not in str(caught.value)


@pytest.mark.parametrize("number", [10**64 - 1, 1 - 10**63, 0])
def test_what_is_frozen_can_be_read_again(number: int) -> None:
    """Promise 5: whatever is accepted can be stored: integers as long and levels as many as are parsed."""
    value: Any = number
    for _ in range(64):
        value = [{"a": value}]
    text = dumps({"v": freeze(value)}).encode()
    assert parse_object(text, depth_limit=129, mutable=True) == {"v": value}
    assert parse_object(text, depth_limit=129) == {"v": freeze(value)}


@pytest.mark.parametrize("number", [10**64, -(10**63), 10**5000], ids=["large", "negative", "huge"])
def test_integers_that_could_not_be_read_again(number: int) -> None:
    """Promise 5: they are refused at once."""
    with pytest.raises(ValueError, match="more than 64 characters"):
        freeze({"a": [number]})


def test_levels_that_could_not_be_read_again() -> None:
    """Promise 5: too many, and a value that contains itself, which has no end of them."""
    endless: list[Any] = []
    endless.append({"a": endless})
    for value in ([json.loads(nested(128))], endless):
        with pytest.raises(ValueError, match="more than 128 levels"):
            freeze(value)


@pytest.mark.parametrize(("body", "expected"), OBJECTS)
def test_what_was_parsed_is_read_only_unless_it_is_taken_apart_at_once(body: bytes, expected: object) -> None:
    """Arrays and objects in a parsed object are frozen, at every level; or plain, where that is asked for."""
    members = parse_object(body, depth_limit=5)
    plain = parse_object(body, depth_limit=5, mutable=True)
    assert isinstance(members, dict)
    assert isinstance(plain, dict)
    assert hash(FrozenMapping(members)) == hash(freeze(plain))
    assert members == {name: freeze(value) for name, value in plain.items()}
    assert plain == expected


def test_freeze_and_dumps_take_all_that_the_parser_takes() -> None:
    """HTTP-05: depth up to the largest limit exhausts no stack in either direction."""
    members = parse_object(nested(128), depth_limit=128)
    assert json.loads(dumps(members)) == parse_object(nested(128), depth_limit=128, mutable=True)


def test_dumps_is_compact_and_keeps_unicode() -> None:
    """Frozen and plain values give the same short text."""
    value = {"a": [1, {"b": "é"}], "c": None}
    assert dumps(value) == dumps(freeze(value)) == '{"a":[1,{"b":"é"}],"c":null}'
    with pytest.raises(ValueError, match="JSON"):
        dumps([float("nan")])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], True),
        (["a"], True),
        (("a", "b"), True),
        (["a", 1], False),
        ("ab", False),
        (None, False),
        ({"a": 1}, False),
    ],
)
def test_is_array_of(value: object, expected: bool) -> None:
    """Arrays are lists or frozen lists, of one kind of item; a string is no array."""
    assert is_array_of(value, str) is expected


def test_frozen_objects_are_values() -> None:
    """They compare and hash by content, are their own copies, and show like a dict."""
    value = freeze({"a": [1], "b": {"c": None}})
    assert hash(value) == hash(freeze({"b": {"c": None}, "a": [1]}))
    assert copy.copy(value) is value
    assert copy.deepcopy(value) is value
    assert repr(value) == "{'a': (1,), 'b': {'c': None}}"
    with pytest.raises(TypeError):
        value["a"] = 1
