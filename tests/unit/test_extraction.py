"""Finding sources in synthetic images of known truth."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg.pipeline import calibrators
from dsa110_contimg.pipeline.crossmatch import separation_deg
from dsa110_contimg.pipeline.errors import BadInputError, DataQualityError
from dsa110_contimg.pipeline.extraction import (
    FLAG_BEAM_EDGE,
    Catalogue,
    ExtractOptions,
    extract,
    iau_name,
    read_catalogue,
)
from dsa110_contimg.pipeline.fitsimage import ImageGeometry, celestial_wcs, write_image
from dsa110_contimg.pipeline.psf import Beam, add_points, convolve

SIZE, CELL_DEG = 400, 6.5 / 3600
CELL_RAD = np.radians(CELL_DEG)
BEAM = Beam(np.radians(60 / 3600), np.radians(32 / 3600), np.radians(70))
NOISE_JYB = 0.5e-3
GEOMETRY = ImageGeometry(SIZE, CELL_DEG, 0.02, 33.0, 1.405e9, 187.5e6, 61065.05, 309.24)
#: x, y in pixels, peak in the flat-noise image (Jy/beam): 60 000 down to 20 sigma, one in the blank part.
TRUE = [(200.3, 201.2, 30.0), (120.5, 90.0, 1.0), (310.0, 140.7, 0.1), (100.2, 300.4, 0.03), (250.0, 330.0, 0.01)]
OUTSIDE = (10.0, 10.0, 1.0)


def response() -> np.ndarray:
    """Return a made-up primary beam: a Gaussian, so wide that the corners lie below 0.1."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    return np.exp(-(x**2 + y**2) / (2 * 125.0**2)).astype(np.float32)


def noise(beam: Beam = BEAM) -> np.ndarray:
    """Return noise that is correlated as that of an interferometer is."""
    white = np.random.default_rng(5).normal(size=(SIZE, SIZE)).astype(np.float32)
    smooth = convolve(white, beam, CELL_RAD)
    return (NOISE_JYB / smooth.std() * smooth).astype(np.float32)


def options(directory: Path) -> ExtractOptions:
    """Return options with all files in one directory."""
    return ExtractOptions(*(str(directory / name) for name in ("pb.fits", "flat.fits", "sources.csv")))


def write_images(
    directory: Path, flat: np.ndarray, beam: Beam = BEAM, geometry: ImageGeometry = GEOMETRY
) -> ExtractOptions:
    """Write a flat-noise image and the corrected one that belongs to it."""
    cards = {
        "BMAJ": float(np.degrees(beam.major_rad)),
        "BMIN": float(np.degrees(beam.minor_rad)),
        "BPA": float(np.degrees(beam.pa_rad)),
    }
    power = response()
    write_image(directory / "flat.fits", flat, geometry, cards)
    write_image(directory / "pb.fits", np.where(power > 0.1, flat / power, np.nan).astype(np.float32), geometry, cards)
    return options(directory)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """The catalogue of a synthetic image."""
    directory = tmp_path_factory.mktemp("images")
    flat = noise()
    add_points(flat, *(np.array(column) for column in zip(*TRUE, OUTSIDE, strict=True)), BEAM, CELL_RAD)
    return extract(write_images(directory, flat))


def test_all_sources_are_found_with_flux_and_position_and_nothing_else(found: Catalogue) -> None:
    """Tolerances: 5 sigma of an elliptical Gaussian fit (Condon 1997), and 0.3 % for sampling."""
    assert found.n_sources == len(found.sources) == len(TRUE)
    beam, wcs = response(), celestial_wcs(GEOMETRY)
    for x, y, peak_jyb in TRUE:
        ra_deg, dec_deg = (float(value) for value in wcs.pixel_to_world_values(x, y))
        source = min(found.sources, key=lambda s: separation_deg(s.ra_deg, s.dec_deg, ra_deg, dec_deg))
        snr = peak_jyb / NOISE_JYB
        away_arcsec = 3600 * separation_deg(source.ra_deg, source.dec_deg, ra_deg, dec_deg)
        assert away_arcsec < 0.05 + 5 * 60 / snr / np.sqrt(8 * np.log(2))
        true_jy = peak_jyb / beam[round(y), round(x)]
        assert source.peak_jyb == pytest.approx(true_jy, rel=0.003 + 5 / snr)
        assert source.flux_jy == pytest.approx(true_jy, rel=0.005 + 8 / snr)
        assert source.snr == pytest.approx(snr, rel=0.1)
        assert source.local_rms == pytest.approx(NOISE_JYB / beam[round(y), round(x)], rel=0.15)
        assert source.response == pytest.approx(beam[round(y), round(x)], rel=0.01)  # changes so much in a pixel


@pytest.mark.slow
def test_no_source_is_lost_where_the_beam_is_long_and_narrow(tmp_path: Path) -> None:
    """All 49 sources of 14 sigma, whose islands are as narrow as four pixels: chance takes none above 6 sigma."""
    beam = Beam(np.radians(82 / 3600), np.radians(20 / 3600), np.radians(82))
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(80.3, 320.8, 7), np.linspace(80.6, 320.1, 7)))
    flat = noise(beam)
    add_points(flat, x, y, np.full(x.size, 14 * NOISE_JYB), beam, CELL_RAD)
    catalogue = extract(write_images(tmp_path, flat, beam))
    assert catalogue.n_sources == x.size
    assert catalogue.n_unfitted == 0


def test_errors_are_of_the_size_of_the_noise(found: Catalogue) -> None:
    for source in found.sources:
        assert 0.5 < source.peak_err_jyb / source.local_rms < 3
        assert 0.5 < source.flux_err_jy / source.local_rms < 4
        assert 0 < source.dec_err_deg * 3600 < 60 / source.snr


def test_the_brightest_comes_first_and_right_ascensions_stay_within_a_turn(found: Catalogue) -> None:
    fluxes = [source.flux_jy for source in found.sources]
    assert fluxes == sorted(fluxes, reverse=True)
    assert all(0 <= source.ra_deg < 360 for source in found.sources)
    assert any(source.ra_deg > 359 for source in found.sources)  # the field lies across right ascension 0


def test_sources_at_the_edge_of_the_beam_are_marked(found: Catalogue) -> None:
    marked = {bool(source.flags & FLAG_BEAM_EDGE) == (source.response < 0.2) for source in found.sources}
    assert marked == {True}


def test_the_file_holds_the_catalogue_and_nothing_lies_beside_the_images(found: Catalogue) -> None:
    path = Path(found.catalogue_path)
    assert read_catalogue(path) == list(found.sources)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["flat.fits", "pb.fits", "sources.csv"]
    with path.open() as stream:
        assert next(csv.reader(stream))[:3] == ["name", "ra_deg", "dec_deg"]


def test_a_calibrator_of_the_list_is_known_by_its_place(tmp_path: Path) -> None:
    known = calibrators.find("0137+331")
    geometry = replace(GEOMETRY, center_ra_deg=known.ra_deg, center_dec_deg=known.dec_deg)
    flat = noise()
    add_points(flat, np.array([200.0, 100.0]), np.array([200.0, 260.0]), np.array([1.0, 0.5]), BEAM, CELL_RAD)
    made = extract(write_images(tmp_path, flat, geometry=geometry))
    assert made.n_sources == 2
    assert made.calibrators == {made.sources[0].name: "0137+331"}


@pytest.mark.slow
def test_an_image_of_noise_has_an_empty_catalogue(tmp_path: Path) -> None:
    made = extract(write_images(tmp_path, noise()))
    assert (made.n_sources, read_catalogue(Path(made.catalogue_path))) == (0, [])


def test_a_blank_image_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataQualityError, match=r"flat\.fits is blank"):
        extract(write_images(tmp_path, np.zeros((SIZE, SIZE), np.float32)))


def test_images_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    given = write_images(tmp_path, noise())
    write_image(tmp_path / "pb.fits", np.zeros((64, 64), np.float32), GEOMETRY, {})
    with pytest.raises(BadInputError, match="two images of one observation"):
        extract(given)


def test_an_image_without_a_beam_is_refused(tmp_path: Path) -> None:
    given = write_images(tmp_path, noise())
    write_image(tmp_path / "flat.fits", noise(), GEOMETRY, {})
    with pytest.raises(BadInputError, match="has no BMAJ, BMIN, BPA"):
        extract(given)


@pytest.mark.parametrize(
    ("ra_deg", "dec_deg", "name"),
    [
        (202.784533, 30.509155, "J133108.2+303032"),  # 13:31:08.288 +30:30:32.96: cut off, not rounded
        (0.0, 0.0, "J000000.0+000000"),
        (359.99999, -0.5, "J235959.9-003000"),
        (15.0, -89.999, "J010000.0-895956"),
        (360.0, 54.57, "J000000.0+543412"),
    ],
)
def test_names_are_positions_cut_off(ra_deg: float, dec_deg: float, name: str) -> None:
    assert iau_name(ra_deg, dec_deg) == name
