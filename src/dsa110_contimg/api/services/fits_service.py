"""What FITS images say of themselves; every file is parsed in a limited child process."""

from typing import Any

import orjson

from dsa110_contimg.api.exceptions import FITSParsingError
from dsa110_contimg.api.file_access import OpenFile
from dsa110_contimg.api.services.limited_child import ChildRefusedError, LimitedChild

_REPORTER = "dsa110_contimg.api.batch.fits_reports"
_VALIDATOR = "dsa110_contimg.api.batch.fits_validation"


class FitsService:
    """Reports on FITS images.

    Every method may raise FITSParsingError (422): the file is no FITS image of two to four axes, claims more than it
    holds, or cannot be read within the limits.

    Parameters
    ----------
    child : LimitedChild
        Runs the parser.
    """

    def __init__(self, child: LimitedChild) -> None:
        self._child = child

    async def header(self, file: OpenFile) -> dict[str, Any]:
        """Return the header: axes, unit, beam, frequency, Stokes parameters and all cards; no pixel is read."""
        return await self._report(file, {"report": "header"})

    async def validation(self, file: OpenFile) -> dict[str, Any]:
        """Return whether the file keeps the standard, and what is wrong; no pixel is read."""
        return await self._report(file, {}, _VALIDATOR)

    async def statistics(self, file: OpenFile, plane: int = 0) -> dict[str, Any]:
        """Return extremes, mean, median and noise of a plane, in the image's unit."""
        return await self._report(file, {"report": "statistics", "plane": plane})

    async def slice(self, file: OpenFile, plane: int, x: int, y: int, width: int, height: int) -> dict[str, Any]:
        """Return the pixels of a rectangle, from column ``x`` and row ``y`` (counted from 0)."""
        return await self._report(
            file, {"report": "slice", "plane": plane, "x": x, "y": y, "width": width, "height": height}
        )

    async def _report(self, file: OpenFile, asked: dict[str, Any], module: str = _REPORTER) -> dict[str, Any]:
        try:
            told = await self._child.run(
                module, "--fd", str(file.fd), "--ask", orjson.dumps(asked).decode(), fds=[file.fd]
            )
        except ChildRefusedError as error:
            raise FITSParsingError(f"{file.name} does not tell this: {error}") from error
        report: dict[str, Any] = orjson.loads(told)
        return report
