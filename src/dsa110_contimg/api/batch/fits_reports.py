"""What a FITS image says of itself: header, statistics, and a piece of its pixels.

``python -m dsa110_contimg.api.batch.fits_reports --fd 5 --ask '{"report": "header"}'`` writes JSON on standard output.
The header reads no pixel. Numbers have the units that their names end in; frequencies come from the spectral
axis by FITS paper III (Greisen et al. 2006, A&A 446, 747), the beam from BMAJ, BMIN, BPA (deg), or, where these are
missing, from the HISTORY line of AIPS.
"""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import orjson
from astropy import units
from astropy.io import fits

from dsa110_contimg.api.batch.fits_file import (
    UNUSABLE,
    Box,
    FitsError,
    FitsHeader,
    FitsImage,
    beam_axes_deg,
    broken_cards,
    known,
    known_number,
    number,
    open_image,
)
from dsa110_contimg.pipeline.confinement import answer_confined

_LIGHT_M_S = 299_792_458.0
_PLANCK_J_S = 6.62607015e-34
#: Frequency (Hz) of a spectral coordinate in the unit of the standard, and of that at rest (Hz); paper III, table 1.
_FREQUENCY: dict[str, Callable[[float, Any], float]] = {
    "FREQ": lambda hertz, _: hertz,
    "ENER": lambda joule, _: joule / _PLANCK_J_S,
    "WAVN": lambda per_metre, _: per_metre * _LIGHT_M_S,
    "WAVE": lambda metre, _: _LIGHT_M_S / metre,
    "VRAD": lambda speed, rest_hz: rest_hz * (1 - speed / _LIGHT_M_S),
    "VOPT": lambda speed, rest_hz: rest_hz / (1 + speed / _LIGHT_M_S),
    "ZOPT": lambda redshift, rest_hz: rest_hz / (1 + redshift),
    "VELO": lambda speed, rest_hz: rest_hz * math.sqrt((_LIGHT_M_S - speed) / (_LIGHT_M_S + speed)),
    "BETA": lambda beta, rest_hz: rest_hz * math.sqrt((1 - beta) / (1 + beta)),
}
_SAMPLE_PIXELS = 1 << 22
COMMENTARY = ("", "COMMENT", "HISTORY", "END")
_LONG_NUMBER = re.compile(r"\d{3}")
_AIPS_BEAM = re.compile(r"BMAJ=\s*(\S+)\s+BMIN=\s*(\S+)\s+BPA=\s*(\S+)")
_STOKES = {1: "I", 2: "Q", 3: "U", 4: "V", -1: "RR", -2: "LL", -3: "RL", -4: "LR", -5: "XX", -6: "YY"}

Report = dict[str, Any]


class _Meaning:
    """What cards mean, as far as it can be told.

    Attributes
    ----------
    problems : list of str
        Why something cannot be told, and which cards hold no value.
    """

    def __init__(self, header: FitsHeader) -> None:
        self._header = header
        self.problems = broken_cards(header)

    def of(self, find: Callable[[], Any], unknown: Any = None) -> Any:
        """Return what is found, ``unknown`` where a card is in the way."""
        try:
            return find()
        except FitsError as error:
            if str(error) not in self.problems:
                self.problems.append(str(error))
            return unknown

    def card(self, name: str) -> Any:
        """Return the value of a card as JSON can have it; None without one."""
        return self.of(lambda: _plain(self._header.get(name)))

    def text(self, name: str) -> str | None:
        """Return the text of a card; None when it has none."""
        return text_of(self.card(name))


def header_report(image: FitsImage) -> Report:
    """Return the header: every card, and what it means; ``problems`` says why something cannot be told."""
    header = image.header
    meaning = _Meaning(header)
    return {
        "axes": [_axis(meaning, header, number, length) for number, length in enumerate(image.shape[::-1], start=1)],
        "n_planes": image.n_planes,
        "unit": meaning.text("BUNIT"),
        "beam": beam_report(header),
        "frequency_hz": meaning.of(lambda: frequency_hz(header)),
        "rest_frequency_hz": rest_frequency_hz(header),
        "stokes": meaning.of(lambda: stokes(image), []),
        "object": meaning.text("OBJECT"),
        "telescope": meaning.text("TELESCOP"),
        "observed_at": meaning.text("DATE-OBS"),
        "cards": {name: meaning.card(name) for name in header if name not in COMMENTARY},
        "history": [str(line) for line in header.get("HISTORY", [])][:1000],
        "problems": meaning.problems,
    }


def _axis(meaning: _Meaning, header: FitsHeader, number: int, length: int) -> Report:
    step = f"CDELT{number}" if f"CDELT{number}" in header else f"CD{number}_{number}"
    return {
        "type": meaning.text(f"CTYPE{number}"),
        "unit": meaning.text(f"CUNIT{number}"),
        "length": length,
        "reference_pixel": known(header, f"CRPIX{number}", 0.0),
        "reference_value": known(header, f"CRVAL{number}", 0.0),
        "step": known(header, step, 1.0),
    }


def rest_frequency_hz(header: FitsHeader) -> float | None:
    """Return the frequency of the line at rest; None without one."""
    return known(header, "RESTFRQ" if "RESTFRQ" in header else "RESTFREQ")


def beam_report(header: Any) -> Report | None:
    """Return the synthesised beam (FWHM, arcsec; position angle, deg); None without one."""
    beam = beam_axes_deg(header)
    if beam is None:
        lines = [found for line in header.get("HISTORY", []) if (found := _AIPS_BEAM.search(str(line)))]
        written = [_number_of(text) for text in lines[-1].groups()] if lines else []
        beam = beam_axes_deg(dict(zip(("BMAJ", "BMIN", "BPA"), written, strict=False)))
    return None if beam is None else {"major_arcsec": beam[0] * 3600, "minor_arcsec": beam[1] * 3600, "pa_deg": beam[2]}


def frequency_hz(header: Any) -> float | None:
    """Return the frequency of the middle of the spectral axis; without such an axis that of RESTFRQ; else None.

    Raises
    ------
    FitsError
        Something else than a number tells where the axis lies.
    """
    rest_hz = rest_frequency_hz(header)
    for axis in range(1, int(header["NAXIS"]) + 1):
        kind = str(header.get(f"CTYPE{axis}", "")).upper()[:4].rstrip("-")
        if kind in _FREQUENCY:
            value = _middle(header, axis)
            try:
                return known_number(_FREQUENCY[kind](value, rest_hz))
            except (TypeError, ValueError, ZeroDivisionError):  # no rest frequency, or beyond the speed of light
                return None
    return rest_hz


def _middle(header: Any, axis: int) -> float:
    """Return the value of an axis at its middle, in the unit of the standard (Hz, m/s, m)."""
    step = number(header, f"CDELT{axis}", number(header, f"CD{axis}_{axis}", 1.0))
    from_reference = (number(header, f"NAXIS{axis}", 1.0) + 1) / 2 - number(header, f"CRPIX{axis}", 0.0)
    unit = unit_of(str(header.get(f"CUNIT{axis}", "")).strip())
    factor = 1.0 if unit is None else float(unit.si.scale)
    return (number(header, f"CRVAL{axis}", 0.0) + step * from_reference) * factor


def unit_of(text: str) -> Any:
    """Return the unit that a text names, by the standard; None when it names none."""
    if _LONG_NUMBER.search(text):  # 10**(99999999) would be worked out
        return None
    try:
        return units.Unit(text, format="fits")
    except ValueError:
        return None


def stokes(image: FitsImage) -> list[str]:
    """Return the Stokes parameters of the axis of that name, by the standard's numbers; empty without one.

    Raises
    ------
    FitsError
        Something else than a number tells where the axis lies.
    """
    header = image.header
    for axis, length in enumerate(reversed(image.shape), start=1):
        if str(header.get(f"CTYPE{axis}", "")).strip().upper() == "STOKES" and length <= len(_STOKES):
            step = number(header, f"CDELT{axis}", 1.0)
            first = number(header, f"CRVAL{axis}", 1.0) - (number(header, f"CRPIX{axis}", 1.0) - 1) * step
            values = [first + index * step for index in range(length)]
            return [_STOKES.get(round(value), "?") if np.isfinite(value) else "?" for value in values]
    return []


def statistics_report(image: FitsImage, plane: int) -> Report:
    """Return the statistics of one plane, read band by band.

    ``median`` and ``noise`` (1.4826 times the median absolute deviation) are of every n-th pixel where the plane has
    more than `_SAMPLE_PIXELS`; ``sampled_every`` tells n.
    """
    stride = max(1, image.shape[-1] * image.shape[-2] // _SAMPLE_PIXELS)
    n_valid, total, squares, low, high = 0, 0.0, 0.0, np.inf, -np.inf
    sample = []
    for band in image.bands(plane):
        values = band[np.isfinite(band)].astype(np.float64)
        if values.size:
            n_valid += values.size
            total, squares = total + values.sum(), squares + (values**2).sum()
            low, high = min(low, values.min()), max(high, values.max())
            sample.append(values[::stride].copy())  # a view would keep the whole band in memory
    if not n_valid:
        raise FitsError(f"plane {plane} holds no value at all")
    picked = np.concatenate(sample)
    median, mean = float(np.median(picked)), total / n_valid
    return {
        "plane": plane, "n_pixels": image.shape[-1] * image.shape[-2], "n_valid": n_valid,
        "unit": text_of(image.header.get("BUNIT")), "min": known_number(low), "max": known_number(high),
        "mean": known_number(mean), "std": known_number(np.sqrt(max(0.0, squares / n_valid - mean**2))),
        "rms": known_number(np.sqrt(squares / n_valid)),
        "median": median, "noise": 1.4826 * float(np.median(np.abs(picked - median))), "sampled_every": stride,
    }  # fmt: skip


def slice_report(image: FitsImage, plane: int, x: int, y: int, width: int, height: int) -> Report:
    """Return the values of a rectangle of a plane, from column ``x`` and row ``y`` (counted from 0, south-west).

    Raises
    ------
    FitsError
        It does not lie within the image.
    """
    rows, columns = image.shape[-2:]
    if x + width > columns or y + height > rows:
        raise FitsError(
            f"columns {x} to {x + width - 1}, rows {y} to {y + height - 1} do not all lie within {columns} x {rows}"
        )
    values = image.window(plane, Box(x, y, x + width, y + height))
    told = [[known_number(value) for value in row] for row in values.tolist()]
    return {"plane": plane, "x": x, "y": y, "unit": text_of(image.header.get("BUNIT")), "values": told}


def _plain(value: Any) -> Any:
    if isinstance(value, fits.card.Undefined):
        return None
    is_plain = isinstance(value, bool | str) or (isinstance(value, int) and abs(value) < 1 << 63)
    return value if is_plain else known_number(value)


def text_of(value: Any) -> str | None:
    """Return the text of a card; None when it has none."""
    return value.strip() or None if isinstance(value, str) else None


def _number_of(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def report(file: BinaryIO, asked: Report) -> Report:
    """Return the report that is asked for by ``report`` and what belongs to it.

    Raises
    ------
    FitsError
        The file cannot be used for it.
    """
    image = open_image(file)
    given = {name: value for name, value in asked.items() if name != "report"}
    match asked["report"]:
        case "statistics":
            return statistics_report(image, **given)
        case "slice":
            return slice_report(image, **given)
        case _:
            return header_report(image)


def serve(prog: str, answer: Callable[[BinaryIO, Report], Report]) -> int:
    """Report on the file behind a descriptor; without one the exit code is 2 and standard error has the reason."""
    parser = argparse.ArgumentParser(prog=f"python -m {prog}")
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the FITS file")
    parser.add_argument("--ask", type=orjson.loads, default={}, help="which report, as JSON")
    options = parser.parse_args()

    def make() -> bytes:
        return orjson.dumps(answer(os.fdopen(options.fd, "rb"), options.ask), option=orjson.OPT_NON_STR_KEYS)

    return answer_confined(make, UNUSABLE)


if __name__ == "__main__":
    sys.exit(serve("dsa110_contimg.api.batch.fits_reports", report))
