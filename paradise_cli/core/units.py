"""Nats, in which everything is computed, as bits."""

import math

BITS = 1 / math.log(2)  # of a nat
