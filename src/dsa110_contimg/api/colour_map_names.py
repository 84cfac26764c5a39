"""Names of the colour maps of pictures; the maps themselves need numpy and stand in ``batch.colour_maps``."""

from typing import Literal, get_args

MapName = Literal["dsa", "dsa_r", "gray", "gray_r", "viridis", "viridis_r"]
MAP_NAMES: tuple[str, ...] = get_args(MapName)
