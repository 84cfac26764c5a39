"""What a run made: files, figures, times, recovered against injected flux densities, and where to look."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dsa110_contimg.absurd import workflows
from dsa110_contimg.api.interfaces import ProvenanceRecord


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run whose workflow has ended, with its tasks as the queue tells them."""

    run_id: str
    stamp: str
    status: str
    tasks: Sequence[Mapping[str, Any]]

    def result(self, task_name: str) -> Mapping[str, Any]:
        """Return what a task returned; empty if it has not completed."""
        return next((task["result"] for task in self.tasks if task["task_name"] == task_name and task["result"]), {})

    def failures(self) -> Iterable[str]:
        """Give task and reason of each failure, and how to go on."""
        failed = [task for task in self.tasks if task["status"] == "failed"]
        yield from (f"{task['task_name']}: {task['error']}" for task in failed)
        if failed:
            yield f"once that is mended: dsa110 absurd workflows retry {failed[0]['workflow_id']} goes on from there"


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that is said about a finished run."""

    run: FinishedRun
    stages: Sequence[ProvenanceRecord]
    recovered: Mapping[str, Any] | None
    urls: Sequence[str]

    def render(self) -> RenderableType:
        """Return the summary for a terminal."""
        parts: list[RenderableType] = [Text(f"\n{self.run.stamp}  {self.run.status}", style="bold")]
        parts += [Text(f"  {reason}", style="red") for reason in self.run.failures()]
        if self.stages:
            figures = self._figures()
            parts += [Padding(figures, (0, 2))] if figures else []
            parts += [Padding(self._made(), (1, 2)), Padding(self._times(), (0, 2))]
        if self.recovered:
            parts += [Padding(fluxes(self.recovered), (1, 2, 0, 2)), Padding(verdict(self.recovered), (0, 2, 1, 2))]
        parts += [Text(f"  {url}", style="cyan") for url in self.urls]
        return Group(*parts)

    def _figures(self) -> Text:
        """Return the image's own figures in one line."""
        of = {stage.stage: stage.summary for stage in self.stages}
        words = []
        if image := of.get(workflows.IMAGE):
            words.append(
                f"noise {image['noise_jy'] * 1e3:.2f} mJy/beam (thermal {image['thermal_noise_jy'] * 1e3:.2f})"
            )
            words.append(f'beam {image["beam_major_arcsec"]:.0f}" x {image["beam_minor_arcsec"]:.0f}"')
            words.append(f"dynamic range {image['dynamic_range']:.0f}")
        if found := of.get(workflows.EXTRACT):
            words.append(f"{found['n_sources']} sources")
        if verdict := of.get(workflows.ASSESS):
            words.append(f"quality {verdict['grade']}: {verdict['summary']}")
        return Text("; ".join(words))

    def _made(self) -> Table:
        table = _table("made", "where", "MB")
        outputs = {file.path: file for stage in self.stages for file in stage.files if file.role == "output"}
        for file in outputs.values():
            table.add_row(file.kind, file.path, f"{file.size_bytes / 1e6:.1f}")
        return table

    def _times(self) -> Table:
        table = _table("stage", "seconds", "CPU s", "peak MB")
        for stage in self.stages:
            seconds = stage.finished_at - stage.started_at
            table.add_row(stage.stage, f"{seconds:.1f}", f"{stage.cpu_s:.1f}", f"{stage.peak_rss_bytes / 1e6:.0f}")
        total = sum(stage.finished_at - stage.started_at for stage in self.stages)
        table.add_row("all", f"{total:.1f}", f"{sum(stage.cpu_s for stage in self.stages):.1f}", "", style="bold")
        return table


def fluxes(recovered: Mapping[str, Any]) -> Table:
    """Return the table of recovered against injected flux densities."""
    table = _table("source", "injected mJy", "recovered mJy", "ratio", "offset arcsec")
    for row in recovered["rows"]:
        table.add_row(*row)
    return table


def verdict(recovered: Mapping[str, Any]) -> Text:
    """Return the recovery in one line."""
    words = f"{recovered['n_recovered']} of {recovered['n_detectable']} detectable sources recovered"
    if recovered["n_recovered"]:
        words += f", median flux ratio {recovered['median_flux_ratio']:.3f}"
        words += f", median offset {recovered['median_offset_arcsec']:.1f} arcsec"
    return Text(f"{words}; {recovered['n_spurious']} found beside those injected", style="bold")


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, title in enumerate(titles):
        numeric = number > 0 and title != "where"
        table.add_column(title, justify="right" if numeric else "left", overflow="fold")
    return table
