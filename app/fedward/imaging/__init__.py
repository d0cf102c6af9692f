"""From volumes to what a network sees: cases, splits, grids, patches, the cache; and the phantom."""
