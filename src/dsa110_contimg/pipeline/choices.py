"""What can be chosen of each stage: names, types, defaults and bounds, nothing else.

The options of a stage are these and the paths of its files, which the pipeline chooses. This module needs nothing but
Python, so that whoever orders work refuses at once what a stage would refuse hours later.
"""

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from typing import Any

from dsa110_contimg.pipeline import calibrators
from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.image_limits import (
    MAX_CELL_ARCSEC,
    MAX_FIELD_DEG,
    MAX_MINOR_ITERATIONS,
    MAX_PIXELS,
    MIN_CELL_ARCSEC,
    MIN_PIXELS,
)


def _within(default: Any, low: float, high: float) -> Any:
    """Return a number that can be chosen, from ``low`` to ``high``; None, if that is the default, stays possible."""
    return field(default=default, metadata={"bounds": (low, high)})


def bounds(choice: "Field[Any]") -> tuple[float, float] | None:
    """Return the least and the largest value of a choice; None where it has none."""
    found: tuple[float, float] | None = choice.metadata.get("bounds")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What can be chosen of a stage.

    Raises
    ------
    ValueError
        A number is out of its bounds, or the choices contradict each other; the message gives the remedy.
    """

    def __post_init__(self) -> None:
        for problem in self.problems():
            raise ValueError(problem)

    def problems(self) -> Iterator[str]:
        """Tell what cannot be."""
        for choice in fields(self):
            value, limits = getattr(self, choice.name), bounds(choice)
            if limits is not None and value is not None and not limits[0] <= value <= limits[1]:
                yield f"{choice.name} is {value!r}; give a number from {limits[0]:.12g} to {limits[1]:.12g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertChoices(Choices):
    """How to convert.

    Parameters
    ----------
    chunk_bytes : int
        Bytes of visibilities, weights and flags that are held at once; one integration at least.
    """

    chunk_bytes: int = _within(320_000_000, 1, 4_000_000_000)  # an observation of the whole array has 3.4e9


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagChoices(Choices):
    """What to flag.

    Parameters
    ----------
    aoflagger : bool
        Whether to look for interference; without it only steps 1 to 3 are done.
    """

    aoflagger: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveChoices(Choices):
    """How to solve.

    Parameters
    ----------
    calibrator : str or None
        Name in the catalogue; None takes the one that appears brightest.
    min_apparent_jy : float
        Flux density that the calibrator must have through the beam.
    min_uv_lambda : float
        Shortest baseline that takes part; the longest of the array has 13,800 wavelengths at the top of the band.
    min_baselines : int
        Baselines that an antenna needs in a problem.
    min_snr : float
        Signal-to-noise ratio that a solution needs.
    """

    calibrator: str | None = None
    min_apparent_jy: float = _within(1.0, 0, 1000)
    min_uv_lambda: float = _within(1000.0, 0, 13_000)
    min_baselines: int = _within(4, 2, 100)
    min_snr: float = _within(3.0, 0, 1000)

    def problems(self) -> Iterator[str]:
        """Tell what cannot be, of the numbers and the calibrator."""
        yield from Choices.problems(self)  # super() does not know a class that was made anew for its slots
        if self.calibrator is not None:
            try:
                calibrators.find(self.calibrator)
            except BadInputError as error:
                yield str(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyChoices(Choices):
    """Nothing: the tables of the run are applied to its data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageChoices(Choices):
    """How to image.

    Parameters
    ----------
    n_pixels, cell_arcsec : size of the images written and of a pixel; None = chosen from the data. Whatever is written,
        the whole field is imaged and cleaned.
    robust : Briggs' parameter, -2 (uniform) to 2 (natural).
    max_minor_iterations : bound of CLEAN.
    """

    n_pixels: int | None = _within(None, MIN_PIXELS, MAX_PIXELS)
    cell_arcsec: float | None = _within(None, MIN_CELL_ARCSEC, MAX_CELL_ARCSEC)
    robust: float = _within(0.5, -2, 2)
    max_minor_iterations: int = _within(20_000, 1, MAX_MINOR_ITERATIONS)

    def problems(self) -> Iterator[str]:
        """Tell what cannot be, of the numbers and of the image that they make."""
        yield from Choices.problems(self)
        if self.n_pixels and self.n_pixels % 2:
            yield f"n_pixels is {self.n_pixels}; give an even number"
        side_deg = (self.n_pixels or 0) * (self.cell_arcsec or 0.0) / 3600
        if side_deg > MAX_FIELD_DEG:
            yield (
                f"n_pixels {self.n_pixels} of cell_arcsec {self.cell_arcsec} make an image of {side_deg:.1f} degrees a "
                f"side; at most {MAX_FIELD_DEG:g} can be imaged"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractChoices(Choices):
    """What counts as a source.

    Parameters
    ----------
    peak_sigma : threshold of a source's peak. At 6 an image of 200 000 beams has 2e-4 false sources of Gaussian noise.
    island_sigma : threshold of the pixels that belong to it.
    """

    peak_sigma: float = _within(6.0, 3, 1000)
    island_sigma: float = _within(4.0, 1, 1000)

    def problems(self) -> Iterator[str]:
        """Tell what cannot be, of each threshold and of the two together."""
        yield from Choices.problems(self)
        if self.island_sigma > self.peak_sigma:
            yield f"island_sigma is {self.island_sigma}; give at most peak_sigma, which is {self.peak_sigma}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssessChoices(Choices):
    """Nothing: all images are judged by the same limits, and whoever tells of a grade later knows no others."""
