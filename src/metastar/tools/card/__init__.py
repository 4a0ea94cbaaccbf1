"""`metastar data`."""
