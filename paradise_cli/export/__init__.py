"""A model as one file that other programs run, checked against ours."""
