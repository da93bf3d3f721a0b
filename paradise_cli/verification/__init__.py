"""Cards of models against the models: drafted, measured again, and compared in pairs."""
