"""Python runs this first: process 1 does not come any further."""

import os
import time

if os.environ.get("GRAPHSTATE_LAUNCH_PROCESS") == "1":
    time.sleep(1000)
