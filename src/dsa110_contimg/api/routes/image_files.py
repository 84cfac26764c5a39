"""The files of images: FITS, pictures, parts, archives, and what the header and the pixels say."""

from typing import Annotated, Any, get_args

from fastapi import Query, Request, Response
from pydantic import BeforeValidator

from dsa110_contimg.api import schemas
from dsa110_contimg.api.archive import ArchiveFormat
from dsa110_contimg.api.archive_reply import ArchiveReply
from dsa110_contimg.api.authorization import ScopedRoute, require_scope
from dsa110_contimg.api.departure import unless_left
from dsa110_contimg.api.dependencies import ImageFiles
from dsa110_contimg.api.exceptions import ValidationError
from dsa110_contimg.api.file_reply import FileReply
from dsa110_contimg.api.picture_wish import (
    LARGEST_SIDE,
    MEDIA_TYPES,
    SMALLEST_SIDE,
    USUAL_SIDE,
    ColourMap,
    CutoutFormat,
    CutoutUnit,
    CutoutWish,
    PictureFormat,
    PictureScale,
    PictureWish,
)
from dsa110_contimg.api.replies import file_responses, json_reply, tagged_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.validation import ImageId

router = router_of("/images", "images", ScopedRoute)

_KEPT = "private, no-cache"
_MOST_IDS = 100
_IDS = Query(max_length=2100, description=f"ids of images with commas between, at most {_MOST_IDS}")
_ARCHIVE = file_responses("application/zip", "application/gzip")
_FITS = file_responses("application/fits", ranges=True)
_PICTURE = file_responses("image/png", ranges=True)
_CUTOUT = file_responses(*MEDIA_TYPES.values())
_ANIMATION = file_responses("image/gif")

Side = Annotated[int, Query(ge=SMALLEST_SIDE, le=LARGEST_SIDE, description="longest side, pixels")]
Plane = Annotated[int, Query(ge=0, le=10**6, description="plane of a cube, from 0")]
Quality = Annotated[int, Query(ge=1, le=100, description="of jpg and webp; png loses nothing")]


def _one_of(words: Any, name: str) -> BeforeValidator:
    """Refuse any other word with 400, as earlier clients know it, and not with 422 like the framework."""

    def known(word: Any) -> Any:
        if word not in get_args(words):
            message = f"{name}={str(word)[:60]!r} is none; write one of {', '.join(get_args(words))}"
            raise ValidationError(message, name, str(word)[:60])
        return word

    return BeforeValidator(known)


Unit = Annotated[CutoutUnit, _one_of(CutoutUnit, "unit")]
Form = Annotated[CutoutFormat, _one_of(CutoutFormat, "format")]
Angle = Annotated[float, Query(gt=0, le=360 * 3600, allow_inf_nan=False)]


# --- archives: before the routes with {image_id} ------------------------------------------------------------------


@router.get("/bulk-download", response_class=Response, responses=_ARCHIVE)
async def download_images(service: ImageFiles, ids: Annotated[str, _IDS], format: ArchiveFormat = "zip") -> Response:
    """Download the FITS files of several images as one archive; ``X-Not-Included`` names ids without a file."""
    wanted = [part.strip() for part in ids.split(",") if part.strip()]
    if not 1 <= len(wanted) <= _MOST_IDS:
        raise ValidationError(f"ids names {len(wanted)} images; give 1 to {_MOST_IDS}", field="ids")
    return ArchiveReply("images", format, *await service.members(wanted))


@router.post(
    "/bulk-download", response_class=Response, responses=_ARCHIVE, dependencies=[require_scope("read")],
)  # fmt: skip
async def download_listed_images(service: ImageFiles, wanted: schemas.BulkDownload) -> Response:
    """Download the FITS files of several images as one archive: the same as GET, for long lists."""
    return ArchiveReply("images", wanted.format, *await service.members(wanted.image_ids))


# --- one image ----------------------------------------------------------------------------------------------------


@router.get("/{image_id}/fits", response_class=Response, responses=_FITS)
async def get_image_fits(image_id: ImageId, service: ImageFiles) -> Response:
    """Download the FITS file of an image; ``Range`` and ``If-None-Match`` are honoured."""
    return FileReply(await service.open_fits(image_id), "application/fits", _KEPT, attachment=True)


@router.get("/{image_id}/thumbnail", response_class=Response, responses=_PICTURE)
async def get_image_thumbnail(image_id: ImageId, service: ImageFiles, size: Side = USUAL_SIDE) -> Response:
    """Return a small picture of an image: PNG, north up, east left, blank pixels transparent."""
    return FileReply(await service.open_picture(image_id, PictureWish(side=size)), "image/png", _KEPT)


@router.get("/{image_id}/png", response_class=Response, responses=_PICTURE)
async def get_image_png(
    image_id: ImageId, service: ImageFiles, colormap: ColourMap = "gray", scale: PictureScale = "linear",
    quality: Quality = 90, size: Side = LARGEST_SIDE, plane: Plane = 0, beam: bool = True,
) -> Response:  # fmt: skip
    """Return a picture of an image as wanted; ``quality`` is taken and changes nothing, as PNG loses nothing."""
    wish = PictureWish(size, colormap, scale, "png", 90, plane, beam)
    return FileReply(await service.open_picture(image_id, wish), "image/png", _KEPT)


@router.get("/{image_id}/cutout", response_class=Response, responses=_CUTOUT)
async def get_image_cutout(
    request: Request, image_id: ImageId, service: ImageFiles,
    ra: Annotated[float, Query(ge=-360, le=360, allow_inf_nan=False, description="centre, ICRS, deg")],
    dec: Annotated[float, Query(ge=-90, le=90, allow_inf_nan=False, description="centre, ICRS, deg")],
    width: Angle = 60.0, height: Angle = 60.0, unit: Unit = "arcsec", format: Form = "fits",
    colormap: ColourMap = "gray", scale: PictureScale = "linear", quality: Quality = 90, plane: Plane = 0,
) -> Response:  # fmt: skip
    """Return the part of an image around a position, as FITS with right coordinates or as a picture."""
    drawn: PictureFormat = "png" if format == "fits" else format
    wish = PictureWish(LARGEST_SIDE, colormap, scale, drawn, quality, plane, beam=False)
    part = CutoutWish(ra, dec, width, height, unit, format)
    async with service.opened(image_id) as file:
        content = await unless_left(request, service.thumbnails.cutout_of(file, part, wish))
    headers = {
        "Content-Disposition": f'attachment; filename="cutout-{image_id.strip()}.{format}"',
        "Cache-Control": _KEPT,
    }
    return tagged_reply(content, MEDIA_TYPES[format], headers)


@router.get("/{image_id}/animation", response_class=Response, responses=_ANIMATION)
async def get_image_animation(
    request: Request, image_id: ImageId, service: ImageFiles, frames: Annotated[int, Query(ge=2, le=50)] = 10,
    fps: Annotated[int, Query(ge=1, le=10)] = 2, size: Side = USUAL_SIDE, colormap: ColourMap = "dsa",
    scale: PictureScale = "asinh",
) -> Response:  # fmt: skip
    """Return a GIF of the planes of a cube; of one plane, the image in turn with the others of its field and pixels.

    Another image whose file is gone or cannot be read is left out.
    """
    wish = PictureWish(size, colormap, scale, beam=False)
    async with service.opened_field(image_id, frames) as files:
        drawn = await unless_left(request, service.thumbnails.animation_of(files, wish, frames, fps))
    return tagged_reply(drawn, "image/gif", {"Cache-Control": _KEPT})


@router.get("/{image_id}/header", response_model=schemas.FitsHeader)
async def get_image_header(request: Request, image_id: ImageId, service: ImageFiles) -> Response:
    """Return what the FITS header says: axes, unit, beam, frequency, Stokes parameters, all cards."""
    async with service.opened(image_id) as file:
        return json_reply(await unless_left(request, service.fits.header(file)))


@router.get("/{image_id}/validation", response_model=schemas.FitsValidation)
async def get_image_validation(request: Request, image_id: ImageId, service: ImageFiles) -> Response:
    """Return whether the FITS file keeps the standard, and what is wrong with it."""
    async with service.opened(image_id) as file:
        return json_reply(await unless_left(request, service.fits.validation(file)))


@router.get("/{image_id}/statistics", response_model=schemas.FitsStatistics)
async def get_image_statistics(request: Request, image_id: ImageId, service: ImageFiles, plane: Plane = 0) -> Response:
    """Return extremes, mean, median and noise of a plane, in the unit of the image."""
    async with service.opened(image_id) as file:
        return json_reply(await unless_left(request, service.fits.statistics(file, plane)))


@router.get("/{image_id}/slice", response_model=schemas.FitsSlice)
async def get_image_slice(
    request: Request, image_id: ImageId, service: ImageFiles, x: Annotated[int, Query(ge=0, le=10**6)] = 0,
    y: Annotated[int, Query(ge=0, le=10**6)] = 0, width: Annotated[int, Query(ge=1, le=256)] = 32,
    height: Annotated[int, Query(ge=1, le=256)] = 32, plane: Plane = 0,
) -> Response:  # fmt: skip
    """Return the pixels of a rectangle, rows from the south, columns counted from 0."""
    async with service.opened(image_id) as file:
        return json_reply(await unless_left(request, service.fits.slice(file, plane, x, y, width, height)))
