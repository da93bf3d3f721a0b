"""Which changes of an image count, and how they are drawn."""
