"""Association on the sphere, at its seams too."""

from dataclasses import dataclass
from math import cos, radians

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.pipeline.crossmatch import nearest_within, separation_deg

RA = st.floats(0, 360, exclude_max=True)
DEC = st.floats(-90, 90)


@dataclass(frozen=True)
class Place:
    ra_deg: float
    dec_deg: float


places = st.builds(Place, RA, DEC)


def test_a_source_just_across_right_ascension_zero_is_near() -> None:
    west, east = Place(359.9999, 10.0), Place(0.0001, 10.0)
    assert nearest_within(east.ra_deg, east.dec_deg, [west], 0.001) is west


def test_at_the_pole_all_right_ascensions_are_near() -> None:
    assert separation_deg(0.0, 89.9999, 180.0, 89.9999) == pytest.approx(0.0002, rel=1e-6)
    assert nearest_within(123.0, 90.0, [Place(300.0, 89.9999)], 0.001) is not None


def test_the_distance_in_right_ascension_shrinks_with_the_cosine_of_the_declination() -> None:
    assert separation_deg(100.0, 60.0, 100.001, 60.0) == pytest.approx(0.001 * cos(radians(60)), rel=1e-6)


def test_opposite_directions_are_180_degrees_apart() -> None:
    assert separation_deg(10.0, 40.0, 190.0, -40.0) == pytest.approx(180.0)


def test_the_nearest_of_several_wins_and_of_equals_the_first() -> None:
    near, far = Place(10.0, 0.001), Place(10.0, 0.002)
    assert nearest_within(10.0, 0.0, [far, near], 0.01) is near
    twin = Place(10.0, -0.001)
    assert nearest_within(10.0, 0.0, [near, twin], 0.01) is near


def test_nothing_is_found_beyond_the_radius_or_without_candidates() -> None:
    assert nearest_within(10.0, 0.0, [Place(10.0, 0.0101)], 0.01) is None
    assert nearest_within(10.0, 0.0, [], 0.01) is None


@given(places, places)
def test_the_distance_is_symmetric_and_within_half_a_turn(one: Place, other: Place) -> None:
    there = separation_deg(one.ra_deg, one.dec_deg, other.ra_deg, other.dec_deg)
    back = separation_deg(other.ra_deg, other.dec_deg, one.ra_deg, one.dec_deg)
    assert there == pytest.approx(back, abs=1e-12)
    assert 0 <= there <= 180


@given(places, st.floats(-720, 720))
def test_whole_turns_of_right_ascension_change_nothing(place: Place, ra_deg: float) -> None:
    here = separation_deg(place.ra_deg, place.dec_deg, ra_deg, 20.0)
    turned = separation_deg(place.ra_deg, place.dec_deg, ra_deg + 360, 20.0)
    assert here == pytest.approx(turned, abs=1e-10)


@given(places, st.lists(places, max_size=8), st.floats(0, 180))
def test_the_answer_is_the_minimum_over_all_within_the_radius(
    place: Place, candidates: list[Place], radius_deg: float
) -> None:
    def away_deg(other: Place) -> float:
        return separation_deg(place.ra_deg, place.dec_deg, other.ra_deg, other.dec_deg)

    found = nearest_within(place.ra_deg, place.dec_deg, candidates, radius_deg)
    inside = [away_deg(other) for other in candidates if away_deg(other) <= radius_deg]
    assert (None if found is None else away_deg(found)) == min(inside, default=None)
