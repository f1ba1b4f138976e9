"""Starts a process of its own, says which, and waits for ever."""

import os
import subprocess
import time

child = subprocess.Popen(["sleep", "1000"])
print("pids", os.getpid(), child.pid, flush=True)
time.sleep(1000)
