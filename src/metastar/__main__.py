"""`metastar`, and `python -m metastar`: the command line, from the first import on."""

import sys


def run() -> int:
    """Runs the command line; a signal that comes before it sees to them is no traceback either."""
    try:
        from metastar.main import main
    except KeyboardInterrupt:
        print("metastar: interrupted", file=sys.stderr)
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(run())
