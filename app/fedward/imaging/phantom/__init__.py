"""The phantom: thorax CT with lung nodules as real DICOM files, generated from a seed.

``plan`` decides who has which nodules; ``anatomy``, ``skeleton``, ``vessels`` and ``nodules`` draw one patient on a
``grid``; ``scanner`` blurs and adds noise; ``ct_image`` and ``truth`` write DICOM; ``hospital`` does it for all.
"""
