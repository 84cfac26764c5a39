"""Running sums over the flux densities of one source, each measurement looked at once.

An epoch counts when its flux density is known together with its uncertainty: the integrated flux density, or, where
that was not measured, the peak. Weights are 1/σ². With N epochs of flux density Iᵢ the sums give the two measures of
variability of Swinbank et al. (2015, Astronomy and Computing 11, 25, section 6):

* η = Σ wᵢ (Iᵢ − ξ)² / (N − 1) about the weighted mean ξ, a reduced χ²: is it more than noise?
* V = s / |Ī|, the sample standard deviation over the mean: by how much?

They are carried from epoch to epoch by the update of West (1979, Communications of the ACM 22, 532), which loses no
digits to cancellation where sums of squares would.
"""

import math
from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class Epoch:
    """One measurement, as it lies in the database."""

    mjd: float | None
    image_id: int | None
    flux_jy: float | None
    flux_err_jy: float | None
    peak_jyb: float | None
    peak_err_jyb: float | None

    @property
    def flux(self) -> tuple[float, float] | None:
        """Return flux density and uncertainty that belong together, Jy; None where one is not known."""
        value, error = (self.peak_jyb, self.peak_err_jyb) if self.flux_jy is None else (self.flux_jy, self.flux_err_jy)
        return None if value is None or error is None or error <= 0.0 else (value, error)


@dataclass(frozen=True, slots=True)
class FluxSums:
    """What the measurements of a source add up to; the names are those of the columns of ``sources``.

    Flux densities are in Jy, ``peak_flux_jy`` (the brightest peak) in Jy/beam, ``weight_sum`` in 1/Jy²,
    ``deviation_sum`` (squared deviations from the plain mean) in Jy².
    """

    detection_count: int = 0
    first_detected_mjd: float | None = None
    last_detected_mjd: float | None = None
    latest_image_id: int | None = None
    peak_flux_jy: float | None = None
    flux_count: int = 0
    min_flux_jy: float | None = None
    max_flux_jy: float | None = None
    mean_flux_jy: float | None = None
    deviation_sum: float | None = None
    weight_sum: float | None = None
    weighted_mean_jy: float | None = None
    chi_squared: float | None = None
    eta: float | None = None
    v: float | None = None

    def add(self, epoch: Epoch) -> Self:
        """Return the sums with one more measurement."""
        latest = (-math.inf if self.last_detected_mjd is None else self.last_detected_mjd, self.latest_image_id or 0)
        is_latest = epoch.mjd is not None and (epoch.mjd, epoch.image_id or 0) >= latest
        seen = replace(
            self,
            detection_count=self.detection_count + 1,
            first_detected_mjd=_least(self.first_detected_mjd, epoch.mjd),
            last_detected_mjd=_most(self.last_detected_mjd, epoch.mjd),
            latest_image_id=epoch.image_id if is_latest else self.latest_image_id,
            peak_flux_jy=_most(self.peak_flux_jy, epoch.peak_jyb),
        )
        return seen if epoch.flux is None else seen._add_flux(*epoch.flux)

    def _add_flux(self, flux: float, error: float) -> Self:
        weight = error**-2
        count, before = self.flux_count + 1, self.weight_sum or 0.0
        weights = before + weight
        mean = flux if self.mean_flux_jy is None else self.mean_flux_jy
        weighted = flux if self.weighted_mean_jy is None else self.weighted_mean_jy
        off, off_weighted = flux - mean, flux - weighted
        mean += off / count
        deviations = (self.deviation_sum or 0.0) + off * (flux - mean)
        chi_squared = (self.chi_squared or 0.0) + off_weighted * off_weighted * weight * (before / weights)
        several = count > 1
        return replace(
            self,
            flux_count=count,
            min_flux_jy=_least(self.min_flux_jy, flux),
            max_flux_jy=_most(self.max_flux_jy, flux),
            mean_flux_jy=mean,
            deviation_sum=deviations,
            weight_sum=weights,
            weighted_mean_jy=weighted + off_weighted * weight / weights,
            chi_squared=chi_squared,
            eta=chi_squared / (count - 1) if several else None,
            v=math.sqrt(deviations / (count - 1)) / abs(mean) if several and mean else None,
        )


def _least(known: float | None, new: float | None) -> float | None:
    return known if new is None else new if known is None else min(known, new)


def _most(known: float | None, new: float | None) -> float | None:
    return known if new is None else new if known is None else max(known, new)


def chance_of_chi_squared(chi_squared: float, degrees: int) -> float:
    """Return the probability that noise alone gives a χ² of this many degrees of freedom or a larger one.

    By the cube root of Wilson and Hilferty (1931, PNAS 17, 684): within 1 % at one chance in a hundred from three
    degrees on, and within a sixth at one in a thousand even with one.
    """
    width = 2.0 / (9.0 * degrees)
    deviates = ((chi_squared / degrees) ** (1.0 / 3.0) - (1.0 - width)) / math.sqrt(width)
    return math.erfc(deviates / math.sqrt(2.0)) / 2.0
