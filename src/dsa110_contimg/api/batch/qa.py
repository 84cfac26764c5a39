"""Measures quality on the products themselves: on calibration tables and on image files.

Files are opened beneath the data roots and read by limited child processes; here the numbers become the rows that
``/qa`` tells. A flagged fraction never counts antennas that are not there.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

import orjson

from dsa110_contimg.api.exceptions import FileNotAccessibleError, MSParsingError
from dsa110_contimg.api.file_access import FileStore, OpenDirectory
from dsa110_contimg.api.file_trees import list_tree
from dsa110_contimg.api.interfaces import (
    CalibrationTableRecord,
    ImageRecord,
)
from dsa110_contimg.api.quality_interfaces import CalibrationQARecord, ImageQARecord
from dsa110_contimg.api.services.fits_service import FitsService
from dsa110_contimg.api.services.limited_child import ChildRefusedError, LimitedChild
from dsa110_contimg.api.services.qa_service import n_sources
from dsa110_contimg.pipeline.quality import WORDS, dynamic_range_word, flagged_word

_TABLE_READER = "dsa110_contimg.pipeline.table_report"
#: Kinds of tables (registry) → the column that tells of them.
_METRICS = {"K": "k_metrics", "BP": "bp_metrics", "BA": "bp_metrics", "GP": "g_metrics", "GA": "g_metrics"}


def _first(recorded: float | None, measured: float | None) -> float | None:
    return measured if recorded is None else recorded


class QualityMeter:
    """Measures products.

    Parameters
    ----------
    files : FileStore
        Opens them.
    children : LimitedChild
        Read them.
    """

    def __init__(self, files: FileStore, children: LimitedChild) -> None:
        self._files = files
        self._children = children
        self._images = FitsService(children)

    async def of_image(self, image: ImageRecord) -> ImageQARecord:
        """Tell what an image is worth: by the numbers recorded with it, and by its file where there are none.

        The stages measured on the image as the interferometer saw it, whose noise is the same everywhere; the file is
        corrected for the primary beam, and its noise rises outwards.

        Raises
        ------
        FileNotAccessibleError
            It may not be read or is not there.
        FITSParsingError
            It cannot be understood.
        """
        file = await asyncio.to_thread(self._files.open, image.path)
        try:
            pixels, header = await self._images.statistics(file), await self._images.header(file)
        finally:
            file.close()
        beam = header["beam"] or {}
        noise, peak = _first(image.noise_jy, pixels["noise"]), _first(image.peak_flux_jy, pixels["max"])
        dynamic_range = _first(image.dynamic_range, peak / noise if noise and peak is not None else None)
        return ImageQARecord(
            ms_path=image.ms_path, image_path=image.path, rms_noise=noise, peak_flux=peak, dynamic_range=dynamic_range,
            beam_major=_first(image.beam_major_arcsec, beam.get("major_arcsec")),
            beam_minor=_first(image.beam_minor_arcsec, beam.get("minor_arcsec")),
            beam_pa=_first(image.beam_pa_deg, beam.get("pa_deg")), num_sources=n_sources(image.qa_metrics),
            overall_quality=dynamic_range_word(dynamic_range), timestamp=time.time(),
        )  # fmt: skip

    async def of_tables(self, ms_path: str, tables: Sequence[CalibrationTableRecord]) -> CalibrationQARecord:
        """Measure the tables that were solved from a Measurement Set, which tells which antennas are absent.

        Raises
        ------
        FileNotAccessibleError
            A table may not be read or is not there, or there is none.
        MSParsingError
            A table cannot be understood.
        """
        if not tables:
            raise FileNotAccessibleError(ms_path, "measure", "no calibration table was solved from it")
        told = [(table, await self._report(table.path, ms_path)) for table in tables]
        fractions = [one["flag_fraction"] for _, one in told if one["flag_fraction"] is not None]
        words = [flagged_word(one["flag_fraction"]) for _, one in told]
        known = [word for word in words if word in WORDS]
        metrics: dict[str, dict[str, Any]] = {"k_metrics": {}, "bp_metrics": {}, "g_metrics": {}}
        for table, one in told:  # in the order of application; phase and amplitude tables share a column
            column = metrics[_METRICS.get(table.table_type, "g_metrics")]
            if not column:
                column.update(one)
            else:
                column.setdefault("further", []).append({"table_type": table.table_type, **one})
        return CalibrationQARecord(
            ms_path=ms_path, timestamp=time.time(), flags_total=max(fractions, default=None),
            overall_quality=max(known, key=WORDS.index, default="unknown"), **metrics,
        )  # fmt: skip

    async def _report(self, path: str, ms_path: str) -> dict[str, Any]:
        with ExitStack() as opened:
            directory = await self._open(path, opened)
            words, fds = [f"--fd={directory.fd}"], [directory.fd]
            with suppress(FileNotAccessibleError):  # archived: the list of stations tells which antennas are absent
                visibilities = await self._open(ms_path, opened)
                words, fds = [*words, f"--ms-fd={visibilities.fd}"], [*fds, visibilities.fd]
            try:
                answer: dict[str, Any] = orjson.loads(await self._children.run(_TABLE_READER, *words, fds=fds))
            except ChildRefusedError as error:
                raise MSParsingError(f"{directory.name} cannot be measured: {error}") from error
            return answer

    async def _open(self, path: str, opened: ExitStack) -> OpenDirectory:
        directory = await asyncio.to_thread(self._files.open_directory, path)
        opened.callback(directory.close)
        await asyncio.to_thread(list_tree, directory)
        return directory
