"""Types of command-line arguments; each raises `ArgumentTypeError` for another text."""

import argparse
import re

from metastar.errors import brief


def whole_number(text: str) -> int:
    """A whole number in digits 0 to 9 only, of which no sensible one has more than nine."""
    if not re.fullmatch("-?[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{brief(text)} is no whole number below 1,000,000,000")
    return int(text)


def minutes(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def count(text: str) -> int:
    """A whole number above 0."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
