"""The imaging stage on small Measurement Sets of known truth."""

from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dsa110_contimg.pipeline import beam, calibrators
from dsa110_contimg.pipeline.array import sample_noise_jy, subband_frequencies_hz
from dsa110_contimg.pipeline.errors import BadInputError, DataQualityError
from dsa110_contimg.pipeline.fitsimage import read_image
from dsa110_contimg.pipeline.image_limits import MAX_PIXELS, MIN_CELL_ARCSEC
from dsa110_contimg.pipeline.imaging import FIELD_RESPONSE, ImageOptions, MadeImage, image
from dsa110_contimg.pipeline.naming import SUBBAND_COUNT
from dsa110_contimg.pipeline.visibilities import opened
from fixtures import writers


def options(ms_path: str, directory: Path, **changes: object) -> ImageOptions:
    """Return options for a small image."""
    given = ImageOptions(
        ms_path, *(str(directory / name) for name in ("pb.fits", "flat.fits", "residual.fits")),
        n_pixels=512, cell_arcsec=16.0,
    )  # fmt: skip
    return replace(given, **changes)


@pytest.fixture(scope="module")
def ms_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixteen antennas with perfect gains and thermal noise that see a calibrator, in 14 of 16 subbands."""
    directory = tmp_path_factory.mktemp("observation")
    simulation = writers.write_ideal_observation(directory, n_antennas=16, noise=True, missing_subbands=(3, 11))
    return writers.convert_observation(simulation, directory / "observation.ms").ms_path


@pytest.fixture(scope="module")
def fractions() -> list[float]:
    """The progress that was told while the image was made."""
    return []


@pytest.fixture(scope="module")
def made(ms_path: str, tmp_path_factory: pytest.TempPathFactory, fractions: list[float]) -> MadeImage:
    """Its image."""
    return image(options(ms_path, tmp_path_factory.mktemp("images")), lambda fraction, _: fractions.append(fraction))


def test_the_calibrator_has_its_flux_density_at_its_place(made: MadeImage) -> None:
    """The noise is 1e-4 of the calibrator: pixels, and the mean frequency with two subbands missing, count more."""
    calibrator = calibrators.find("3C48")
    corrected = read_image(Path(made.image_path))
    y, x = np.unravel_index(np.nanargmax(corrected.pixels), corrected.pixels.shape)
    ra_deg, dec_deg = corrected.wcs.pixel_to_world_values(x, y)
    assert abs(dec_deg - calibrator.dec_deg) * 3600 <= 8.1
    assert abs(ra_deg - calibrator.ra_deg) * np.cos(np.radians(dec_deg)) * 3600 <= 8.1
    assert corrected.pixels[y, x] == pytest.approx(float(calibrator.flux_jy(1.405e9)), rel=0.02)


def test_the_residual_is_thermal_and_the_expectation_that_of_the_radiometer(made: MadeImage) -> None:
    """660 beams: the rms is right to 4 %. Robust weights cost 0 to 40 % of the sensitivity with so few antennas."""
    assert made.noise_jy == pytest.approx(made.thermal_noise_jy, rel=0.15)
    natural_jy = sample_noise_jy() / sqrt(made.n_visibilities)
    assert natural_jy < made.thermal_noise_jy < 1.4 * natural_jy


def test_numbers_and_header_say_the_same(made: MadeImage) -> None:
    header = fits.getheader(made.image_path)
    assert (header["NAXIS1"], header["NAXIS2"], header["NAXIS3"], header["NAXIS4"]) == (512, 512, 1, 1)
    assert header["BMAJ"] * 3600 == pytest.approx(made.beam_major_arcsec)
    assert header["MJD-AVG"] == pytest.approx(made.mid_mjd)
    assert (header["NOISE"], header["THERMAL"]) == pytest.approx((made.noise_jy, made.thermal_noise_jy))
    assert (header["WEIGHT"], header["ROBUST"], header["NTILES"], header["NCHAN"]) == ("briggs", 0.5, 1, 14 * 48)
    assert header["CRVAL3"] == pytest.approx(made.freq_ghz * 1e9)
    assert made.dynamic_range == pytest.approx(made.peak_flux_jy / made.noise_jy)
    assert made.converged


def test_missing_subbands_are_said(made: MadeImage) -> None:
    assert made.missing_subbands == (3, 11)
    assert fits.getheader(made.image_path)["MISSBAND"] == "3,11"


def test_the_corrected_image_is_blank_outside_the_beam_and_the_others_are_not(ms_path: str, tmp_path: Path) -> None:
    wide = image(options(ms_path, tmp_path, n_pixels=1200, cell_arcsec=16.0))
    corrected, flat = read_image(Path(wide.image_path)).pixels, read_image(Path(wide.flat_noise_path)).pixels
    assert np.isnan(corrected[0, 0])
    assert np.isfinite(flat).all()
    inside = np.isfinite(corrected)
    assert 0.1 <= np.abs(flat[inside] / corrected[inside]).min() < 0.105


def test_an_image_chooses_size_and_pixels_by_itself(ms_path: str, tmp_path: Path) -> None:
    chosen = image(options(ms_path, tmp_path, n_pixels=None, cell_arcsec=None, robust=2.0))
    assert 3.5 <= chosen.beam_minor_arcsec / chosen.cellsize_arcsec < 5  # 4 of a preview of the beam
    assert 4.6 <= chosen.imsize_x * chosen.cellsize_arcsec / 3600 <= 5.2


def test_a_smaller_image_is_the_middle_of_the_field_and_takes_the_place_of_what_was_there(
    ms_path: str, made: MadeImage, tmp_path: Path
) -> None:
    (tmp_path / "flat.fits").write_text("what a killed stage left")
    small = image(options(ms_path, tmp_path, n_pixels=128))
    middle = slice(256 - 64, 256 + 64)
    # sums are made in threads: equal to the rounding of single precision at the peak, 16 Jy x 6e-8 x some 10
    np.testing.assert_allclose(
        read_image(Path(small.flat_noise_path)).pixels,
        read_image(Path(made.flat_noise_path)).pixels[middle, middle],
        atol=1e-4,
    )
    assert (small.imsize_x, fits.getheader(small.image_path)["CRPIX1"]) == (128, 65)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["flat.fits", "pb.fits", "residual.fits"]


def test_progress_never_goes_back(made: MadeImage, fractions: list[float]) -> None:
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert 0.9 <= fractions[-1] <= 1.0


def test_the_smallest_pixels_that_can_be_chosen_image_the_field_at_the_lowest_frequency() -> None:
    lowest_hz = min(float(subband_frequencies_hz(number).mean()) for number in range(SUBBAND_COUNT))
    angles = np.linspace(0, 0.1, 10_000)
    radius_rad = angles[np.argmax(beam.power(angles, lowest_hz) < FIELD_RESPONSE)]
    assert 0.8 * MAX_PIXELS < 2 * np.degrees(radius_rad) * 3600 / MIN_CELL_ARCSEC <= MAX_PIXELS


def test_a_measurement_set_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"absent\.ms does not exist"):
        image(options(str(tmp_path / "absent.ms"), tmp_path))


def test_a_measurement_set_without_a_good_sample_is_refused_by_name(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(tmp_path, n_times=1, missing_subbands=writers.ALL_BUT_FOUR)
    path = writers.convert_observation(simulation, tmp_path / "flagged.ms").ms_path
    with opened(path, readonly=False) as rows:
        rows.putcol("FLAG", np.ones_like(rows.getcol("FLAG")))
    with pytest.raises(DataQualityError, match=r"flagged\.ms: all visibilities are flagged"):
        image(options(path, tmp_path))
