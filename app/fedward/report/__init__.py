"""Findings in, documents out: JSON, HTML, DICOM SEG."""
