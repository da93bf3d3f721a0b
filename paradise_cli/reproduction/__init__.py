"""The paper's figures, each of any model that fits, with the numbers that they show."""
