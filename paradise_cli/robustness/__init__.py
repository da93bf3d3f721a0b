"""What `paradise attack` reads and leaves: targets, files, card and pictures."""
