"""The two kinds of repository are one in names and signatures, and satisfy the Protocols."""

import inspect
import subprocess
import sys

import pytest

from dsa110_contimg.api import (
    async_repositories,
    batch_interfaces,
    interfaces,
    quality_interfaces,
    report_interfaces,
    repositories,
)

ASYNC = {
    name: found
    for name, found in vars(async_repositories).items()
    if inspect.isclass(found) and found.__module__ == async_repositories.__name__ and not name.startswith("_")
}
PROTOCOLS = {
    name: found
    for module in (interfaces, batch_interfaces, quality_interfaces, report_interfaces)
    for name, found in vars(module).items()
    if inspect.isclass(found) and getattr(found, "_is_protocol", False) and found.__module__ == module.__name__
}


def methods(kind: type) -> dict[str, inspect.Signature]:
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: inspect.signature(function) for name, function in found if not name.startswith("_")}


def test_there_are_repositories() -> None:
    assert len(ASYNC) > 10


@pytest.mark.parametrize("name", ASYNC)
def test_the_blocking_twin_has_the_same_methods_and_signatures(name: str) -> None:
    twin = getattr(repositories, name.removeprefix("Async"))
    assert methods(twin) == methods(ASYNC[name])
    assert all(inspect.iscoroutinefunction(getattr(ASYNC[name], method)) for method in methods(ASYNC[name]))
    assert not any(inspect.iscoroutinefunction(getattr(twin, method)) for method in methods(twin))


def test_no_blocking_repository_is_without_its_twin() -> None:
    blocking = [
        name
        for name, found in vars(repositories).items()
        if inspect.isclass(found) and found.__module__ == repositories.__name__ and not name.startswith("_")
    ]
    assert {f"Async{name}" for name in blocking} == set(ASYNC)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_kept_to_the_letter(name: str) -> None:
    repository = ASYNC[f"Async{name.removesuffix('Protocol')}"]
    kept = methods(repository)
    assert {method: kept[method] for method in methods(PROTOCOLS[name])} == methods(PROTOCOLS[name])


def test_the_storage_half_imports_nothing_heavy() -> None:
    heavy = "numpy", "astropy", "pandas", "scipy", "h5py", "casacore", "alembic", "fastapi", "dsa110_contimg.absurd"
    code = (
        "import sys, dsa110_contimg.api.async_repositories, dsa110_contimg.api.repositories\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
