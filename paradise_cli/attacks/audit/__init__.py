"""Whether a measured robustness may be a mirage."""
