"""From a colorizer's coarse colours to pictures and films at full size."""
