"""How good a model is: accuracy, distortion and rate, with intervals."""
