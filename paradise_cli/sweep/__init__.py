"""A recipe at many settings: planned, run side by side, and judged as one frontier."""
