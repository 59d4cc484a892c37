"""python -m wsgi_plus.simple_server"""

import sys

from ._command import main

if __name__ == "__main__":
    sys.exit(main())
