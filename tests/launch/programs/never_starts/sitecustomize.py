"""Python runs this first: process 1 does not come any further."""

import os
import time

if os.environ.get("GRAPHSTATE_LAUNCH_PROCESS") == "1":
    if "NEVER_STARTS" in os.environ:
        os._exit(0)
    time.sleep(1000)
