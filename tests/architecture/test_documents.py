"""What the documents promise is there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from architecture.source_tree import ROOT
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api import route_table
from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.config import APIConfig, declared_settings
from dsa110_contimg.cli import app
from dsa110_contimg.exit_codes import ExitCode
from dsa110_contimg.up.settings import markdown

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md")]
)
CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def command_lines() -> Iterator[tuple[str, str]]:
    """Give (document, command) for every line of a shell block, comments and continuation left out."""
    for document in DOCUMENTS:
        for language, text in CODE.findall(document.read_text()):
            if language in {"bash", "sh", "shell"}:
                for line in text.replace("\\\n", " ").splitlines():
                    if command := line.partition("  #")[0].strip().removeprefix("$ "):
                        yield name_of(document), command


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_within_the_project_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
    inside = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert not [link for link in inside if not (document.parent / link).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_python_blocks_are_python(document: Path) -> None:
    for language, text in CODE.findall(document.read_text()):
        if language == "python":
            ast.parse(text)


def test_every_make_target_of_the_documents_exists() -> None:
    used = {word for _, line in command_lines() for word in re.findall(r"^make ([a-z]+)", line)}
    assert used
    assert used <= TARGETS


def test_every_dsa110_command_of_the_documents_exists() -> None:
    known = get_command(app).commands  # type: ignore[attr-defined]
    used = {
        word for document in DOCUMENTS for word in re.findall(r"(?:^|`)dsa110 ([a-z][a-z-]*)", document.read_text())
    }
    assert used
    assert used <= set(known)


def command_at(words: list[str]) -> tuple[str, Any]:
    """Return the command that the first words name, and these words."""
    command, path = get_command(app), []
    for word in words:
        commands = getattr(command, "commands", {})
        if word not in commands:
            break
        command, path = commands[word], [*path, word]
    return " ".join(path), command


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Give every command that does something, with its words."""
    commands = getattr(command, "commands", None)
    if commands is None:
        yield path, command
    for name, below in (commands or {}).items():
        yield from leaves(below, f"{path} {name}".strip())


def test_every_option_that_a_document_gives_a_command_exists() -> None:
    for document, line in command_lines():
        words = line.split()
        if words[0] == "dsa110" and words[1] != "db" and not words[1].startswith("-"):
            path, command = command_at(words[1:])
            assert path, (document, line)
            options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, (document, line)


def inline_commands() -> Iterator[tuple[str, str]]:
    """Give (document, command) for every command that stands in backticks within a text."""
    for document in DOCUMENTS:
        for command in re.findall(r"`(dsa110 [a-z][^`\n]*)`", CODE.sub("", document.read_text())):
            yield name_of(document), command


def test_every_command_within_a_text_exists_with_its_options() -> None:
    seen = list(inline_commands())
    assert len(seen) > 50
    for document, line in seen:
        words = line.split()
        if words[1] != "db" and words[1:2] != ["COMMAND"]:
            path, command = command_at(words[1:])
            assert path, (document, line)
            options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, (document, line)


def test_a_command_of_the_pages_for_operators_does_something() -> None:
    """Every line that an operator is told to type names a whole command, with the arguments that it asks for."""
    for document, line in command_lines():
        words = line.split()
        if document.startswith("docs/ops/") and words[0] == "dsa110":
            path, command = command_at(words[1:])
            assert not hasattr(command, "commands"), (document, line)
            required = [p for p in command.params if p.param_type_name == "argument" and p.required]
            given = [word for word in words[1 + len(path.split()) :] if not word.startswith("-")]
            assert len(given) >= len(required), (document, line)


def test_the_command_line_page_lists_every_command_and_exit_code() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    told = [command_at(words.split()[1:])[0] for words in re.findall(r"^\| `(dsa110 [^`]+)`", page, re.MULTILINE)]
    assert sorted(told) == sorted(path for path, _ in leaves(get_command(app)))
    told_codes = dict(re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE))
    assert told_codes == {str(code.value): code.meaning for code in ExitCode}


def test_every_option_that_the_command_line_page_names_beside_a_command_exists() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    for words, text in re.findall(r"^\| `(dsa110 [^`]+)` \| (.+) \|$", page, re.MULTILINE):
        _, command = command_at(words.split()[1:])
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"`(--[a-z-]+)`", text)) <= options, words


@pytest.mark.parametrize(("path", "command"), [pytest.param(*leaf, id=leaf[0]) for leaf in leaves(get_command(app))])
def test_every_command_has_a_help_with_an_example(path: str, command: Any) -> None:
    assert command.help
    assert f"dsa110 {path}" in (command.epilog or "") or path == "version"


def test_every_variable_that_a_document_names_is_read() -> None:
    known = {name for _, item in declared_settings() for name in item.metadata["variables"]}
    known |= {
        f"{name}_FILE"
        for _, item in declared_settings()
        if item.metadata["secret"]
        for name in item.metadata["variables"]
    }
    known |= {variable for variable, *_ in AbsurdConfig().describe()} | {"ABSURD_DATABASE_URL_FILE"}
    for document in DOCUMENTS:
        named = set(re.findall(r"\b(?:DSA110|ABSURD)_[A-Z][A-Z_]*[A-Z]\b", document.read_text()))
        assert named <= known, name_of(document)


def test_the_page_of_settings_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page.endswith(markdown()), "write the end of docs/settings.md anew: dsa110 config --as markdown"


def test_the_page_of_routes_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "reference" / "rest-api.md").read_text()
    table = route_table.markdown(create_app(APIConfig.from_env({}), AbsurdConfig(enabled=False)))
    assert page.endswith(table), "write the end of docs/reference/rest-api.md anew: dsa110 routes --as markdown"


def test_every_source_file_that_a_document_names_exists() -> None:
    package = ROOT / "src" / "dsa110_contimg"
    for document in DOCUMENTS:
        named = set(
            re.findall(
                r"`((?:api|absurd|pipeline|up|tests|docs|scripts|benchmarks)/[\w/]+\.\w+)`", document.read_text()
            )
        )
        missing = {name for name in named if not (package / name).exists() and not (ROOT / name).exists()}
        assert not missing, name_of(document)


def test_every_defect_of_the_earlier_backend_has_a_test_that_exists() -> None:
    rows = re.findall(
        r"^\| (\d+b?) \| .* \| (.+) \|$", (ROOT / "docs/reference/earlier-defects.md").read_text(), re.MULTILINE
    )
    assert [number for number, _ in rows] == sorted(
        [*map(str, range(1, 76)), "46b"], key=lambda text: (int(text.rstrip("b")), text)
    )
    for number, tests in rows:
        named = re.findall(r"`([^`:]+)::(\w+)`", tests)
        assert named, number
        for file, name in named:
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), (number, file, name)


def test_every_check_names_tests_that_exist_or_a_command() -> None:
    page = (ROOT / "docs/reference/checks.md").read_text()
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]*) \| [^|]*\|$", page, re.MULTILINE)
    numbers = [int(number) for number, _ in rows]
    assert numbers == list(range(14, numbers[-1] + 1))
    for number, shown in rows:
        named = re.findall(r"`([^`:]+)::(\w+)`", shown)
        assert named or "`make " in shown or "`python " in shown, number
        for file, name in named:
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), (number, file, name)


def test_decisions_are_numbered_once_and_say_their_status() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    numbers = [page.name[:4] for page in pages]
    assert len(numbers) == len(set(numbers))
    for page in pages:
        text = page.read_text()
        assert text.startswith(f"# {int(page.name[:4])}. "), page.name
        assert "\nStatus: " in text, page.name
        assert "**Decision.**" in text, page.name
