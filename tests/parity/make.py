"""Makes cases with the live reference, under `fixtures/`: those named on the command line, or all.

    "$(../../scripts/python-env.sh parity)" make.py [CASE...]
"""

import sys

from cases import CASES
from registry import FIXTURES

if __name__ == "__main__":
    for name in CASES.named(sys.argv[1:]):
        CASES.make(name, FIXTURES)
