"""Chains of tasks by name, as data.

A step waits for all steps before it, so that it follows the one before and is offered the results of every earlier one
(``context.parent_results()``). When a step fails for good, those after it are skipped.

``standard-pipeline``, ``quick-imaging``, ``calibrator`` and ``target`` are those of the earlier queue, step by step,
for programs that know them by these names. The worker of this package has no handler for three of their steps
(:data:`NOT_SERVED_HERE`): such a task waits until some other worker takes it. What this worker runs from raw files to
graded image is the chain ``observation``; ``dsa110 ingest`` spawns it with the paths and the bookkeeping that it needs.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dsa110_contimg.absurd.connection import AbsurdError
from dsa110_contimg.absurd.specs import Dependency, Policy, TaskSpec


class UnknownChainError(AbsurdError):
    """No chain has this name."""


@dataclass(frozen=True, slots=True)
class Step:
    """One task of a chain.

    Attributes
    ----------
    name : str
        Task name.
    params : mapping
        Laid over the parameters of the chain.
    policy : str
        How the steps before it must have ended for it to run: ``success`` or ``done``.
    priority, timeout_sec, max_retries, queue : optional
        Where they differ from those of the chain.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    policy: Policy = "success"
    priority: int | None = None
    timeout_sec: float | None = None
    max_retries: int | None = None
    queue: str | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps that follow each other."""

    name: str
    about: str
    steps: tuple[Step, ...]

    @property
    def task_names(self) -> tuple[str, ...]:
        """The names of the steps, in order."""
        return tuple(step.name for step in self.steps)

    def unserved(self, handled: Collection[str]) -> list[str]:
        """Return the steps that a worker with these task names leaves to others."""
        return [name for name in self.task_names if name not in handled]


def _chain(name: str, about: str, *steps: str) -> Chain:
    return Chain(name, about, tuple(Step(step) for step in steps))


STANDARD_PIPELINE = _chain(
    "standard-pipeline", "everything, from catalogues of the field to light curves",
    "catalog-setup", "convert-uvh5-to-ms", "calibration-solve", "calibration-apply", "imaging", "validation",
    "crossmatch", "photometry",
)  # fmt: skip
QUICK_IMAGING = _chain(
    "quick-imaging", "an image with the calibration that is there", "convert-uvh5-to-ms", "calibration-apply", "imaging"
)
CALIBRATOR = _chain(
    "calibrator", "solutions from an observation of a calibrator",
    "catalog-setup", "convert-uvh5-to-ms", "calibration-solve",
)  # fmt: skip
TARGET = _chain(
    "target", "a target, with the calibration that is there",
    "convert-uvh5-to-ms", "calibration-apply", "imaging", "validation", "photometry",
)  # fmt: skip
OBSERVATION = Chain(
    "observation", "what the worker of this package does with an observation",
    (
        Step("convert-uvh5-to-ms"), Step("flagging"), Step("calibration-solve"), Step("calibration-apply"),
        Step("imaging"), Step("source-finding"), Step("validation"), Step("finish-run", policy="done"),
    ),
)  # fmt: skip

#: Steps of the chains above that the worker of this package leaves to others, and what it has instead.
NOT_SERVED_HERE: Mapping[str, str] = {
    "catalog-setup": "nothing is set up beforehand: the catalogue of bright sources is part of the package",
    "crossmatch": "nothing by that name: `source-finding` matches what it finds with the known sources of the field",
    "photometry": "nothing by that name: `source-finding` fits positions and fluxes, which make the light curves",
}

CHAINS: Mapping[str, Chain] = {
    chain.name: chain for chain in (STANDARD_PIPELINE, QUICK_IMAGING, CALIBRATOR, TARGET, OBSERVATION)
}
ALIASES: Mapping[str, str] = {"calibrator-processing": "calibrator", "target-processing": "target"}


def find_chain(name: str) -> Chain:
    """Return the chain of a name or of an alias.

    Raises
    ------
    UnknownChainError
        There is none; the message says which there are.
    """
    chain = CHAINS.get(ALIASES.get(name, name))
    if chain is None:
        near = difflib.get_close_matches(name, [*CHAINS, *ALIASES], n=1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(CHAINS))}"
        raise UnknownChainError(f"no chain is called {name!r}; {meant}")
    return chain


def as_chain(chain: str | Chain | Sequence[str | Step]) -> Chain:
    """Return a chain given by name, as it is, or as its steps."""
    if isinstance(chain, Chain):
        return chain
    if isinstance(chain, str):
        return find_chain(chain)
    steps = tuple(Step(step) if isinstance(step, str) else step for step in chain)
    return Chain(" → ".join(step.name for step in steps), "given step by step", steps)


def chain_specs(
    chain: Chain, params: Mapping[str, Any], step_params: Mapping[str, Mapping[str, Any]] | None = None, *,
    queue: str | None = None, priority: int = 0, timeout_sec: float | None = None, max_retries: int | None = None,
    idempotency_key: str | None = None,
) -> list[TaskSpec]:  # fmt: skip
    """Return the tasks of a chain, each of which waits for all before it.

    Raises
    ------
    UnknownChainError
        ``step_params`` names a step that the chain does not have.
    """
    own = step_params or {}
    if strange := sorted(set(own) - set(chain.task_names)):
        raise UnknownChainError(f"chain {chain.name} has no step {strange[0]!r}; it has {', '.join(chain.task_names)}")
    specs: list[TaskSpec] = []
    for place, step in enumerate(chain.steps):
        specs.append(
            TaskSpec(
                step.name,
                {**params, **step.params, **own.get(step.name, {})},
                depends_on=tuple(Dependency(spec.task_id, step.policy) for spec in specs),
                priority=priority if step.priority is None else step.priority,
                timeout_sec=step.timeout_sec or timeout_sec,
                max_retries=max_retries if step.max_retries is None else step.max_retries,
                queue=step.queue or queue,
                idempotency_key=idempotency_key and f"{idempotency_key} {place} {step.name}",
            )
        )
    return specs
