"""Jobs that RQ workers run, called by name with JSON values."""

import asyncio

from dsa110_contimg.api.config import get_config
from dsa110_contimg.api.file_access import FileStore
from dsa110_contimg.api.picture_wish import PictureWish
from dsa110_contimg.api.services.limited_child import LimitedChild
from dsa110_contimg.api.services.picture_store import PictureStore
from dsa110_contimg.api.services.thumbnail_service import ThumbnailService


def make_thumbnail(image_path: str) -> str:
    """Make the picture of an image, where the API looks for it; return its file name.

    Raises
    ------
    FileNotAccessibleError
        The image may not be read or is not there.
    FITSParsingError
        No picture can be made of it.
    """
    paths = get_config().paths
    service = ThumbnailService(PictureStore(paths.state_dir / "thumbnails"), LimitedChild())
    image = FileStore(paths.served_roots).open(image_path)
    try:
        picture = asyncio.run(service.picture_of(image, PictureWish()))
    finally:
        image.close()
    picture.close()
    return picture.name
