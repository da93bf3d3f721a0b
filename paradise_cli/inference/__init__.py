"""Trained models at work: loading, reading images, encoding and prediction."""
