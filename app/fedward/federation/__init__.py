"""What hospitals and server do together, as pure values: no clock, no network, no file."""
