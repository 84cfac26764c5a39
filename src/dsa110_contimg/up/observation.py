"""From a directory of raw files (or from nothing) to runs in the queue, and on to their end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import AbsurdError, QueueUnavailableError
from dsa110_contimg.absurd.executor import ChildFailed, Executor, Warden
from dsa110_contimg.absurd.monitoring import Row
from dsa110_contimg.absurd.workflows import EXTRACT, IMAGE, SpawnedRun, spawn_observation
from dsa110_contimg.api.async_repositories import AsyncImageRepository, AsyncProductRecorder, AsyncProvenanceRepository
from dsa110_contimg.api.config import APIConfig, process_environment
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.exceptions import DSA110APIError
from dsa110_contimg.api.interfaces import ImageRecord
from dsa110_contimg.exit_codes import CommandError, ExitCode
from dsa110_contimg.pipeline.naming import parse_subband_name
from dsa110_contimg.up.console import Screen, open_screen
from dsa110_contimg.up.plan import command_environment
from dsa110_contimg.up.progress import Board, Follower
from dsa110_contimg.up.summary import FinishedRun, Summary

POLL_S = 0.5
PATIENCE_S = 60.0
_ENDED = ("completed", "failed", "cancelled")


class NoObservationError(CommandError):
    """A directory holds nothing that can be processed."""


class NotADataDirectoryError(CommandError):
    """A directory was named that holds no subband file."""

    exit_code = ExitCode.USAGE


class ServiceError(CommandError):
    """The queue or the products database does not answer, or is not ours."""

    exit_code = ExitCode.SERVER


class ChildError(CommandError):
    """What runs in a child process of the command failed."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The files of one observation, as the queue wants them."""

    stamp: str
    files: Sequence[str]
    missing_subbands: Sequence[int]


@dataclass(frozen=True, slots=True)
class Bench:
    """What the work is done with.

    Attributes
    ----------
    config : APIConfig
    queue : AbsurdConfig
    screen : Screen
    board : Board
    executor : Executor
    warden : Warden
    """

    config: APIConfig
    queue: AbsurdConfig
    screen: Screen
    board: Board
    executor: Executor
    warden: Warden

    async def child(self, name: str, target: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run ``module:function`` of the package in a child process, with its progress shown, and return its result.

        Raises
        ------
        ChildError
            It failed; the message is its own.
        """

        async def show(fraction: float, words: str) -> None:
            self.board.show(name, fraction, words)

        try:
            ran = await self.executor.run(f"dsa110_contimg.{target}", options, progress=show, groups=self.warden)
        except ChildFailed as failure:
            raise ChildError(failure.message) from failure
        finally:
            self.board.end(name)
        return ran.value


@contextlib.contextmanager
def bench(environment: Mapping[str, str], screen: Screen) -> Iterator[Bench]:
    """Give a bench; at the end nothing runs that was started on it."""
    warden = Warden()
    warden.start()
    try:
        with Board(screen) as board:
            config, queue = APIConfig.from_env(environment), AbsurdConfig.from_env(environment)
            yield Bench(config, queue, screen, board, Executor(), warden)
    finally:
        warden.stop()


async def work_through(environment: Mapping[str, str], api_url: str, screen: Screen, data: Path | None) -> bool:
    """Process the observations in ``data`` (or a simulated one), say what was made; True when all completed."""
    with bench(environment, screen) as on:
        directory = data or await _simulated(on)
        async with _queue(on) as (client, recorder):
            runs = await _ingest(on, client, recorder, directory)
            finished = await _follow(on, client, runs)
        await _summary(on, finished, api_url, directory)
    return all(run.status == "completed" for run in finished)


async def _simulated(on: Bench) -> Path:
    """Return the directory of incoming files; an observation is simulated into it when it is empty."""
    directory = on.config.paths.incoming_dir
    if has_subband_files(directory):
        on.screen.say(f"taking the files in {directory}")
        return directory
    on.screen.say(f"{directory} is empty: simulating one observation of the DSA-110")
    made = await on.child("simulation", "pipeline.simulation:simulate", {"directory": str(directory)})
    on.screen.say(
        f"simulated {made['stamp']}: {made['n_antennas']} antennas, {made['n_sources']} sources in {directory}"
    )
    return directory


def has_subband_files(directory: Path) -> bool:
    """Tell whether a directory holds a file that is called like a subband file."""
    return directory.is_dir() and any(parse_subband_name(path.name) for path in directory.iterdir())


def require_subband_files(directory: Path) -> None:
    """Make sure, before anything is started, that a directory is worth looking into.

    Raises
    ------
    NotADataDirectoryError
        No file in it is called like a subband file.
    """
    if not has_subband_files(directory):
        others = sum(1 for _ in directory.iterdir())
        raise NotADataDirectoryError(
            f"{directory} holds no file called YYYY-MM-DDTHH:MM:SS_sbNN.hdf5 ({others} other entries); "
            "give the directory in which the subband files themselves lie"
        )


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what the queue and the products database raise into an error of the command."""
    try:
        yield
    except (AbsurdError, DSA110APIError) as error:
        raise ServiceError(str(error)) from error


@contextlib.asynccontextmanager
async def _queue(on: Bench) -> AsyncIterator[tuple[AbsurdClient, AsyncProductRecorder]]:
    async with AbsurdClient(on.queue) as client, open_database(on.config.database, on.config.timeouts) as adapter:
        yield client, AsyncProductRecorder(adapter)


async def _ingest(
    on: Bench, client: AbsurdClient, recorder: AsyncProductRecorder, directory: Path
) -> list[tuple[Observation, SpawnedRun]]:
    """Put every observation of a directory into the queue."""
    options = {"directory": str(directory)}
    found = await on.child("scan", "up.scanning:find_observations", options)
    for _, reason in found["rejected"]:
        on.screen.say(f"left out: {reason}", "WARNING")
    runs = []
    for one in found["observations"]:
        observation = Observation(**one)
        run = await spawn_observation(client, recorder, observation, on.config.paths.products_dir)
        runs.append((observation, run))
        on.screen.say(f"{_described(observation)}; {await _standing(client, run)}")
    if not runs:
        raise NoObservationError(f"{directory} holds no observation that can be processed: all its files were left out")
    return runs


def _described(observation: Observation) -> str:
    missing = ", ".join(f"{subband:02d}" for subband in observation.missing_subbands)
    return f"{observation.stamp}: {len(observation.files)} files{f', missing subbands {missing}' if missing else ''}"


async def _standing(client: AbsurdClient, run: SpawnedRun) -> str:
    """Say what becomes of a run that has just been put into the queue, or was there before."""
    if run.created:
        return f"queued as {run.run_id}"
    workflow = await client.get_workflow(run.workflow_id)
    if workflow and workflow["status"] in _ENDED:
        return f"finished before as {run.run_id}, not processed again"
    return f"on its way as {run.run_id}, goes on where it was"


async def _follow(on: Bench, client: AbsurdClient, runs: Sequence[tuple[Observation, SpawnedRun]]) -> list[FinishedRun]:
    """Show the progress of the runs until all have ended."""
    follower = Follower(on.screen, on.board)
    waiting: dict[UUID, tuple[Observation, SpawnedRun]] = {run.workflow_id: (one, run) for one, run in runs}
    finished: dict[UUID, FinishedRun] = {}
    known: set[UUID] = set()
    while waiting:
        for workflow_id, (observation, run) in tuple(waiting.items()):
            workflow = await _patiently(client, workflow_id)
            if not run.created and run.workflow_id not in known:
                follower.know(workflow["tasks"])
                known.add(run.workflow_id)
            follower.tell(observation.stamp, workflow["tasks"])
            if workflow["status"] in _ENDED:
                finished[workflow_id] = FinishedRun(
                    run.run_id, observation.stamp, workflow["status"], workflow["tasks"]
                )
                del waiting[workflow_id]
        await asyncio.sleep(POLL_S if waiting else 0)
    return [finished[run.workflow_id] for _, run in runs]


async def _patiently(client: AbsurdClient, workflow_id: UUID) -> Row:
    """Return a workflow; a server that is just being started again is waited for."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + PATIENCE_S
    while True:
        try:
            workflow = await client.get_workflow(workflow_id)
        except QueueUnavailableError:
            if clock() > deadline:
                raise
            await asyncio.sleep(POLL_S)
            continue
        if workflow is None:
            raise CommandError(f"the queue knows no workflow {workflow_id}; was its database replaced?")
        return workflow


async def _summary(on: Bench, finished: Sequence[FinishedRun], api_url: str, directory: Path) -> None:
    async with open_database(on.config.database, on.config.timeouts) as adapter:
        for run in finished:
            stages = await AsyncProvenanceRepository(adapter).list_for_run(run.run_id)
            image = await AsyncImageRepository(adapter).get_by_path(run.result(IMAGE).get("image_path", ""))
            recovered = await _recovered(on, run, truth_of(directory, run.stamp))
            on.screen.console.print(Summary(run, stages, recovered, urls(api_url, run, image)).render())


def urls(api_url: str, run: FinishedRun, image: ImageRecord | None) -> list[str]:
    """Return the addresses at which a run can be looked at."""
    shown = [f"{api_url}/api/v1/jobs/{run.run_id}"]
    if image:
        shown += [f"{api_url}/api/v1/images/{image.id}{part}" for part in ("", "/thumbnail", "/fits", "/provenance")]
    return [*shown, f"{api_url}/api/v1/sources", f"{api_url}/api/docs", f"{api_url}/"]


def truth_of(directory: Path, stamp: str) -> Path | None:
    """Return the file that says what was simulated; None beside real data."""
    path = directory / f"{stamp}_truth.json"
    return path if path.exists() else None


async def _recovered(on: Bench, run: FinishedRun, truth: Path | None) -> Mapping[str, Any] | None:
    """Compare the sources found with those that were simulated; None where there is nothing to compare."""
    catalogue = run.result(EXTRACT).get("catalogue_path")
    if catalogue is None or truth is None:
        return None
    options = {"catalogue_path": catalogue, "truth_path": str(truth)}
    return await on.child("recovery", "pipeline.recovery:recover", options)


# --- commands -------------------------------------------------------------------------------------------------------


def simulate_command(
    directory: Path, antennas: int | None, sources: int | None, seed: int | None, stamp: str | None
) -> ExitCode:
    """Run `dsa110 simulate`."""
    given = {"n_antennas": antennas, "n_sources": sources, "seed": seed, "stamp": stamp}
    options = {"directory": str(directory.resolve())} | {
        key: value for key, value in given.items() if value is not None
    }

    async def run(on: Bench) -> None:
        made = await on.child("simulation", "pipeline.simulation:simulate", options)
        for path in made["files"]:
            on.screen.console.print(path, soft_wrap=True, highlight=False)

    with _command_bench(process_environment()) as on:
        asyncio.run(run(on))
    return ExitCode.OK


def ingest_command(directory: Path, wait: bool) -> ExitCode:
    """Run `dsa110 ingest`."""

    directory = directory.resolve()

    async def run(on: Bench) -> bool:
        async with _queue(on) as (client, recorder):
            runs = await _ingest(on, client, recorder, directory)
            return not wait or all(run.status == "completed" for run in await _follow(on, client, runs))

    with _command_bench(command_environment(needs_servers=True)) as on:
        return ExitCode.OK if asyncio.run(run(on)) else ExitCode.WORK_FAILED


@contextlib.contextmanager
def _command_bench(environment: Mapping[str, str]) -> Iterator[Bench]:
    with bench(environment, open_screen()) as on, plain_errors():
        yield on
