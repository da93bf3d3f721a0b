"""The paper's claims: checked by what was trained and measured, and kept with every result."""
