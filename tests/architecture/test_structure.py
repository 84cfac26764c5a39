"""The rules of the house that no other tool checks: see docs/ARCHITECTURE.md."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator

import pytest

from architecture.source_tree import (
    MODULES,
    ROOT,
    Module,
    body_lines,
    documented_strings,
    statement_lines,
)

SQL = re.compile(
    r"^\s*(select\s[^;]*\bfrom\s+\w|select\s+\w+(\.\w+)?\(|insert\s+into\s+\w|update\s+\S+\s+set\s|delete\s+from\s+\w"
    r"|create\s+(unique\s+)?(table|index|schema|extension|database)\b|drop\s+(table|index|schema|database)\b"
    r"|alter\s+table\b|with\s+\w+\s+as\s+(materialized\s+)?\()",
    re.IGNORECASE,
)
SQL_ROOMS = re.compile(
    r"^(api/tables\.py|api/queries(\.py|/.*)|api/queries_\w+\.py|api/migrations/.*|absurd/statements/\w+\.py|chaos/statements\.py)$"
)
BROAD_EXCEPT_ROOMS = {"api/middleware/exception_handler.py", "absurd/worker.py", "api/services_monitor.py"}
ENVIRONMENT_ROOMS = {"api/config.py", "absurd/config.py"}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
#: What users import by name, and earlier code did: below `api` and below `absurd`.
SPECIFIED = {
    "api": "app config database dependencies exceptions interfaces repositories async_repositories schemas security "
    "validation websocket services_monitor job_queue rate_limit metrics cache batch.jobs batch.qa batch.thumbnails "
    "db_adapters.backend db_adapters.query_builder db_adapters.adapters.sqlite_adapter "
    "db_adapters.adapters.postgresql_adapter middleware.exception_handler routes.images routes.sources routes.jobs "
    "routes.ms routes.qa routes.cal routes.stats routes.logs routes.queue routes.cache routes.services "
    "services.async_services services.fits_service services.qa_service services.stats_service",
    "absurd": "client worker config adapter dependencies scheduling monitoring setup scheduler_main __main__",
}
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_HANDLER_LINES = 10


@pytest.mark.parametrize(("wing", "names"), SPECIFIED.items())
def test_modules_have_the_names_of_the_specification(wing: str, names: str) -> None:
    paths = {f"{wing}.{name}" for name in names.split()}
    there = {module.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for module in MODULES}
    assert paths - there == set()


def test_sql_stands_only_where_it_belongs() -> None:
    found = [
        module.at(node)
        for module in MODULES
        if not SQL_ROOMS.match(module.name)
        for node in texts(module)
        if SQL.match(node.value)
    ]
    assert not found, f"SQL belongs in tables, queries, statements, schema.sql or migrations: {found}"


def texts(module: Module) -> Iterator[ast.Constant]:
    """Give every string constant that is no docstring."""
    documentation = documented_strings(module.tree)
    for node in module.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node


@pytest.mark.parametrize(
    "statement",
    ["SELECT a FROM b", "update t set x = 1", "\n  insert into t (a) values (1)", "select absurd.claim_task($1)"],
)
def test_the_search_for_sql_finds_sql(statement: str) -> None:
    assert SQL.match(statement)


@pytest.mark.parametrize(
    "text", ["select one of these", "Update the file set", "with a as its name", "delete the image"]
)
def test_the_search_for_sql_leaves_prose_alone(text: str) -> None:
    assert not SQL.match(text)


def test_no_file_is_longer_than_500_lines() -> None:
    long = {module.name: lines for module in MODULES if (lines := module.text.count("\n")) > MAX_FILE_LINES}
    assert not long


def test_no_function_is_longer_than_60_lines() -> None:
    long = {
        module.at(function): lines
        for module in MODULES
        for function in module.functions()
        if (lines := body_lines(function)) > MAX_FUNCTION_LINES
    }
    assert not long


def test_no_request_handler_has_more_than_10_lines() -> None:
    long = {
        module.at(function): lines
        for module in MODULES
        if module.name.startswith("api/routes/")
        for function in module.functions()
        if any(is_route(decorator) for decorator in function.decorator_list)
        if (lines := statement_lines(function)) > MAX_HANDLER_LINES
    }
    assert not long


def is_route(decorator: ast.expr) -> bool:
    """Tell whether a decorator is ``@router.get(...)`` or the like."""
    verbs = {"get", "post", "put", "patch", "delete", "head", "websocket", "api_route"}
    return (
        isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.func.attr in verbs
    )


def test_everything_is_caught_in_three_places_only() -> None:
    found = [
        module.at(node)
        for module in MODULES
        if module.name not in BROAD_EXCEPT_ROOMS
        for node in module.nodes
        if isinstance(node, ast.ExceptHandler) and is_broad(node.type)
    ]
    assert not found


def test_each_place_that_may_catch_everything_does_so_once() -> None:
    counts = {
        module.name: sum(isinstance(node, ast.ExceptHandler) and is_broad(node.type) for node in module.nodes)
        for module in MODULES
        if module.name in BROAD_EXCEPT_ROOMS
    }
    assert all(count <= 1 for count in counts.values()), counts


def is_broad(caught: ast.expr | None) -> bool:
    """Tell whether an except clause catches everything."""
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"}) for kind in kinds
    )


def test_the_environment_is_read_in_the_two_config_modules_only() -> None:
    found = [
        module.at(node)
        for module in MODULES
        if module.name not in ENVIRONMENT_ROOMS
        for node in module.nodes
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "putenv"}
    ]
    assert not found


def test_the_environment_is_not_read_at_import() -> None:
    found = [
        module.at(node)
        for module in MODULES
        for statement in module.tree.body
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    ]
    assert not found


def test_no_import_stands_inside_a_function() -> None:
    found = [
        module.at(node)
        for module in MODULES
        for function in module.functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not found


def test_modules_are_imported_by_name_in_four_places_only() -> None:
    found = {
        module.name
        for module in MODULES
        for node in module.nodes
        if isinstance(node, ast.Attribute | ast.Name)
        and "import_module" in (getattr(node, "attr", ""), getattr(node, "id", ""))
    }
    assert found <= {"cli.py", "absurd/child.py", "absurd/__init__.py", "api/services/access_service.py"}


def test_no_file_has_a_name_that_says_nothing() -> None:
    found = [module.name for module in MODULES if FORBIDDEN_NAMES & set(module.name.removesuffix(".py").split("/"))]
    assert not found


def test_every_public_function_class_and_module_is_documented() -> None:
    bare = [module.name for module in MODULES if ast.get_docstring(module.tree) is None]
    for module in MODULES:
        bare += [module.at(node) for node in public_definitions(module.tree) if ast.get_docstring(node) is None]
    assert not bare


def public_definitions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Give the public functions and classes of a module and the public methods of its public classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node)


def test_every_function_says_what_it_returns() -> None:
    bare = [module.at(function) for module in MODULES for function in module.functions() if function.returns is None]
    assert not bare


def test_nothing_is_printed_but_by_the_command_line() -> None:
    found = [
        module.at(node)
        for module in MODULES
        if module.name != "cli.py"
        for node in module.nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not found


# --- the tree as it is committed ------------------------------------------------------------------------------------

MACHINE = re.compile(r"/home/\w+/|/root/")
REGISTRY = re.compile(
    r"--(?:extra-)?index-url|--trusted-host|--find-links|https?://\S+/simple\b|https?://\S+/packages/\S+\.whl"
)
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")


def committed_texts() -> Iterator[tuple[str, str]]:
    """Give name and text of every text file under version control."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix not in {".csv", ".png", ".gz", ".npz", ".fits", ".ico", ".woff2"}:
            yield name, path.read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize(
    "pattern", [MACHINE, REGISTRY, UNFINISHED], ids=["path of a machine", "registry", "unfinished"]
)
def test_no_committed_file_holds_what_belongs_elsewhere(pattern: re.Pattern[str]) -> None:
    allowed = {"tests/architecture/test_structure.py", "LICENSE"}
    found = {
        name: match[0] for name, text in committed_texts() if name not in allowed and (match := pattern.search(text))
    }
    assert not found


def test_the_lock_pins_and_hashes_every_package_and_names_no_place() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert len(packages) > 50
    assert all(re.match(r"[a-z0-9-]+==\S+ \\$", line) for line in packages)
    rest = [line for line in lines if line.startswith(" ")]
    assert all(re.match(r"    --hash=sha256:[0-9a-f]{64}( \\)?$", line) for line in rest)
    assert not [line for line in lines if "://" in line or line.startswith("-")]


def test_the_lock_holds_every_direct_dependency_but_those_of_the_benchmarks() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    wanted = {re.match(r"[A-Za-z0-9_-]+", word)[0].lower() for word in words}  # type: ignore[index]
    missing = {name for name in wanted if not re.search(rf"^{re.escape(name)}==", lock, re.MULTILINE)}
    assert wanted
    assert not missing, f"run `make lock`: {missing}"
