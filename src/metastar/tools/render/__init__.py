"""`metastar render`."""
