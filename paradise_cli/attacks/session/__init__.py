"""One classifier under attack: what is known of it, what was tried and what broke."""
