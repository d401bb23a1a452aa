"""The networks: an encoder that is timm's own, a decoder to chroma resolution, a discriminator of patches."""
