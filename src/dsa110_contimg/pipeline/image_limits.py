"""What an image may be: bounds that whoever orders one can know without the imager."""

MIN_PIXELS = 64  # a side
MAX_PIXELS = 8192  # a side; 270 MB an image
MIN_CELL_ARCSEC = 2.5  # the field, all of which is imaged, is up to 4.9 degrees a side: 7,000 such pixels
MAX_CELL_ARCSEC = 600.0  # ten times the synthesised beam: nothing is left to see
MAX_FIELD_DEG = 20.0  # a side; the primary beam is below a hundredth long before
MAX_MINOR_ITERATIONS = 1_000_000  # fifty times what an observation needs
