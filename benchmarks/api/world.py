"""What lies in the databases of this benchmark: the same observations, sources and measurements in each.

Images come one every 309 s, each with its Measurement Set and run. Sources are measured in turn; one, ``CROWDED``, has
a long light curve of its own. Everything follows from the numbers of rows and is the same each time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FIRST_UNIX_S = 1_700_000_000.0
EVERY_S = 309.0
ERROR_JY = 0.001
_MJD_OF_UNIX_ZERO = 40587.0
_CURVED_EVERY = 50
_CALIBRATED_EVERY = 100


@dataclass(frozen=True, slots=True)
class World:
    """How much there is.

    Attributes
    ----------
    images, sources, measurements : int
        Rows; ``measurements`` are spread evenly over ``sources``.
    crowded : int
        Measurements of the one source with a long light curve, in addition.
    curve : int
        If not 0, every 50th source has so many measurements, and the others share the rest evenly.
    """

    images: int
    sources: int
    measurements: int
    crowded: int = 10_000
    curve: int = 0

    def ms_path(self, image: int) -> str:
        """Return the path of the Measurement Set of an image (counted from 0)."""
        return f"/data/ms/{image:07d}.ms"

    def image_path(self, image: int) -> str:
        """Return the path of an image."""
        return f"/data/images/{image:07d}.fits"

    def run_id(self, image: int) -> str:
        """Return the id of the run that made an image."""
        return f"job-{image:07d}"

    def cal_tables(self) -> Iterator[tuple[str, int]]:
        """Give path and image of each calibration table: it was solved from the Measurement Set of that image."""
        return ((f"/data/cal/{i:07d}.bcal", i) for i in range(0, self.images, _CALIBRATED_EVERY))

    def unix_s(self, image: int) -> float:
        """Return when an image was made."""
        return FIRST_UNIX_S + EVERY_S * image

    def mjd(self, image: int) -> float:
        """Return when an image was observed."""
        return self.unix_s(image) / 86400.0 + _MJD_OF_UNIX_ZERO

    def source_id(self, source: int) -> str:
        """Return the name of a source; number ``sources`` is the crowded one."""
        return f"S{source:07d}"

    def curved(self) -> range:
        """Return the numbers of the sources with ``curve`` measurements."""
        return range(0, self.sources if self.curve else 0, _CURVED_EVERY)

    def points(self, source: int) -> int:
        """Return how many measurements a source has."""
        if source == self.sources:
            return min(self.crowded, self.images)
        if source in self.curved():
            return min(self.curve, self.images)
        rest = self.measurements - self.curve * len(self.curved())
        return min(rest // (self.sources - len(self.curved())), self.images)

    @property
    def crowded_id(self) -> str:
        """Name of the source with the long light curve."""
        return self.source_id(self.sources)

    def positions(self) -> list[tuple[str, float, float]]:
        """Return name, right ascension and declination (deg) of every source."""
        rng = np.random.default_rng(110)
        ra_deg = rng.uniform(0.0, 360.0, self.sources + 1).round(6)
        dec_deg = rng.uniform(-10.0, 70.0, self.sources + 1).round(6)
        return [
            (self.source_id(i), float(ra), float(dec)) for i, (ra, dec) in enumerate(zip(ra_deg, dec_deg, strict=True))
        ]

    def fluxes(self) -> Iterator[tuple[int, int, list[float]]]:
        """Give the measurements of each source: its number, that of its first image, the flux density (Jy) in each.

        A source is in consecutive images, in each once. The error of all is ``ERROR_JY``.
        """
        rng = np.random.default_rng(7)
        for source in range(self.sources + 1):
            n = self.points(source)
            first = source % max(1, self.images - n + 1)
            yield source, first, (0.01 + ERROR_JY * rng.standard_normal(n)).tolist()
