"""What training minimises: D + alpha R."""
