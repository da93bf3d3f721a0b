"""The one loop and what it must remember."""
