"""What an attack is: lanes, losses and the registry."""
