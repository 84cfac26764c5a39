"""Typed tasks: what runs under a name, in which executor, with which parameters, and which failures are worth a retry.

Examples
--------
>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Image:
...     ms_path: str
...     cell_arcsec: float = 9.0
>>> tasks = Tasks()
>>> @tasks.task("imaging", retry_on=(OSError,))
... async def image(params: Image) -> dict[str, str]:
...     return {"made_of": params.ms_path}
>>> tasks.check("imaging", {"ms_path": 7})
Traceback (most recent call last):
    ...
dsa110_contimg.absurd.registry.BadParamsError: task imaging: params.ms_path is 7; give a value of type str
"""

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dsa110_contimg.absurd.claims import ClaimedTask
from dsa110_contimg.absurd.context import TaskContext, TaskHandler
from dsa110_contimg.absurd.endings import Retry, Snooze
from dsa110_contimg.absurd.options import OptionsError, build
from dsa110_contimg.absurd.payloads import plain

__all__ = ["BadParamsError", "ExecutorName", "Retry", "Snooze", "TaskType", "Tasks"]

ExecutorName = Literal["async", "thread", "process", "command"]

#: An exception's class or its name; a class stands for those made from it too.
Kind = type[BaseException] | str


class BadParamsError(ValueError):
    """Parameters that do not fit their task; trying again cannot help."""

    retryable = False


@dataclass(frozen=True, slots=True)
class TaskType:
    """What runs under a name.

    Attributes
    ----------
    name : str
        Name of the tasks.
    run : callable, str or sequence of str
        ``async``: a coroutine function; ``thread``: a function; both of ``(params)`` or ``(params, context)``.
        ``process``: a function of ``(params, progress)``, or its name ``module:function``. ``command``: program and
        arguments.
    executor : str
        ``async`` runs in the worker's event loop and must not block it. ``thread`` is for calls that wait, and cannot
        be killed. ``process`` runs in a child that can be killed, with a memory ceiling. ``command`` is any program.
    params : type, optional
        Dataclass or Pydantic model of the parameters; default: what annotates the first parameter of ``run``.
    timeout_sec, max_retries
        Of tasks that say nothing else; None: of the configuration.
    retry_on, dead_on
        Exceptions after which another attempt is made (empty: any), and those after which none is.
    """

    name: str
    run: Callable[..., Any] | str | Sequence[str]
    executor: ExecutorName = "async"
    params: Any = None
    timeout_sec: float | None = None
    max_retries: int | None = None
    retry_on: Sequence[Kind] = ()
    dead_on: Sequence[Kind] = ()

    def kind(self) -> Any:
        """Return the type of the parameters."""
        if self.params is not None or not callable(self.run):
            return self.params or Any
        first = next(iter(inspect.signature(self.run, eval_str=True).parameters.values()), None)
        return Any if first is None or first.annotation is inspect.Parameter.empty else first.annotation

    def retry(self) -> dict[str, list[str]]:
        """Return names of exceptions, as the queue keeps them."""
        lists = {"retry_on": sorted(_names(self.retry_on)), "dead_on": sorted(_names(self.dead_on))}
        return {key: names for key, names in lists.items() if names}


class Tasks:
    """The tasks that a program knows: given to a worker, it runs them; given to a client, it checks what is spawned."""

    def __init__(self, *types: TaskType) -> None:
        self._handlers: dict[str, TypedHandler] = {}
        for one in types:
            self.add(one)

    def add(self, task: TaskType) -> None:
        """Add a task.

        Raises
        ------
        ValueError
            The name is taken, or the executor cannot run what it was given.
        """
        if task.name in self._handlers:
            raise ValueError(f"there is a task {task.name} already; give another name")
        self._handlers[task.name] = TypedHandler(task)

    def task(self, name: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that adds a function; ``settings`` are those of :class:`TaskType`."""

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            self.add(TaskType(name, function, **settings))
            return function

        return add

    def check(self, name: str, params: Any) -> Any:
        """Return the parameters as the queue keeps them; those of a name that is not known here are not checked.

        Raises
        ------
        BadParamsError
            They do not fit; the message names the task, the field, its value and what would be right.
        """
        stored = params.model_dump(mode="json") if hasattr(params, "model_dump") else plain(params)
        if name in self._handlers:
            self._handlers[name].build(stored)
        return stored

    def get(self, name: str) -> TaskType | None:
        """Return what is known of a name."""
        return self._handlers[name].task if name in self._handlers else None

    def handlers(self) -> Mapping[str, TaskHandler]:
        """Return what a worker runs."""
        return dict(self._handlers)

    def __iter__(self) -> Iterator[TaskType]:
        return (handler.task for handler in self._handlers.values())


class TypedHandler:
    """Checks the parameters of a claimed task and runs it in its executor."""

    def __init__(self, task: TaskType) -> None:
        self.task = task
        self._retry_on, self._dead_on = _names(task.retry_on), _names(task.dead_on)
        if task.executor not in _RUNNERS:
            raise ValueError(f"task {task.name}: executor is {task.executor!r}; give one of {sorted(_RUNNERS)}")
        self._run = _RUNNERS[task.executor](task)
        self._kind = task.kind()

    async def __call__(self, task: ClaimedTask, context: TaskContext, /) -> Any:
        """Run one attempt."""
        return await self._run(self.build(task.params), context)

    def build(self, params: Any) -> Any:
        """Return the parameters as an instance of their type."""
        try:
            return build(self._kind, params, "params")
        except OptionsError as error:
            raise BadParamsError(f"task {self.task.name}: {error}") from error

    def retryable(self, types: Sequence[str], /) -> bool | None:
        """Tell whether a failure is worth another attempt; None: no opinion."""
        if not self._dead_on.isdisjoint(types):
            return False
        if self._retry_on:
            return not self._retry_on.isdisjoint(types)
        return None


Runner = Callable[[Any, TaskContext], Awaitable[Any]]


def _in_the_loop(task: TaskType) -> Runner:
    function = task.run
    if not inspect.iscoroutinefunction(function):
        raise ValueError(f"task {task.name}: {function!r} is no coroutine function; give one, or executor='thread'")
    if len(inspect.signature(function).parameters) > 1:
        return function

    async def run(params: Any, _context: TaskContext) -> Any:
        return await function(params)

    return run


def _in_a_thread(task: TaskType) -> Runner:
    function = task.run
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise ValueError(f"task {task.name}: {function!r} is no function; give one, or executor='async'")
    with_context = len(inspect.signature(function).parameters) > 1

    async def run(params: Any, context: TaskContext) -> Any:
        return await context.run_thread(function, params, *([context] if with_context else []))

    return run


def _in_a_child(task: TaskType) -> Runner:
    target = task.run if isinstance(task.run, str) else _address(task)

    async def run(_params: Any, context: TaskContext) -> Any:
        return (await context.run_child(target, context.task.params)).value

    return run


def _address(task: TaskType) -> str:
    """Return ``module:function`` of a function that a child can import."""
    module, name = getattr(task.run, "__module__", ""), getattr(task.run, "__qualname__", "")
    if not module or module == "__main__" or not name.isidentifier():
        raise ValueError(
            f"task {task.name}: a child cannot import {task.run!r}; give a function of a module's top level"
        )
    return f"{module}:{name}"


def _as_a_command(task: TaskType) -> Runner:
    if callable(task.run) or isinstance(task.run, str):
        raise ValueError(f"task {task.name}: {task.run!r} is no command; give a list of program and arguments")
    command = tuple(task.run)

    async def run(_params: Any, context: TaskContext) -> Any:
        return await context.run_command(command, context.task.params)

    return run


_RUNNERS: Mapping[str, Callable[[TaskType], Runner]] = {
    "async": _in_the_loop, "thread": _in_a_thread, "process": _in_a_child, "command": _as_a_command,
}  # fmt: skip


def _names(kinds: Sequence[Kind]) -> frozenset[str]:
    return frozenset(kind if isinstance(kind, str) else kind.__qualname__ for kind in kinds)
