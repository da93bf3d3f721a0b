"""Rate-distortion functions of known sources."""
