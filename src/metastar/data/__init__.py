"""Data sets: files on disk, arrays on the device, and the draws an update makes from them."""
