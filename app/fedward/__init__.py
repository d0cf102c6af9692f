"""fedward: the hospital application. It reads, trains, protects, infers and reports; it knows nothing of NVFLARE."""

__version__ = "0.1.0"
