"""Ten thousand texts that mean something to a spreadsheet, a terminal, a shell or a parser: none means it to us."""

import csv
import io
import json
import logging
import random
import subprocess
import sys
from pathlib import Path

import pytest
from astropy.table import Table

from dsa110_contimg.api.command_template import CommandTemplate
from dsa110_contimg.api.csv_reply import csv_reply
from dsa110_contimg.api.run_logs import RunLogs
from dsa110_contimg.logs import JsonFormatter

SEED = 20261122
PIECES = [
    *"=+-@\t\r\n\v\f\0'\"`,;|&<>*?~#%$(){}[]\\/ \x1b\x7f\x85\u2028\u2029\u202e\ufeff\uff1d\uff0b\uff0d\uff20", "\r\n",
    "\ud800", "$(id)", "`id`", "; rm -rf /", "--config", "-rf", "{run_id}", "{0.__class__}", "%s%n", "\\n", "=1+1",
    "=cmd|' /C calc'!A0", "@SUM(1)", "-12.3", "1e5", "2026-02-11T03:04:05Z INFO imaging: forged", '{"level": "x"}',
    "DSA J123456.7+420312", "名", "é", "\U0001f52d", "A", "7", "word",
]  # fmt: skip


def hostile(count: int, *, without: str = "") -> list[str]:
    """Return texts of one to six pieces, the same each time."""
    chance = random.Random(SEED)
    pieces = [piece for piece in PIECES if not set(piece) & set(without)]
    return ["".join(chance.choices(pieces, k=chance.randrange(1, 7))) for _ in range(count)]


def test_no_cell_of_a_table_is_a_formula_and_all_are_read_again_as_they_were() -> None:
    texts = hostile(10_000, without="\ud800")  # which no database holds
    rows = [(text, -12.5 - number, -number, None) for number, text in enumerate(texts)]
    written = csv_reply(("name", "flux", "number", "nothing"), rows, "x.csv").body.decode()
    read = list(csv.reader(io.StringIO(written, newline="")))[1:]
    assert [(name.removeprefix("'") if not text.startswith("'") else name, float(flux), int(number), nothing)
            for (name, flux, number, nothing), text in zip(read, texts, strict=True)] == [
        (text, flux, number, "") for text, flux, number, _ in rows
    ]  # fmt: skip
    assert [name for name, *_ in read if name[0] in "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"] == []
    assert [row[0] for row, text in zip(read, texts, strict=True) if text[0].isalnum() and row[0] != text] == []


def test_an_astronomers_reader_finds_the_numbers_of_a_table_and_the_names() -> None:
    texts = [f"a{text}z" for text in hostile(10_000, without="\ud800\0\r\n\v\f\x85\u2028\u2029\x1b")]
    rows = [(text, -12.5 - number, -number) for number, text in enumerate(texts)]
    written = csv_reply(("name", "flux", "number"), rows, "x.csv").body.decode()
    table = Table.read(written, format="ascii.csv", converters={"name": str})
    assert [tuple(row) for row in table.as_array().tolist()] == rows


def test_each_event_is_one_line_of_a_log_and_says_what_was_said(tmp_path: Path) -> None:
    texts, logs, json_lines = hostile(10_000), RunLogs(tmp_path), []
    for text in texts:
        record = logging.makeLogRecord({"msg": "%s", "args": (text,), "name": "x", "extra": text})
        json_lines.append(JsonFormatter("test").format(record))
    assert [line for line in json_lines if not (line.isascii() and line.isprintable())] == []
    assert [json.loads(line)["extra"] for line in json_lines] == texts
    for text in texts:
        logs.append("run", "INFO", "x", text.replace("\n", " "))
    lines = (tmp_path / "run.log").read_text().split("\n")
    assert len(lines) == 10_001 and lines.pop() == ""
    assert [line for line in lines if " INFO x: " not in line or any(ord(sign) < 32 for sign in line)] == []


ECHO = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"


def test_each_value_is_one_word_of_a_command_whatever_it_holds() -> None:
    texts = hostile(5000, without="\0\ud800")
    command = CommandTemplate.parse("run --ms {ms_path} 'a b' {cal_table} {run_id}")
    filled = [
        command.fill({"ms_path": one, "cal_table": two, "run_id": "x"})
        for one, two in zip(texts, reversed(texts), strict=True)
    ]
    assert filled == [["run", "--ms", one, "a b", two, "x"] for one, two in zip(texts, reversed(texts), strict=True)]
    words = [word for one in filled for word in one]
    heard = []
    for start in range(0, len(words), 15_000):
        heard += subprocess.run(
            [sys.executable, "-c", ECHO, *words[start : start + 15_000]], capture_output=True, check=True
        ).stdout.decode().split("\0")  # fmt: skip
    assert heard == words
    with pytest.raises(ValueError, match="NUL"):
        command.fill({"ms_path": "a\0b", "cal_table": "", "run_id": ""})
