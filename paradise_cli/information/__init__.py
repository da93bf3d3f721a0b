"""Posteriors, rates and their exact values."""
