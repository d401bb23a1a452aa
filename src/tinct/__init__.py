"""Learn visual features from unlabelled photographs by colouring them, and colour photographs."""
