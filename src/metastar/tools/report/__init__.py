"""`metastar report` and `metastar compare`."""
