"""Typed tasks: parameters are checked, failures are judged, executors refuse what they cannot run."""

import functools
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field

from dsa110_contimg.absurd.claims import ClaimedTask
from dsa110_contimg.absurd.registry import BadParamsError, Tasks, TaskType


@dataclass(frozen=True)
class Image:
    ms_path: str
    cell_arcsec: float = 9.0

    def __post_init__(self) -> None:
        if self.cell_arcsec <= 0.0:
            raise ValueError(f"cell_arcsec is {self.cell_arcsec}; give a size above 0")


class Source(BaseModel):
    name: str
    flux_jy: float = Field(gt=0.0)


async def image(params: Image) -> Mapping[str, Any]:
    return {"of": params.ms_path, "cell_arcsec": params.cell_arcsec}


async def measure(params: Source, context: Any) -> Mapping[str, Any]:
    return {"name": params.name, "task": context.task.name}


def wait(params: Mapping[str, Any], context: Any) -> int:
    return len(params)


def stage(options: Image, progress: Callable[[float, str], None]) -> str:
    return options.ms_path


class Context:
    """Stands in for a worker's context and says what it was asked."""

    def __init__(self, task: ClaimedTask) -> None:
        self.task = task

    async def run_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return ("thread", function(*args))

    async def run_child(self, target: str, options: Any) -> Any:
        return type("Ran", (), {"value": ("child", target, options)})

    async def run_command(self, command: tuple[str, ...], params: Mapping[str, Any]) -> Any:
        return ("command", command, params)


async def run(tasks: Tasks, name: str, params: Mapping[str, Any]) -> Any:
    """Run a task as a worker would."""
    claimed = ClaimedTask(uuid.uuid4(), name, params, 1, 7, "q", None, None)
    return await tasks.handlers()[name](claimed, Context(claimed))  # type: ignore[arg-type]


async def test_a_coroutine_gets_its_parameters_as_the_dataclass_that_annotates_them() -> None:
    tasks = Tasks(TaskType("imaging", image))
    assert await run(tasks, "imaging", {"ms_path": "a.ms", "cell_arcsec": 3}) == {"of": "a.ms", "cell_arcsec": 3.0}


async def test_a_coroutine_that_asks_for_it_gets_the_context_too_and_models_are_built_as_well() -> None:
    tasks = Tasks()
    tasks.task("measure")(measure)
    assert await run(tasks, "measure", {"name": "3C286", "flux_jy": 14.7}) == {"name": "3C286", "task": "measure"}


async def test_each_executor_runs_what_it_was_given() -> None:
    tasks = Tasks(
        TaskType("wait", wait, "thread"),
        TaskType("stage", stage, "process"),
        TaskType("named", "some.module:function", "process", params=Image),
        TaskType("clean", ["rm", "-r", "scratch"], "command"),
    )
    assert await run(tasks, "wait", {"a": 1}) == ("thread", 1)
    assert await run(tasks, "stage", {"ms_path": "b"}) == ("child", f"{__name__}:stage", {"ms_path": "b"})
    assert await run(tasks, "named", {"ms_path": "b"}) == ("child", "some.module:function", {"ms_path": "b"})
    assert await run(tasks, "clean", {"n": 1}) == ("command", ("rm", "-r", "scratch"), {"n": 1})


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        ("imaging", {}, r"task imaging: params lacks ms_path$"),
        ("imaging", {"ms_path": 7}, "task imaging: params.ms_path is 7; give a value of type str"),
        (
            "imaging",
            {"ms_path": "a", "cell": 1},
            r"params: 'cell' is unknown, given as 1; did you mean 'cell_arcsec'\? there are cell_arcsec, ms_path",
        ),
        ("imaging", {"ms_path": "a", "cell_arcsec": -1.0}, "cell_arcsec is -1.0; give a size above 0"),
        ("measure", {"name": "x", "flux_jy": -2}, "task measure: params.flux_jy is -2; Input should be greater than 0"),
        ("measure", {"flux_jy": "bright"}, "params.name is .*; Field required; and params.flux_jy is 'bright'"),
    ],
)
async def test_parameters_that_do_not_fit_are_refused_at_spawn_and_at_claim_by_field_value_and_remedy(
    name: str, params: Mapping[str, Any], says: str
) -> None:
    tasks = Tasks(TaskType("imaging", image), TaskType("measure", measure))
    with pytest.raises(BadParamsError, match=says):
        tasks.check(name, params)
    with pytest.raises(BadParamsError, match=says) as caught:
        await run(tasks, name, params)
    assert caught.value.retryable is False


def test_parameters_may_be_spawned_as_objects_and_are_stored_as_json() -> None:
    tasks = Tasks(TaskType("imaging", image), TaskType("measure", measure))
    assert tasks.check("imaging", Image("a.ms")) == {"ms_path": "a.ms", "cell_arcsec": 9.0}
    assert json.dumps(tasks.check("measure", Source(name="x", flux_jy=1.0))) == '{"name": "x", "flux_jy": 1.0}'


def test_a_name_that_is_not_known_here_is_left_to_others() -> None:
    assert Tasks().check("elsewhere", {"a": (1,)}) == {"a": [1]}
    assert Tasks().get("elsewhere") is None


def test_a_handler_judges_failures_by_the_names_of_their_classes() -> None:
    tasks = Tasks(
        TaskType("choosy", image, retry_on=(OSError,), dead_on=("FileNotFoundError",)), TaskType("easy", image)
    )
    judge = tasks.handlers()["choosy"].retryable  # type: ignore[attr-defined]
    assert judge(("ConnectionError", "OSError", "Exception")) is True
    assert judge(("FileNotFoundError", "OSError", "Exception")) is False
    assert judge(("ValueError", "Exception")) is False
    assert tasks.handlers()["easy"].retryable(("ValueError",)) is None  # type: ignore[attr-defined]
    choosy = tasks.get("choosy")
    assert choosy is not None and choosy.retry() == {"retry_on": ["OSError"], "dead_on": ["FileNotFoundError"]}


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (TaskType("t", wait), "no coroutine function; give one, or executor='thread'"),
        (TaskType("t", image, "thread"), "no function; give one, or executor='async'"),
        (TaskType("t", functools.partial(stage), "process"), "a child cannot import"),
        (TaskType("t", lambda options, progress: None, "process"), "a function of a module's top level"),
        (TaskType("t", "rm -r scratch", "command"), "give a list of program and arguments"),
        (TaskType("t", image, "greenlet"), r"executor is 'greenlet'; give one of \['async', "),  # type: ignore[arg-type]
    ],
)
def test_an_executor_refuses_what_it_cannot_run(task: TaskType, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Tasks(task)


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="there is a task imaging already"):
        Tasks(TaskType("imaging", image), TaskType("imaging", image))
