"""`metastar bench`."""
