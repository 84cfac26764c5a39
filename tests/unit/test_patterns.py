"""Every regular expression of the source takes a time that grows with its text and not with the square of it."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "src"
CALLS = {"compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"}
LENGTH = 50_000  # the square of it takes half a minute, where its own length takes milliseconds
CPU_LIMIT_S = 15
BOUNDED = {r"BMAJ=\s*(\S+)\s+BMIN=\s*(\S+)\s+BPA=\s*(\S+)": 80}  # a card of a FITS header

RUN = """
import json, re, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({limit}, {limit}))
for pattern, flags, searched, text in json.load(sys.stdin):
    print(json.dumps([pattern, text[:40]]), flush=True)
    compiled = re.compile(pattern, flags)
    sum(1 for _ in compiled.finditer(text)) if searched else compiled.fullmatch(text)
print("done")
"""


def patterns() -> dict[str, tuple[int, bool]]:
    """Return each expression with its flags and whether it is searched for, found by walking the source."""
    found: dict[str, tuple[int, bool]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        if "re." not in text or "import re" not in text:
            continue
        names = {"re": re}
        whole = ast.parse(text)
        called = {
            id(node.value): node.targets[0].id
            for node in ast.walk(whole)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in ast.walk(whole):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
                owner = node.func.value
                if not (isinstance(owner, ast.Name) and owner.id == "re"):
                    continue
                if any(isinstance(part, ast.Name) and part.id != "re" for part in ast.walk(node.args[0])):
                    module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
                    names |= vars(importlib.import_module(module))
                pattern = eval(ast.unparse(node.args[0]), names)
                flags = [eval(ast.unparse(each), names) for each in node.args[1:] if "re." in ast.unparse(each)]
                name = called.get(id(node))
                uses = set(re.findall(rf"\b{name}\.(\w+)\(", text)) if name else {node.func.attr}
                if isinstance(pattern, str):
                    found[pattern] = (sum(flags), not uses <= {"fullmatch", "match"} or not uses)
    return found


def example(tree: Any) -> str:
    """Return a text that a part of an expression matches."""
    return "".join(example_of(operator, argument) for operator, argument in tree)


def example_of(operator: Any, argument: Any) -> str:
    if operator in (sre.LITERAL, sre.RANGE):
        return chr(argument if operator is sre.LITERAL else argument[0])
    if operator in (sre.NOT_LITERAL, sre.ANY):
        return "x" if argument != ord("x") else "y"
    if operator is sre.IN:
        return in_set(argument)
    if operator in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        return example(argument[2]) * max(argument[0], 1)
    if operator is sre.SUBPATTERN:
        return example(argument[-1])
    if operator is sre.BRANCH:
        return example(argument[1][0])
    return {sre.CATEGORY_DIGIT: "7", sre.CATEGORY_SPACE: " "}.get(argument, "a") if operator is sre.CATEGORY else ""


def in_set(parts: Any) -> str:
    if parts[0][0] is not sre.NEGATE:
        return example_of(*parts[0])
    refused = re.compile("|".join(re.escape(example_of(*part)) for part in parts[1:]))
    return next(sign for sign in "xy0 -~" if not refused.match(sign) and not (sign == " " and len(parts) > 1))


def repeats(tree: Any, before: str = "") -> list[tuple[str, str]]:
    """Return for each repetition without an end what may stand before it, and what is repeated."""
    found = []
    for operator, argument in tree:
        if operator in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            if argument[1] is sre.MAXREPEAT:
                found.append((before, example(argument[2])))
            found += repeats(argument[2], before)
        elif operator is sre.SUBPATTERN:
            found += repeats(argument[-1], before)
        elif operator is sre.BRANCH:
            found += [one for branch in argument[1] for one in repeats(branch, before)]
        before += example_of(operator, argument)
    return found


def attacks(pattern: str, flags: int) -> list[str]:
    length = BOUNDED.get(pattern, LENGTH)
    tree = _parser.parse(pattern, flags)
    texts = [sign * length for sign in (*"a0 /:", example(tree) or "a")]
    for before, repeated in repeats(tree):
        texts += [before + repeated * length, (before + repeated) * length, repeated * length]
    return [text[:length] + end for text in texts for end in ("\1", "")]


@pytest.mark.slow
def test_no_pattern_takes_longer_than_its_text_is() -> None:
    known = patterns()
    assert len(known) >= 35
    asked = [(pattern, *how, text) for pattern, how in known.items() for text in attacks(pattern, how[0])]
    ended = subprocess.run(
        [sys.executable, "-c", RUN.format(limit=CPU_LIMIT_S)], input=json.dumps(asked), capture_output=True, text=True
    )
    assert ended.stdout.endswith("done\n"), ended.stdout.splitlines()[-1:]
    print(f"{len(known)} patterns, {len(asked)} texts of {LENGTH} characters")


def test_what_takes_the_square_of_its_text_is_found() -> None:
    assert ("x", "a") in repeats(_parser.parse(r"x(a|b)*c"))
    for slow in (r"(a+)+$", r"\s+$", r"(.*)x(.*)y", r"<a.*?>"):
        assert repeats(_parser.parse(slow)), slow
