"""Reads the orders as a client does."""

import json
import sys
from urllib.request import urlopen

assert len(json.load(urlopen(f"{sys.argv[1]}/orders"))["orders"]) == 51
