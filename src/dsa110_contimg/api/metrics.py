"""Everything that Prometheus is told: products, requests, this process.

What the pipeline made is counted in the database by triggers, how much there is too; so the figures are right whichever
process wrote and however often processes began anew. Requests come from the :mod:`.tally` of all API processes.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from dsa110_contimg import __version__
from dsa110_contimg.api.exceptions import DatabaseError
from dsa110_contimg.api.kept import Kept
from dsa110_contimg.api.operation_records import EventCount, FigureRepositoryProtocol, ProductFigures
from dsa110_contimg.api.tally import Tally

log = logging.getLogger(__name__)

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
_LIFE_S = 1.0
_DATABASE_PATIENCE_S = 2.0

_STAGES = ("converted", "flagged", "calibrated", "imaged", "cataloged")
_FAILING_STAGES = (*_STAGES, "solved", "validated", "reimaged", "unknown")
#: Counter: its meaning, its labels, the values that are told even before anything happened: of a series that begins
#: with what happened first Prometheus sees no increase, and no alert tells of it.
COUNTERS: Mapping[str, tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]] = {
    "ms_processed": (
        "Stages that Measurement Sets reached, and runs that failed at a stage.", ("status", "stage"),
        (*(("success", stage) for stage in _STAGES), *(("failed", stage) for stage in _FAILING_STAGES)),
    ),
    "images_created": ("Images that were made.", ("type",), (("image",),)),
    "photometry_records": (
        "Measurements of sources, by what the source is known as.", ("source_type",),
        (("known",), ("transient",), ("calibrator",)),
    ),
    "calibrations": (
        "Calibration tables that were solved, and solutions that failed.", ("status", "type"),
        tuple((status, kind) for status in ("success", "failed") for kind in ("bandpass", "gain", "selfcal")),
    ),
    "sources_detected": (
        "Detections of sources in images.", ("classification",), (("point",), ("extended",), ("transient",)),
    ),
}  # fmt: skip
#: Histogram: its meaning, its upper bounds (those of the triggers in migrations/events.py).
HISTOGRAMS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "image_noise_jy": ("Noise of images (rms), Jy/beam.", (1e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3)),
    "image_dynamic_range": (
        "Brightest pixel over noise of images.", (10.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4)
    ),
    "calibration_snr": (
        "Median signal to noise of the solutions of calibration tables.",
        (5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3),
    ),
}  # fmt: skip


def _counters(events: Iterable[EventCount]) -> Iterator[Metric]:
    happened: dict[str, dict[tuple[str, ...], int]] = {name: {} for name in COUNTERS}
    for event in events:
        if event.name in happened:
            labels = (event.label, event.second_label)[: len(COUNTERS[event.name][1])]
            happened[event.name][labels] = event.n
    for name, (meaning, labels, expected) in COUNTERS.items():
        family = CounterMetricFamily(f"dsa110_{name}", meaning, labels=labels)
        for values, number in (dict.fromkeys(expected, 0) | happened[name]).items():
            family.add_metric(values, number)
        yield family


def _histograms(events: Iterable[EventCount]) -> Iterator[Metric]:
    observed: dict[str, dict[str, EventCount]] = {name: {} for name in HISTOGRAMS}
    for event in events:
        if event.name in observed:
            observed[event.name][event.label] = event
    for name, (meaning, bounds) in HISTOGRAMS.items():
        found, running, buckets = observed[name], 0, []
        for bound in (*map(repr, bounds), "+Inf"):
            running += found[bound].n if bound in found else 0
            buckets.append((bound, running))
        family = HistogramMetricFamily(f"dsa110_{name}", meaning)
        family.add_metric([], buckets, sum(event.total for event in found.values()))
        yield family


def _gauges(counts: Mapping[str, Mapping[str, int]]) -> Iterator[Metric]:
    def single(name: str, meaning: str, number: int) -> Metric:
        return GaugeMetricFamily(f"dsa110_{name}", meaning, value=number)

    for name, table, label, meaning in (
        ("ms_count", "ms_index", "stage", "Measurement Sets by stage."),
        ("images_count", "images", "type", "Images by type."),
    ):
        family = GaugeMetricFamily(f"dsa110_{name}", meaning, labels=[label])
        for bucket, number in counts.get(table, {}).items():
            family.add_metric([bucket or "unknown"], number)
        yield family
    yield single("sources_count", "Sources.", sum(counts.get("sources", {}).values()))
    yield single("photometry_count", "Measurements of sources.", sum(counts.get("photometry", {}).values()))
    for status in ("pending", "running"):
        yield single(f"{status}_jobs", f"Runs that are {status}.", counts.get("jobs", {}).get(status, 0))


class _Snapshot:
    """Gives one moment's families to a registry of ``prometheus_client``."""

    def __init__(self, figures: ProductFigures | None, requests: Iterable[Metric], environment: str) -> None:
        self._figures = figures
        self._requests = requests
        self._environment = environment

    def collect(self) -> Iterator[Metric]:
        """Give the metric families; those of the products are missing while the database does not answer."""
        info = {"version": __version__, "environment": self._environment}
        yield InfoMetricFamily("dsa110_pipeline", "This software.", value=info)
        known = float(self._figures is not None)
        yield GaugeMetricFamily("dsa110_database_available", "1 when the products database answers.", value=known)
        if self._figures is not None:
            yield from _counters(self._figures.events)
            yield from _histograms(self._figures.events)
            yield from _gauges(self._figures.counts)
        yield from self._requests


class MetricsExporter:
    """Makes the text that ``/metrics`` answers with, at most once a second.

    Parameters
    ----------
    figures
        Reads what triggers counted.
    tally : Tally
        The requests of all API processes of this machine.
    environment : str
        What this installation is for.
    """

    def __init__(self, figures: FigureRepositoryProtocol, tally: Tally, environment: str) -> None:
        self._figures = figures
        self._tally = tally
        self._environment = environment
        self._kept = Kept(self._make, _LIFE_S)

    async def exposition(self) -> bytes:
        """Return all metrics as text of version 0.0.4."""
        return await self._kept.get()

    async def _make(self) -> bytes:
        figures: ProductFigures | None = None
        try:
            async with asyncio.timeout(_DATABASE_PATIENCE_S):
                figures = await self._figures.get_figures()
        except (DatabaseError, TimeoutError) as error:
            log.warning("the figures of the products are not exported: %s", str(error) or "no answer in time")
        return await asyncio.to_thread(self._written, figures)

    def _written(self, figures: ProductFigures | None) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        for own in (ProcessCollector, PlatformCollector, GCCollector):
            own(registry=registry)
        registry.register(_Snapshot(figures, self._tally.families(), self._environment))
        return generate_latest(registry)
