"""Whole runs: training a recipe, and the self-test."""
