"""What `paradise attack` reads and leaves: classifiers, images, files, card and pictures."""
