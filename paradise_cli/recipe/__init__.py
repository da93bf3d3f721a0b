"""Recipes: their schema, how a file is read, and how it is checked."""
