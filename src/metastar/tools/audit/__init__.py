"""`metastar audit`."""
