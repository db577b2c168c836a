"""ImageNet VID, and DET's still images, in their official layout."""
