"""The site database: what the hospital must remember."""
