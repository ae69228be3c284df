"""Networks: backbones, the segmenter, the discriminator, and weights from files."""
