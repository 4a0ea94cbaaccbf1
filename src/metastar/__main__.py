"""`python -m metastar` is `metastar`."""

import sys

from metastar.main import main

sys.exit(main())
