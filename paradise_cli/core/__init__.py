"""What every room stands on: errors, files, randomness, the machine and its processes."""
