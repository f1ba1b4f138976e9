"""Says where Python looks for modules first."""

import sys

print(sys.path[0])
