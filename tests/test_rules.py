"""What tests and docstrings cite is defined in ``docs/rules.md``, and what is defined there is cited."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
PATHS = {
    *(path for room in ("ciba_core", "adapters", "tests", "benchmarks") for path in (ROOT / room).rglob("*.py")),
    *(ROOT / "docs").rglob("*.md"),
    *ROOT.glob("*.md"),
} - {Path(__file__), ROOT / "docs" / "rules.md"}  # fmt: skip
SOURCES = {
    path: path.read_text(encoding="utf-8") for path in sorted(PATHS) if "node_modules" not in path.parts
}

RULE = re.compile(r"^\| ([A-Z][A-Z0-9.-]*-[0-9]{2}) \| ([a-z ]+) \| (.*) \| ([^|]*) \|$", re.MULTILINE)
NAMES = [match[1] for match in RULE.finditer(PAGE)]
KNOWN = frozenset(NAMES)
PROMISE = re.compile(r"^([0-9]+)\. ", re.MULTILINE)
CITATION = re.compile(
    r"(?<![\w-])(?P<first>(?:CIBA-[0-9.]+|[A-Z][A-Z0-9]*(?:-[A-Z][A-Z0-9]*)?)-[0-9]{2})"
    r"(?P<more>(?:(?:\.\.|, -)[0-9]{2}(?![\w-]|\.[0-9]))*)(?![\w-])"
)
PROMISES = re.compile(r"\b[Pp]romises? ([0-9]+)((?:(?:, | and | to )[0-9]+)*)")
OTHER = {"ML-DSA-44"}
"""What has the form of a rule and is none: an algorithm of JOSE."""
LEVELS = {"must", "must not", "should", "should not", "may", "provider", "fact", "ours", "vector"}


def rules(text: str, known: AbstractSet[str]) -> Iterator[str]:
    """The rules that a text cites; of a range its ends, and what is known between them."""
    for match in CITATION.finditer(text):
        first = match["first"]
        if first in OTHER or re.fullmatch(r"CIBA-[0-9]{2}", first):  # a section of the standard
            continue
        yield first
        stem, _, last = first.rpartition("-")
        for joint, number in re.findall(r"(\.\.|, -)([0-9]{2})", match["more"]):
            if joint == "..":
                between = (f"{stem}-{each:02}" for each in range(int(last) + 1, int(number)))
                yield from known & set(between)
            yield f"{stem}-{number}"
            last = number


def promises(text: str) -> Iterator[int]:
    for match in PROMISES.finditer(text):
        last = int(match[1])
        yield last
        for joint, number in re.findall(r"(, | and | to )([0-9]+)", match[2]):
            yield from range(last + 1, int(number)) if joint == " to " else ()
            yield (last := int(number))


def test_definitions() -> None:
    """Every rule is defined once, with a level, a sentence and its section, or as a decision of ours."""
    assert len(NAMES) == len(KNOWN) == len(re.findall(r"^\| [A-Z]+[0-9]*-", PAGE, re.MULTILINE))
    for name, level, sentence, section in RULE.findall(PAGE):
        assert level in LEVELS, name
        assert sentence, name
        assert section != "-" or level in ("ours", "fact"), name


def test_what_is_cited_is_defined() -> None:
    """A rule or a promise that is cited stands on the page: what is new is defined in ``docs/rules.md``."""
    numbers = {int(number) for number in PROMISE.findall(PAGE)}
    undefined = {
        path.relative_to(ROOT).as_posix(): found
        for path, text in SOURCES.items()
        if (found := {*rules(text, KNOWN)} - KNOWN or {*promises(text)} - numbers)
    }
    assert undefined == {}


def test_what_is_defined_is_cited() -> None:
    """The page holds no rule that nobody needs; rules that other rules name are cited elsewhere, too."""
    cited = {rule for text in SOURCES.values() for rule in rules(text, KNOWN)}
    assert KNOWN - cited == set()
    assert set(rules(PAGE, KNOWN)) - KNOWN == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AUTH-01, -02, -13: one method", {"AUTH-01", "AUTH-02", "AUTH-13"}),
        ("IDT-01..04, TOK-02", {"IDT-01", "IDT-02", "IDT-04", "TOK-02"}),
        ("AUTH-01, -03..05", {"AUTH-01", "AUTH-03", "AUTH-05"}),
        ("CIBA-12-01..03, -07", {"CIBA-12-01", "CIBA-12-02", "CIBA-12-03", "CIBA-12-07"}),
        ("CIBA-7.1.1-03: strings, V-AUTH0-10", {"CIBA-7.1.1-03", "V-AUTH0-10"}),
        ("CIBA-13 and CIBA-10.1: sections; ML-DSA-44, UTF-8, SHA-256, 2018-09-24", set[str]()),
        ("TYPO-11", {"TYPO-11"}),
    ],
)  # fmt: skip
def test_citations_are_found(text: str, expected: set[str]) -> None:
    """Lists and ranges are short forms; sections and names of algorithms are no rules."""
    known = {"IDT-02", "CIBA-12-02"}
    assert set(rules(text, known)) == expected


def test_promises_are_found() -> None:
    """Promises are cited one by one, in lists and as ranges."""
    assert list(promises("Promise 6, promise 4; promises 1, 2 and 3; promises 1 to 3")) == [
        6,
        4,
        1,
        2,
        3,
        1,
        2,
        3,
    ]
