"""Runs supervisord so that it ends with the process that started it.

Usage: python -P daemon.py OWNER_PID [supervisord's arguments]
"""

import ctypes
import os
import signal
import sys

from supervisor.supervisord import main

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == int(sys.argv[1]):
        main(sys.argv[2:])
