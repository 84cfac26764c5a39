"""File names and identifiers: the only place that knows how a subband file, a product or a run is called.

Raw files are called ``{YYYY-MM-DDTHH:MM:SS}_sb{00..15}.hdf5`` (UTC). All products of one observation carry the stamp
of its group, the earliest stamp among its subband files.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

SUBBAND_COUNT = 16
STAMP_FORMAT = "%Y-%m-%dT%H:%M:%S"
_SUBBAND_NAME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)_sb(\d\d)\.hdf5")


def parse_subband_name(name: str) -> tuple[datetime, int] | None:
    """Return time stamp (UTC) and subband number of a raw file's name; None if it is not one."""
    match = _SUBBAND_NAME.fullmatch(name)
    if match is None or int(match[2]) >= SUBBAND_COUNT:
        return None
    try:
        return datetime.strptime(match[1], STAMP_FORMAT).replace(tzinfo=UTC), int(match[2])
    except ValueError:  # digits in the right places that are no date
        return None


def subband_name(stamp: str, subband: int) -> str:
    """Return the name of a raw file."""
    return f"{stamp}_sb{subband:02d}.hdf5"


def run_id(ms_path: str) -> str:
    """Return the id of the pipeline run that belongs to a Measurement Set, by the rule of the existing clients.

    The file name loses its last extension; ``2025-11-30T01:02:03.ms`` gives ``job-2025-11-30-010203`` (text before the
    first T, then the text up to the second T without colons and cut at a dot); a name without T is taken whole.
    """
    stem = Path(ms_path).name.rsplit(".", 1)[0]
    if "T" not in stem:
        return f"job-{stem}"
    date, time = stem.split("T")[:2]
    return f"job-{date}-{time.replace(':', '').split('.')[0]}"


@dataclass(frozen=True, slots=True)
class Products:
    """Final paths of everything that is made of one observation.

    Parameters
    ----------
    root : Path
        Directory of all data products; each kind has a directory below it.
    stamp : str
        Stamp of the observation's group, ``YYYY-MM-DDTHH:MM:SS``.
    """

    root: Path
    stamp: str

    @property
    def measurement_set(self) -> Path:
        """Measurement Set as converted, with its flags."""
        return self.root / "ms" / f"{self.stamp}.ms"

    @property
    def calibrated_ms(self) -> Path:
        """Measurement Set with the calibration applied."""
        return self.root / "ms" / f"{self.stamp}_cal.ms"

    @property
    def bandpass_table(self) -> Path:
        """Bandpass solutions (one gain per antenna, channel and polarisation)."""
        return self.root / "caltables" / f"{self.stamp}_0~23.b"

    @property
    def gain_table(self) -> Path:
        """Gain solutions (one gain per antenna, integration and polarisation)."""
        return self.root / "caltables" / f"{self.stamp}_0~23.g"

    @property
    def image(self) -> Path:
        """Restored image, corrected for the primary beam."""
        return self.root / "images" / f"{self.stamp}.img-image-pb.fits"

    @property
    def flat_noise_image(self) -> Path:
        """Restored image before the primary-beam correction: its noise is the same everywhere."""
        return self.root / "images" / f"{self.stamp}.img-image.fits"

    @property
    def residual_image(self) -> Path:
        """What is left after deconvolution."""
        return self.root / "images" / f"{self.stamp}.img-residual.fits"

    @property
    def catalogue(self) -> Path:
        """Sources found in the image."""
        return self.root / "catalogues" / f"{self.stamp}_sources.csv"
