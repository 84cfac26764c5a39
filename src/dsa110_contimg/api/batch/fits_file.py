"""Images in FITS files (FITS standard 4.0) as they lie on disk: the header first and alone, then what is asked for.

Every size that a header claims is compared with the size of the file before anything is read by it, and a header ends
within `MAX_HEADER_BLOCKS` or is none. Pixels are read in rows, so that memory does not grow with the file.
"""

import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from astropy.io import fits

Plane = npt.NDArray[np.float32]

BLOCK_BYTES = 2880
MAX_HEADER_BLOCKS = 64
BAND_BYTES = 32 << 20
_KINDS = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_END = b"END".ljust(80)

warnings.simplefilter("ignore")  # what is wrong with a header is judged here, not printed


class FitsError(Exception):
    """The file cannot be used as an image; the message says why."""


#: What a file raises that cannot be used: our own words first, then those of the libraries that read it.
UNUSABLE = (FitsError, fits.VerifyError, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError)


class FitsHeader(fits.Header):  # type: ignore[misc]  # the library has no types
    """A header that says in our words which card cannot be read, when somebody asks for its value and not before."""

    def __getitem__(self, key: Any) -> Any:
        try:
            return super().__getitem__(key)
        except (ValueError, fits.VerifyError) as error:
            raise FitsError(_unreadable(key[0] if isinstance(key, tuple) else key)) from error

    def unreadable(self) -> list[str]:
        """Return the keywords of the cards that hold no value of the standard."""
        return [card.keyword for card in self.cards if not _is_readable(card)]

    def readable(self) -> fits.Header:
        """Return the header without those cards."""
        return fits.Header([card for card in self.cards if _is_readable(card)])


def _unreadable(keyword: Any) -> str:
    return f"the card {keyword} holds no value of the standard (NaN is none); correct or remove it"


def _is_readable(card: Any) -> bool:
    try:
        _ = card.value
    except (ValueError, fits.VerifyError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class FitsImage:
    """An image whose header has been read and found to fit its file.

    Attributes
    ----------
    file : binary file
        Open for reading.
    header : FitsHeader
    shape : tuple of int
        Lengths of the axes, the slowest first; the last two are rows and columns.
    offset : int
        First byte of the pixels.
    """

    file: BinaryIO
    header: Any
    shape: tuple[int, ...]
    offset: int

    @property
    def n_planes(self) -> int:
        """Number of planes: the product of all axes but rows and columns."""
        return prod(self.shape[:-2])

    def bands(self, plane: int, band_rows: int | None = None) -> Iterator[Plane]:
        """Give the rows of a plane in order, in pieces of some 32 MB or of ``band_rows`` rows."""
        height, width = self.shape[-2:]
        step = band_rows or max(1, BAND_BYTES // (8 * width))
        for first in range(0, height, step):
            yield self.rows(plane, first, min(first + step, height))

    def rows(self, plane: int, first: int, last: int) -> Plane:
        """Return rows ``first`` to ``last - 1`` of a plane as float32 in the header's unit; NaN where is no value.

        Raises
        ------
        FitsError
            There is no such plane, or the file ends too early.
        """
        if not 0 <= plane < self.n_planes:
            raise FitsError(f"there is no plane {plane}; the image has planes 0 to {self.n_planes - 1}")
        height, width = self.shape[-2:]
        kind = np.dtype(_KINDS[self.header["BITPIX"]])
        self.file.seek(self.offset + (plane * height + first) * width * kind.itemsize)
        raw = self.file.read((last - first) * width * kind.itemsize)
        if len(raw) < (last - first) * width * kind.itemsize:
            raise FitsError(f"the file ends within row {first + len(raw) // (width * kind.itemsize)} of plane {plane}")
        return self._scaled(np.frombuffer(raw, kind).reshape(last - first, width))

    def _scaled(self, stored: Any) -> Plane:
        """Return stored numbers as physical ones: BSCALE * stored + BZERO, NaN for BLANK."""
        scale, zero = number(self.header, "BSCALE", 1.0), number(self.header, "BZERO", 0.0)
        values: Plane = (stored.astype(np.float64) * scale + zero if (scale, zero) != (1, 0) else stored).astype("f4")
        if stored.dtype.kind != "f" and "BLANK" in self.header:
            values[stored == self.header["BLANK"]] = np.nan
        return values

    def window(self, plane: int, box: "Box") -> Plane:
        """Return a rectangle of a plane, read band by band."""
        pieces = [
            self.rows(plane, first, min(first + 256, box.y1))[:, box.x0 : box.x1]
            for first in range(box.y0, box.y1, 256)
        ]
        return np.concatenate(pieces)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels: rows ``y0`` to ``y1 - 1``, columns ``x0`` to ``x1 - 1``, counted from 0."""

    x0: int
    y0: int
    x1: int
    y1: int


def broken_cards(header: FitsHeader) -> list[str]:
    """Tell of each card that holds no value of the standard."""
    return [_unreadable(keyword) for keyword in header.unreadable()]


def open_image(file: BinaryIO) -> FitsImage:
    """Read the header of the primary image, and of its cards those that tell its size.

    Raises
    ------
    FitsError
        The file is no FITS image of two to four axes, or smaller than its header claims; or one of these cards holds no
        value. Other cards are read when they are asked for.
    """
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    text = _header_bytes(file)
    try:
        header = FitsHeader.fromstring(text)
        shape = _shape(header)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, fits.VerifyError) as error:
        raise FitsError(f"the header cannot be read: {error}") from error
    needed = len(text) + prod(shape) * abs(header["BITPIX"]) // 8
    if needed > size_bytes:
        raise FitsError(f"the header claims {needed} bytes ({' x '.join(map(str, shape))}), the file has {size_bytes}")
    return FitsImage(file, header, shape, len(text))


def _header_bytes(file: BinaryIO) -> bytes:
    """Return the blocks of the header, up to the one with the END card."""
    blocks: list[bytes] = []
    while len(blocks) < MAX_HEADER_BLOCKS:
        block = file.read(BLOCK_BYTES)
        if not blocks and not block.startswith(b"SIMPLE  ="):
            raise FitsError("the file does not begin as FITS does; a compressed one must be unpacked first")
        if len(block) < BLOCK_BYTES:
            raise FitsError("the file ends within its header")
        blocks.append(block)
        if any(block[at : at + 80] == _END for at in range(0, BLOCK_BYTES, 80)):
            return b"".join(blocks)
    raise FitsError(f"the header does not end within {MAX_HEADER_BLOCKS} blocks of {BLOCK_BYTES} bytes")


def _shape(header: Any) -> tuple[int, ...]:
    if header["BITPIX"] not in _KINDS or isinstance(header["BITPIX"], bool):
        raise FitsError(f"BITPIX is {header['BITPIX']!r}; it must be one of {sorted(_KINDS)}")
    count = header["NAXIS"]
    if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= 4:
        raise FitsError(f"the primary unit has NAXIS {count!r}; an image has 2 to 4 axes")
    axes = [header[f"NAXIS{n}"] for n in range(count, 0, -1)]
    if any(isinstance(length, bool) or not isinstance(length, int) or length < 1 for length in axes):
        raise FitsError(f"the lengths of the axes are {axes}; they must be whole numbers above 0")
    return tuple(axes)


def beam_axes_deg(header: Any) -> tuple[float, float, float] | None:
    """Return major and minor axis (FWHM, deg) and position angle (deg, north through east); None without a beam."""
    major, minor, angle = (known(header, name) for name in ("BMAJ", "BMIN", "BPA"))
    if major is None or minor is None or min(major, minor) <= 0:
        return None
    return max(major, minor), min(major, minor), angle or 0.0


def known(header: Any, name: str, default: Any = None) -> float | None:
    """Return the number that a card holds, ``default`` without such a card, None where it holds something else."""
    try:
        return known_number(header.get(name, default))
    except FitsError:
        return None  # `broken_cards` tells of it


def known_number(value: Any) -> float | None:
    """Return the value of a card as a number; None when it is none, or not a finite one."""
    is_number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def number(header: Any, name: str, default: float) -> float:
    """Return the number that a card holds, ``default`` without such a card.

    Raises
    ------
    FitsError
        It holds something else, or there are several cards that do not agree: readers take one or the other.
    """
    values = [header[name, place] for place in range(header.count(name))] if name in header else [default]
    found = known_number(values[0])
    if found is None:
        raise FitsError(f"{name} is {values[0]!r}; it must be a number")
    if any(value != values[0] for value in values):
        raise FitsError(f"{name} is there {len(values)} times, with different values; only one can be meant")
    return found
