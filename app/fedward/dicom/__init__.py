"""From files to volumes: a strict reader of the hospital's own DICOM and NIfTI, and of the labels that belong to it."""
