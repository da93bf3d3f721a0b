"""Two workers share two cores: each takes one, and terminals are plain."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ |= {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100"}
