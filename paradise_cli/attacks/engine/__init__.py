"""Runs attacks on classifiers, in full batches of one shape."""
