"""python -m conformance.faults"""

import sys

from . import main

sys.exit(main(sys.argv[1:]))
