"""The page of the benchmarks gets its new tables in the place of the earlier ones."""

from pathlib import Path

from benchmarks.api.page import renew
from benchmarks.queue.report import Table

PAGE = """# What it costs

### Start: 3 times

| a |
| --- |
| 1 |

Notes go with their table.

### Growth

| b |
| --- |
| 2 |

## What this says

Words stay.
"""


def test_a_table_takes_the_place_of_the_one_of_its_name_and_a_new_one_comes_last(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    renew(page, [Table("Start: 5 times", ["a"], [("7",)]), Table("Overload (4)", ["c"], [("9",)])])
    told = page.read_text()
    headings = [line for line in told.splitlines() if line.startswith("#")]
    assert headings == ["# What it costs", "### Start: 5 times", "### Growth", "### Overload (4)", "## What this says"]
    assert "| 7 |" in told
    assert "| 1 |" not in told
    assert "Notes" not in told
    assert told.endswith("Words stay.\n")
