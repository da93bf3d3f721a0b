"""The cards of the zoo, and where a model's files are: packaged, in the cache, on the Hub."""
